"""What the seam asks of A1111's loaded model: its UNet, its VAE, its spaces. Reads only."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import BeyondFacialError

ZERO_TERMINAL = 1e-4  # alphas_cumprod at the last timestep; SD's own ends at 0.0047


def unet_of(p: Any) -> torch.nn.Module:
    return p.sd_model.model.diffusion_model


def refuse_unfit(p: Any) -> None:
    """BeyondFacialError in words for models that the method does not serve."""
    sd_model = p.sd_model
    if getattr(sd_model, "is_sd3", False):
        raise BeyondFacialError(
            "BeyondFacial works with SD1.5 and SDXL models; this is an SD3 model. Choose another checkpoint."
        )
    if getattr(sd_model, "is_sd2", False):
        raise BeyondFacialError(
            "BeyondFacial works with SD1.5 and SDXL models; this is an SD2 model. Choose another checkpoint."
        )
    if getattr(sd_model, "cond_stage_key", "") == "edit":
        raise BeyondFacialError(
            "BeyondFacial does not work with instruct-pix2pix models; choose an ordinary checkpoint."
        )


def starts_from_noise(p: Any) -> bool:
    """txt2img's first pass, on a model whose start is noise of finite sigma."""
    from modules import processing

    if not isinstance(p, processing.StableDiffusionProcessingTxt2Img) or getattr(p, "is_hr_pass", False):
        return False
    return float(p.sd_model.alphas_cumprod[-1]) > ZERO_TERMINAL


def batches_cond_uncond() -> bool:
    from modules import shared

    return bool(shared.opts.batch_cond_uncond)


def cond_dict(cond: Any, image_cond: Tensor, start: int, stop: int) -> dict[str, Any]:
    """The cond argument of `inner_model` for some of the rows, as the host's denoiser builds it."""
    if isinstance(cond, dict):
        part = type(cond)({key: value[start:stop] for key, value in cond.items()})
        return {**part, "c_concat": [image_cond[start:stop]]}
    return {"c_crossattn": [cond[start:stop]], "c_concat": [image_cond[start:stop]]}


def prompt_weights(denoiser: Any, rows: int, batch: int) -> list[list[float]]:
    """Per image, the weights of its AND parts, in the order of the cond rows."""
    cond = denoiser.sampler.sampler_extra_args["cond"]
    weights = [[float(part.weight) for part in parts] for parts in cond.batch]
    if len(weights) != batch or sum(map(len, weights)) != rows:
        raise BeyondFacialError(
            f"BeyondFacial: another extension changed the number of cond rows ({rows} for {batch} images); "
            "switch off regional prompting or other row-adding extensions for this run."
        )
    return weights


def x0_per_prediction(denoiser: Any, level: float) -> float:
    """Factor from a difference of predictions to one of x0: 1 for k-diffusion samplers, -sigma for eps."""
    if not hasattr(denoiser.sampler, "get_timesteps"):
        return 1.0
    alphas = denoiser.p.sd_model.alphas_cumprod.float().cpu().numpy()
    log_sigma = 0.5 * (np.log1p(-alphas) - np.log(alphas))
    return -float(np.exp(np.interp(level, np.arange(len(alphas)), log_sigma)))


def cfg_scale(denoiser: Any) -> float:
    """By what the host multiplies cond - uncond; CFG++ samplers scale it down (the name's spelling is the host's)."""
    return float(denoiser.sampler.sampler_extra_args["cond_scale"]) * getattr(denoiser, "cond_scale_miltiplier", 1.0)


def sigma_of(denoiser: Any, level: float) -> float:
    """The noise level in sigmas, whatever the sampler counts in."""
    return level if not hasattr(denoiser.sampler, "get_timesteps") else -x0_per_prediction(denoiser, level)


def x0_of(denoiser: Any, level: float, x: Tensor, prediction: Tensor) -> Tensor:
    """x0 of a prediction for the latents `x` of the pass: itself, or from eps, whose samplers keep unit variance."""
    if not hasattr(denoiser.sampler, "get_timesteps"):
        return prediction
    sigma = sigma_of(denoiser, level)
    return (1 + sigma**2) ** 0.5 * x - sigma * prediction


def predict_x0(denoiser: Any, inner_model: Any, x: Tensor, sigma: float, cond: dict[str, Any]) -> Tensor:
    """x0 for latents x0 + sigma noise, by a model call of the pass's own kind."""
    if not hasattr(denoiser.sampler, "get_timesteps"):
        return inner_model(x, torch.full((len(x),), sigma, device=x.device, dtype=x.dtype), cond=cond)
    alphas = denoiser.p.sd_model.alphas_cumprod.float()
    nearest = (((1 - alphas) / alphas).log() - 2 * float(np.log(sigma))).abs().argmin()
    timesteps = nearest.to(x).expand(len(x))
    return x - sigma * inner_model(x / (1 + sigma**2) ** 0.5, timesteps, cond=cond)


def encode_picture(p: Any, picture: np.ndarray) -> Tensor:
    """The scaled latent mean of an RGB uint8 picture: (C, h, w)."""
    return encode(p, torch.from_numpy(picture.copy()).permute(2, 0, 1).float() / 127.5 - 1)


def encode(p: Any, picture: Tensor) -> Tensor:
    """The scaled latent mean of a picture (3, H, W) in [-1, 1]: (C, h, w) fp32. Nothing is sampled."""
    from modules import devices

    sd_model = p.sd_model
    first = next(sd_model.first_stage_model.parameters())
    with torch.no_grad(), devices.without_autocast():
        posterior = sd_model.encode_first_stage(picture[None].to(devices.device, first.dtype))
    mean = posterior.mode() if hasattr(posterior, "mode") else posterior
    return (sd_model.scale_factor * mean)[0].float()


def decode(p: Any, latents: Tensor) -> Tensor:
    """The picture (3, H, W) in about [-1, 1] of scaled latents (1, C, h, w)."""
    from modules import devices

    sd_model = p.sd_model
    first = next(sd_model.first_stage_model.parameters())
    with torch.no_grad(), devices.without_autocast():
        return sd_model.decode_first_stage(latents.to(first.dtype))[0]
