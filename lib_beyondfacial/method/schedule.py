"""The position of a noise level in its sampling pass, and how noise is added (docs/method.md section 1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from torch import Tensor


@dataclass(frozen=True)
class Schedule:
    """The noise levels of one pass, descending, without the final zero; model calls are never counted."""

    levels: tuple[float, ...]

    @classmethod
    def from_levels(cls, levels: Sequence[float], first: float | None = None) -> Schedule:
        """Sort the host's levels, without duplicates; with `first`, drop those above the level the pass starts at."""
        kept = sorted({float(v) for v in levels if v >= 0}, reverse=True)
        if first is not None:
            kept = [v for v in kept if v <= first * (1 + 1e-3) + 1e-6]
        if len(kept) > 1 and kept[-1] <= 0:
            kept.pop()
        return cls(tuple(kept) or (float(first or 1.0),))

    def position(self, level: float) -> float:
        """The rank of a level in the pass, interpolated between its levels: 0 is the first, n - 1 the last."""
        ascending = self.levels[::-1]
        return float(len(ascending) - 1 - np.interp(level, ascending, range(len(ascending))))

    def in_window(self, level: float, start: float, stop: float) -> bool:
        """Whether the level's share of the pass lies in the half-open window [start, stop)."""
        share = (self.position(level) + 1e-4) / len(self.levels)
        return start <= share < stop


class NoiseLaw(Protocol):
    """How noise is added to a model's latents: all that depends on its parametrisation."""

    def noised(self, x0: Tensor, noise: Tensor, sigma: float) -> Tensor:
        """The latents at this level, of unit-variance noise."""
        ...

    def refine_sigmas(self) -> list[float]:
        """The levels of the head refinement, down to 0 (docs/method.md eq. 13)."""
        ...
