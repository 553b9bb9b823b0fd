"""The plan of a request: its identity lines, their persons, and how the lines are fused."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..adapters.attention import AdapterInjection
from ..adapters.features import Features
from ..adapters.projections import project_identity
from ..adapters.registry import LoadedAdapter
from ..errors import BeyondFacialError
from ..faces.aggregate import Identity
from ..faces.face import Face
from ..method.mask import MaskPolicy, choose_mask_policy
from ..method.predictions import AttentionReadings
from ..method.start_noise import Box
from ..settings import Settings
from ..settings.parameters import MethodParameters
from ..unet.injection import Attached, Injection, check_fired
from ..unet.rows import LineRows
from ..unet.sites import AttentionSite
from .start_noise import find_head_boxes

PERSON = "person"
GRID = 64  # px: UNets halve a crop's latents three times


@dataclass(frozen=True, eq=False)
class IdentityLine:
    """One identity line: its persons, and what it adds to the UNet.

    name: unique in the plan; not a name that the host adapters use for their own rows.
    persons: one for the whole batch, or one for each picture.
    injections: attached together, in this order.
    weight: their strength; at 0 the line never runs.
    prompt: template of the line's prompt; "{prompt}" stands for the picture's.
    follows_gender: whether the prompt's generic person words are changed to the person's gender.
    subject: the words of the prompt for this person; "": all its person words.
    position: of this person's head, 1 for the leftmost and so on; 0: by attention to the subject's words.
    label: what messages call the person.
    """

    name: str
    persons: tuple[Identity, ...]
    injections: tuple[Injection, ...]
    weight: float = 1.0
    prompt: str = "{prompt}"
    follows_gender: bool = False
    subject: str = ""
    position: int = 0
    label: str = "the person"

    def person_of(self, image: int) -> Identity:
        """The person of this line in one picture of the batch."""
        return self.persons[image if len(self.persons) > 1 else 0]

    @contextmanager
    def attached(
        self, sites: Sequence[AttentionSite], where: LineRows, scale: float = 1.0
    ) -> Iterator[list[Attached]]:
        """Add the identity, times weight times scale, to these rows of the UNet call made inside the context; it must
        reach at least one site."""
        weight = self.weight * scale
        with ExitStack() as scope:
            attached = [scope.enter_context(each.attached(sites, where, weight)) for each in self.injections]
            yield attached
        check_fired(attached)


@dataclass(frozen=True, eq=False)
class Plan:
    """The plan of one request.

    find_faces: finds the faces of an RGB uint8 picture, for the head refinement.
    mask_policy: creates the mask policy of one pass.
    find_boxes: (readings of the look-ahead, batch, size of the latents) -> where each picture's start gets the head.
    """

    parameters: MethodParameters
    lines: tuple[IdentityLine, ...]
    find_faces: Callable[[np.ndarray], list[Face]]
    mask_policy: Callable[[MethodParameters], MaskPolicy] = choose_mask_policy
    find_boxes: Callable[[AttentionReadings, int, tuple[int, int]], list[Box]] = find_head_boxes

    @property
    def drawn(self) -> tuple[IdentityLine, ...]:
        """The lines that run; those of weight 0 only keep their heads from the others."""
        return tuple(line for line in self.lines if line.weight > 0)

    @property
    def can_act(self) -> bool:
        """Whether the settings let the identity act at all."""
        p = self.parameters
        return p.mask_strength > 0 and p.start < p.stop and bool(self.drawn)

    @property
    def refines(self) -> bool:
        """Whether heads are refined; not if the mask is whole, since the identity is everywhere then."""
        return self.parameters.refine_head and self.parameters.mask_mode == "adaptive"

    def refine_size(self, native_side: int) -> int:
        """The side in px of enlarged heads; by default the model's training size, as others give distorted heads."""
        side = self.parameters.refine_size or native_side
        return max(GRID, side - side % GRID)


def make_line(
    settings: Settings,
    persons: tuple[Identity, ...],
    adapter: LoadedAdapter,
    features: Sequence[Features],
) -> IdentityLine:
    """Make an identity line from the settings, for one person or for one person a picture.

    features: for each person, the features named in adapter.spec.features.
    """
    tokens = [project_identity(adapter.spec, adapter.weights, each, settings.clip_weight) for each in features]
    return make_line_of(settings, persons, AdapterInjection(adapter, torch.cat(tokens)))


def make_line_of(settings: Settings, persons: tuple[Identity, ...], injection: Injection) -> IdentityLine:
    """Make an identity line from the settings, for persons whom this injection draws."""
    return IdentityLine(
        name=PERSON,
        persons=persons,
        injections=(injection,),
        weight=settings.weight,
        prompt=settings.id_prompt or "{prompt}",
        follows_gender=settings.gender_alignment == "follow photo",
        subject=settings.subject,
    )


def refuse_host_nan(prediction: Tensor, sigma: float) -> None:
    """BeyondFacialError where what the host's model predicts without an identity is not finite."""
    if not torch.isfinite(prediction).all():
        raise BeyondFacialError(
            f"BeyondFacial: the model itself gave NaN at noise level {sigma:.3g}, without the identity; run it in "
            "full precision (--no-half), or choose another checkpoint."
        )


def refuse_nan(prediction: Tensor, sigma: float) -> None:
    """BeyondFacialError if an identity line's prediction is not finite."""
    if not torch.isfinite(prediction).all():
        raise BeyondFacialError(
            f"BeyondFacial: the identity line gave NaN at noise level {sigma:.3g}; lower the identity weight, "
            "or run the model in full precision (--no-half)."
        )
