"""What a run is asked to do, and what it has to tell afterwards."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from ..adapters.projections import project_identity

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..adapters.features import Features
    from ..adapters.registry import LoadedAdapter
    from ..faces.aggregate import Identity
    from ..faces.face import Face
    from ..settings import Settings


@dataclass(frozen=True, eq=False)
class RunPlan:
    """One request: checked settings, the person, the adapter, the person as the adapter's tokens (1, T, C), and what
    finds the faces of an RGB uint8 picture for the closer look."""

    settings: Settings
    identity: Identity
    adapter: LoadedAdapter
    tokens: Tensor
    find_faces: Callable[[np.ndarray], list[Face]]


def make_plan(
    settings: Settings,
    identity: Identity,
    adapter: LoadedAdapter,
    find_faces: Callable[[np.ndarray], list[Face]],
    features: Features,
) -> RunPlan:
    """The plan with the person as this adapter's tokens; features: those of adapter.spec.features."""
    tokens = project_identity(adapter.spec, adapter.weights, features, settings.clip_weight)
    return RunPlan(settings, identity, adapter, tokens, find_faces)


@dataclass(eq=False)
class RunHandle:
    """What a run tells: of the batch sampled last, per image; warnings of the whole request.

    masks: (h, w) float32 in [0, 1] in latent px, the mask of the last fused level; zeros where none was fused.
    coverage: mean of each mask.
    boxes: where the start was edited, (x0, y0, x1, y1) in shares of the picture; empty without.
    identity_rows: UNet rows that the identity cost so far.
    """

    plan: RunPlan
    masks: list[np.ndarray] = field(default_factory=list)
    boxes: list[tuple[float, float, float, float]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    identity_rows: int = 0

    @property
    def coverage(self) -> list[float]:
        return [float(mask.mean()) for mask in self.masks]

    def warn(self, sentence: str) -> None:
        if sentence not in self.warnings:
            self.warnings.append(sentence)
