"""What the lines of one noise level predicted, and what attention said about them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True)
class AttentionReadings:
    """What attention said about one line's person, per site (B, n).

    head: margins of the head words; subject: margins of the words that mean the person; energy: of the identity line.
    """

    head: list[Tensor] = field(default_factory=list)
    subject: list[Tensor] = field(default_factory=list)
    energy: list[Tensor] = field(default_factory=list)


@dataclass(frozen=True)
class Predictions:
    """The x0 predictions of one noise level, (B, C, H, W), before CFG.

    semantic: the host's own cond line, AND parts composed; identity: by line; readings: by line.
    uncond: None where the host computed no unconditional row.
    """

    semantic: Tensor
    identity: Mapping[str, Tensor]
    readings: Mapping[str, AttentionReadings]
    uncond: Tensor | None = None

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the latents."""
        return self.semantic.shape[-2], self.semantic.shape[-1]
