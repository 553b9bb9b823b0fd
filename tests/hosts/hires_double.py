"""Gives the miniature host a second, larger pass, as A1111's hires fix makes it: with conds of its own, which are made
after an extension may have changed those of the first pass.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch.nn.functional as F
from torch import Tensor

SCALE = 1.5


def add_hires_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    from modules import processing

    Job = processing.StableDiffusionProcessingTxt2Img
    one_pass = Job.sample

    def sample(self: Any, conditioning: Any, unconditional_conditioning: Any, **batch: Any) -> Tensor:
        low = one_pass(self, conditioning, unconditional_conditioning, **batch)
        self.is_hr_pass, rng = True, self.rng
        self.setup_conds()
        self.rng = processing.devices.ImageRNG(tuple(F.interpolate(low, scale_factor=SCALE).shape[1:]), self.seeds)
        try:
            return one_pass(self, self.c, self.uc, **batch)
        finally:
            self.is_hr_pass, self.rng = False, rng

    monkeypatch.setattr(Job, "sample", sample)
