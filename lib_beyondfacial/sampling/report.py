"""What came of a request: of the batch sampled last, per picture; warnings and rows of the whole request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor


@dataclass(eq=False)
class Report:
    """What a request tells.

    masks: by line, the mask of the last fused level, (B, 1, h, w) fp32 in [0, 1]; empty where none was fused.
    refined: per picture, whether its head was refined.
    warnings: sentences, each once.
    identity_rows: UNet rows that the identity cost so far.
    """

    masks: Mapping[str, Tensor] = field(default_factory=dict)
    refined: tuple[bool, ...] = ()
    warnings: list[str] = field(default_factory=list)
    identity_rows: int = 0

    def warn(self, sentence: str) -> None:
        if sentence not in self.warnings:
            self.warnings.append(sentence)

    def begin_batch(self) -> None:
        """What belonged to the pictures of the batch before is gone."""
        self.masks, self.refined = {}, ()

    def mask_of(self, image: int) -> np.ndarray | None:
        """(h, w) float32, all lines' masks of a picture together; None where none was fused."""
        if not self.masks:
            return None
        together = torch.stack([mask[image, 0].float() for mask in self.masks.values()]).sum(0)
        return together.cpu().numpy()
