"""Passes that are no method of ours, for scale: the host's own hires pass, and a detailer's pass at the head.

Both follow a plain picture, with the share of the steps that the hosts' defaults give them.
"""

from __future__ import annotations

from contextlib import nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor

from bench.cost_models import HEAD, Model, loaded_model
from demo.sd1.solvers import CompVisDenoiser, euler
from lib_beyondfacial.sampling.plan import IdentityLine
from lib_beyondfacial.unet.rows import LineRows
from lib_beyondfacial.unet.sites import enumerate_sites

DETAILER_DENOISE = 0.4  # ADetailer's default
HIRES_DENOISE, HIRES_SCALE = 0.5, 1.5
DETAILER_PADDING = 32  # px around the face's box, ADetailer's default


def hires_pass(model: Model, steps: int, cfg_scale: float) -> Tensor:
    """Half of the steps at 1.5 times the size, from enlarged latents; the decoded picture."""
    latents = torch.zeros(1, 4, model.size.height // 8, model.size.width // 8)
    large = F.interpolate(latents, scale_factor=HIRES_SCALE, mode="bilinear")
    return decode(denoise(model, large, round(HIRES_DENOISE * steps), steps, cfg_scale, None))


def detailer_pass(model: Model, picture: Tensor, line: IdentityLine, steps: int, cfg_scale: float) -> Tensor:
    """The face and what is around it, enlarged to the model's native side, encoded, denoised with the adapter in the
    one line, decoded, pasted.

    Args:
        picture: (3, H, W) in [-1, 1], finished.
    """
    height, width = picture.shape[-2:]
    x0, y0 = (round(side * at) - DETAILER_PADDING for side, at in ((width, HEAD[0]), (height, HEAD[1])))
    x1, y1 = (round(side * at) + DETAILER_PADDING for side, at in ((width, HEAD[2]), (height, HEAD[3])))
    box = (slice(None), slice(max(y0, 0), y1), slice(max(x0, 0), x1))
    side = model.size.refine_size or model.size.native_side
    crop = F.interpolate(picture[box][None], (side, side), mode="bicubic")
    latents = loaded_model().scale_factor * loaded_model().encode_first_stage(crop).mode()
    drawn = decode(denoise(model, latents, round(DETAILER_DENOISE * steps), steps, cfg_scale, line))
    result = picture.clone()
    result[box] = F.interpolate(drawn, picture[box].shape[-2:], mode="bicubic", antialias=True)[0]
    return result


def denoise(model: Model, x0: Tensor, count: int, steps: int, cfg_scale: float, line: IdentityLine | None) -> Tensor:
    """Euler over the last `count` of `steps` levels, cond and uncond in one call; `line` acts on the cond row."""
    denoiser, sites = CompVisDenoiser(loaded_model()), enumerate_sites(model.unet)
    text = loaded_model().get_learned_conditioning(["close-up portrait, a photo", ""])
    sigmas = denoiser.get_sigmas(steps)[-(max(count, 1) + 1) :]

    def predict(x: Tensor, sigma: Tensor) -> Tensor:
        scope = line.attached(sites, LineRows(slice(1), (0,), (1.0,))) if line else nullcontext()
        with scope:
            out = denoiser(torch.cat([x, x]), sigma.repeat(2), cond={"c_crossattn": [text]})
        return out[1:] + cfg_scale * (out[:1] - out[1:])

    with torch.no_grad():
        noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(3))
        return euler(predict, x0 + sigmas[0] * noise, sigmas, lambda: noise, lambda state: None, 0.0)


def decode(latents: Tensor) -> Tensor:
    return loaded_model().decode_first_stage(latents).clamp(-1, 1)
