"""Results of a request: warnings and rows of the whole request, masks and heads of the batch sampled last."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from ..method.assignment import HeadBox
from ..method.head_details import DrawnHead


@dataclass(eq=False)
class Batch:
    """What the identity did in one batch, over all its passes; shortfalls.py reads it.

    steps: noise levels of the pass that was sampled last.
    in_window: whether the identity could act at any of these levels.
    had_guidance: whether the CFG scale was not 0 at one of them.
    acted: (B,) bool, the pictures that delta changed; None if no level was fused.
    looked_for_heads: whether the head refinement searched for heads. heads_found: by line, per picture, in any pass.
    explained: whether there is a warning already that says why the identity does not act.
    """

    steps: int = 0
    in_window: bool = False
    had_guidance: bool = False
    acted: Tensor | None = None
    looked_for_heads: bool = False
    heads_found: dict[str, tuple[bool, ...]] = field(default_factory=dict)
    explained: bool = False

    def note_level(self, delta: Tensor, guidance: float) -> None:
        """Record which pictures delta (B, C, H, W) changes at a level; CFG multiplies it by `guidance`."""
        self.had_guidance = self.had_guidance or guidance != 0
        changed = (delta != 0).flatten(1).any(1) & (guidance != 0)
        self.acted = changed if self.acted is None else self.acted | changed

    def note_heads(self, found: Mapping[str, tuple[bool, ...]]) -> None:
        """Record by line in which pictures its head was found so far; nothing if no search was possible."""
        self.looked_for_heads = True
        for line, in_pictures in found.items():
            known = self.heads_found.get(line, (False,) * len(in_pictures))
            self.heads_found[line] = tuple(a or b for a, b in zip(known, in_pictures, strict=False))

    def acted_on(self, image: int) -> bool:
        return self.acted is not None and image < len(self.acted) and bool(self.acted[image])

    def found_head(self, line: str, image: int) -> bool:
        found = self.heads_found.get(line, ())
        return image < len(found) and found[image]


@dataclass(eq=False)
class Report:
    """The results of a request.

    masks: by line, the mask of the last fused level, (B, 1, h, w) fp32 in [0, 1]; empty if none was fused.
    refined: by line, per picture, whether its head was refined; empty if none was searched for.
    heads: by picture of the batch and line, the box of its head in shares of the picture, if faces were searched for.
    drawn: by line and picture, the refined heads that the pass has held so far, until the batch's pictures have got
        their details.
    batch: what the identity did in the batch sampled last.
    warnings: sentences without repetition.
    identity_rows: UNet rows computed for the identity so far; identity_px: latent px summed over them.
    host_px: by pass, latent px summed over the host's own rows.
    """

    masks: Mapping[str, Tensor] = field(default_factory=dict)
    refined: Mapping[str, tuple[bool, ...]] = field(default_factory=dict)
    heads: dict[int, dict[str, HeadBox]] = field(default_factory=dict)
    drawn: dict[tuple[str, int], DrawnHead] = field(default_factory=dict)
    batch: Batch = field(default_factory=Batch)
    warnings: list[str] = field(default_factory=list)
    identity_rows: int = 0
    identity_px: int = 0
    host_px: dict[int, int] = field(default_factory=dict)
    passes: int = 0

    @property
    def cost(self) -> float | None:
        """The identity's rows in shares of the host's own, each by its area; None if nothing was fused."""
        return self.identity_px / sum(self.host_px.values()) if self.host_px else None

    def note_rows(self, rows: int, like: Tensor) -> None:
        """Count rows of the UNet for the identity, whose latents are as large as (..., H, W)."""
        self.identity_rows += rows
        self.identity_px += rows * like.shape[-2] * like.shape[-1]

    def note_host(self, rows: int, like: Tensor) -> None:
        """Record the host's own rows in this pass so far, for each picture of `like` (B, C, H, W)."""
        self.host_px[self.passes] = rows * len(like) * like.shape[-2] * like.shape[-1]

    def warn(self, sentence: str) -> None:
        if sentence not in self.warnings:
            self.warnings.append(sentence)

    def warn_not_acting(self, sentence: str) -> None:
        """Add a warning that says why the identity does not act in the rest of this batch."""
        self.batch.explained = True
        self.warn(sentence)

    def begin_pass(self, is_later: bool) -> None:
        """Clear the results of the previous pass, and those of the batch unless this is a later pass of it."""
        self.masks, self.refined, self.heads, self.drawn = {}, {}, {}, {}
        self.batch = self.batch if is_later else Batch()
        self.passes += 1

    def mask_of(self, image: int) -> np.ndarray | None:
        """The sum of all lines' masks of a picture, (h, w) float32; None if none was fused."""
        masks = [mask[image, 0].float() for mask in self.masks.values() if image < len(mask)]
        return torch.stack(masks).sum(0).cpu().numpy() if masks else None
