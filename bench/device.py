"""The embedded host, which is the CPU's, on another device: its model is moved, and what the host makes on the CPU
follows. Noise is drawn on the CPU as ever, so that the starts are the same everywhere."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def choose_device(asked: str = "auto") -> torch.device:
    """ "auto": the GPU where torch has one."""
    if asked == "auto":
        asked = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(asked)


def move_host(device: torch.device) -> None:
    """Move the booted host to a device, for good; the text encoder, which is small and cached, stays on the CPU.

    fp32 stays fp32: with TF32, which has 10 bits, pictures would not be those of the CPU.
    """
    from modules import devices, processing, shared
    from modules.rng import ImageRNG
    from modules.sd_samplers_timesteps import CompVisSampler

    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    model = shared.sd_model
    devices.device = shared.device = device
    model.model.to(device)
    model.first_stage_model.to(device)
    model.alphas_cumprod = model.alphas_cumprod.to(device)
    model.device = device
    encode = model.get_learned_conditioning
    model.get_learned_conditioning = lambda texts: encode(texts).to(device)
    job = processing.StableDiffusionProcessing
    job.cached_c[:] = job.cached_uc[:] = [None, None]  # they lie where they were made
    draw, timesteps = ImageRNG.next, CompVisSampler.get_timesteps

    def next_noise(self: Any) -> Tensor:
        return draw(self).to(device)

    def get_timesteps(self: Any, p: Any, steps: int) -> Tensor:
        return timesteps(self, p, steps).to(device)

    ImageRNG.next, CompVisSampler.get_timesteps = next_noise, get_timesteps
