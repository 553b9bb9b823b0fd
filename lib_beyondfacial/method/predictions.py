"""The predictions of the lines at one noise level, and the attention read during them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True)
class AttentionReadings:
    """The attention read for one line's person: one tensor (B, n) a site.

    head: margins of the head words; subject: margins of the words for the person; energy: norms of the identity's
    attention output.
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
