"""The host's own hires pass, for scale: half of the steps at 1.5 times the size, after a plain picture."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from bench.cost_models import Model, loaded_model
from demo.sd1.solvers import CompVisDenoiser, euler

DENOISE, SCALE = 0.5, 1.5


@torch.no_grad()
def hires_pass(model: Model, steps: int, cfg_scale: float) -> Tensor:
    """The decoded picture (1, 3, H, W); its latents are enlarged, cond and uncond are one call."""
    latents = torch.zeros(1, 4, model.size.height // 8, model.size.width // 8, device=model.device)
    large = F.interpolate(latents, scale_factor=SCALE, mode="bilinear")
    denoiser, text = CompVisDenoiser(loaded_model()), loaded_model().get_learned_conditioning(["a photo", ""])
    sigmas = denoiser.get_sigmas(steps)[-(round(DENOISE * steps) + 1) :]

    def predict(x: Tensor, sigma: Tensor) -> Tensor:
        out = denoiser(torch.cat([x, x]), sigma.repeat(2), cond={"c_crossattn": [text]})
        return out[1:] + cfg_scale * (out[:1] - out[1:])

    noise = torch.randn(large.shape, generator=torch.Generator().manual_seed(3)).to(large)
    x0 = euler(predict, large + sigmas[0] * noise, sigmas, lambda: noise, lambda state: None, 0.0)
    return loaded_model().decode_first_stage(x0)
