"""What came of a request: of the batch sampled last, per picture; warnings and rows of the whole request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor


@dataclass(eq=False)
class Batch:
    """What the identity did in one batch, over all of its passes; shortfalls.py judges it.

    passes: how many were prepared. steps: noise levels of the pass that was sampled last.
    in_window: whether any of them was one at which the identity may act. guided: whether CFG was other than 0 there.
    acted: (B,) bool, the pictures of which delta changed anything; None where no level was fused.
    looked_for_heads: whether the head refinement looked for heads. heads_found: per picture, in any pass.
    explained: whether a warning says already why the identity does not act.
    """

    passes: int = 0
    steps: int = 0
    in_window: bool = False
    guided: bool = False
    acted: Tensor | None = None
    looked_for_heads: bool = False
    heads_found: tuple[bool, ...] = ()
    explained: bool = False

    def note_level(self, delta: Tensor, guidance: float) -> None:
        """Remember what delta (B, C, H, W), behind CFG `guidance` times as large, changes at a level."""
        self.guided = self.guided or guidance != 0
        changed = (delta != 0).flatten(1).any(1) & (guidance != 0)
        self.acted = changed if self.acted is None else self.acted | changed

    def note_heads(self, found: tuple[bool, ...]) -> None:
        """Remember in which pictures a head was found by now; () where none could be looked for."""
        self.looked_for_heads = True
        known = self.heads_found or (False,) * len(found)
        self.heads_found = tuple(a or b for a, b in zip(known, found, strict=False)) or known

    def acted_on(self, image: int) -> bool:
        return self.acted is not None and image < len(self.acted) and bool(self.acted[image])

    def found_head(self, image: int) -> bool:
        return image < len(self.heads_found) and self.heads_found[image]


@dataclass(eq=False)
class Report:
    """What a request tells.

    masks: by line, the mask of the last fused level, (B, 1, h, w) fp32 in [0, 1]; empty where none was fused.
    refined: per picture, whether its head was refined.
    batch: what the identity did in the batch sampled last.
    warnings: sentences, each once.
    identity_rows: UNet rows that the identity cost so far.
    """

    masks: Mapping[str, Tensor] = field(default_factory=dict)
    refined: tuple[bool, ...] = ()
    batch: Batch = field(default_factory=Batch)
    warnings: list[str] = field(default_factory=list)
    identity_rows: int = 0

    def warn(self, sentence: str) -> None:
        if sentence not in self.warnings:
            self.warnings.append(sentence)

    def warn_not_acting(self, sentence: str) -> None:
        """Warn of what keeps the identity from acting in this batch, from now on."""
        self.batch.explained = True
        self.warn(sentence)

    def begin_pass(self, is_later: bool) -> None:
        """What belonged to the pass before is gone; what to the batch, too, unless this is a later pass of it."""
        self.masks, self.refined = {}, ()
        self.batch = self.batch if is_later else Batch()
        self.batch.passes += 1

    def mask_of(self, image: int) -> np.ndarray | None:
        """(h, w) float32, all lines' masks of a picture together; None where none was fused."""
        masks = [mask[image, 0].float() for mask in self.masks.values() if image < len(mask)]
        return torch.stack(masks).sum(0).cpu().numpy() if masks else None
