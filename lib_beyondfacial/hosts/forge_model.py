"""What the seam asks of a Forge's loaded model, by what is there and not by version: Forge, reForge, Classic, Neo.

`backend` is Forge's and Neo's package, `ldm_patched` with `modules_forge.forge_sampler` reForge's and Classic's.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import BeyondFacialError

MAX_SIGMA = 100.0  # a start of finite noise; SD's own ends at 14.6, zero-terminal-SNR schedules in the thousands
UNFIT = {"is_sd3": "an SD3", "is_sd2": "an SD2", "is_flux": "a Flux"}


def unet_of(p: Any) -> torch.nn.Module:
    return p.sd_model.forge_objects.unet.model.diffusion_model


def refuse_unfit(p: Any) -> None:
    """BeyondFacialError in words for models that the method does not serve; the UNet's sites tell the rest."""
    for flag, kind in UNFIT.items():
        if getattr(p.sd_model, flag, False):
            raise BeyondFacialError(
                f"BeyondFacial works with SD1.5 and SDXL models; this is {kind} model. Choose another checkpoint."
            )
    if getattr(p.sd_model, "cond_stage_key", "") == "edit":
        raise BeyondFacialError(
            "BeyondFacial does not work with instruct-pix2pix models; choose an ordinary checkpoint."
        )


def sigmas_of(p: Any) -> Tensor:
    """The model's own noise levels, ascending: one a timestep."""
    model = p.sd_model.forge_objects.unet.model
    return (getattr(model, "predictor", None) or model.model_sampling).sigmas.detach().float().cpu()


def levels_to_sigmas(p: Any, timesteps: Tensor) -> list[float]:
    """Timestep samplers of this family hand their model sigmas all the same."""
    sigmas = sigmas_of(p)
    return sigmas[timesteps.cpu().float().round().long().clip(0, len(sigmas) - 1)].tolist()


def starts_from_noise(p: Any) -> bool:
    """txt2img's first pass, on a model whose start is noise of finite sigma."""
    from modules import processing

    if not isinstance(p, processing.StableDiffusionProcessingTxt2Img) or getattr(p, "is_hr_pass", False):
        return False
    return float(sigmas_of(p)[-1]) < MAX_SIGMA


def compile_cond(cond: Any) -> dict[str, Any]:
    """An encoded prompt as the host's sampler takes it."""
    try:
        from backend.sampling.condition import compile_conditions as compiled
    except ImportError:
        from modules_forge.forge_sampler import cond_from_a1111_to_patched_ldm as compiled
    return compiled(cond)[0]


def host_sampling() -> tuple[Any, Any]:
    """The host's own model call with its memory check and ControlNets, and what loads the UNet before sampling."""
    try:
        from backend.sampling.sampling_function import calc_cond_uncond_batch, sampling_prepare
    except ImportError:
        from ldm_patched.modules.samplers import calc_cond_uncond_batch
        from modules_forge.forge_sampler import sampling_prepare
    return calc_cond_uncond_batch, sampling_prepare


def plain_condition(entry: dict[str, Any]) -> type:
    """The class of conditions that are just a tensor, by its children: it has one name on Forge, another elsewhere."""
    return type(entry["model_conds"]["c_crossattn"]).__mro__[-2]


def predict(p: Any, cond: Any, image_cond: Any, x: Tensor, sigma: Tensor) -> Tensor:
    """x0 of the semantic line for the latents `x` at `sigma`, through everything that is hung on the host's UNet."""
    unet = p.sd_model.forge_objects.unet
    entry = compile_cond(cond)
    concat = unet.extra_concat_condition if unet.extra_concat_condition is not None else image_cond
    if isinstance(concat, Tensor) and concat.shape[0] == x.shape[0] and concat.shape[2:] == x.shape[2:]:
        entry["model_conds"]["c_concat"] = plain_condition(entry)(concat)
    if unet.controlnet_linked_list is not None:
        entry["control"] = unet.controlnet_linked_list
    return predict_entries(p, [entry], x, sigma)


def predict_entries(p: Any, entries: list[dict[str, Any]], x: Tensor, sigma: Tensor) -> Tensor:
    """x0 of compiled conds, through everything that is hung on the host's UNet."""
    unet = p.sd_model.forge_objects.unet
    calc, _ = host_sampling()
    return calc(unet.model, entries, None, x, sigma, unet.model_options)[0]


def of_no_place(entry: dict[str, Any]) -> dict[str, Any]:
    """A compiled cond without what belongs to one picture's own places: ControlNets, areas, masks."""
    return {key: value for key, value in entry.items() if key not in ("control", "area", "mask", "mask_strength")}


def load_unet(p: Any, x: Tensor) -> None:
    """Bring the UNet back to where it samples, should another network have pushed it out."""
    unet = p.sd_model.forge_objects.unet
    along = list(unet.extra_model_patchers_during_sampling)
    host_sampling()[1](unet, x)
    unet.extra_model_patchers_during_sampling = along  # the hosts append the ControlNets' at every call


def extra_memory(unet: Any, noise: Tensor, rows: int) -> int:
    """Bytes that `rows` more rows want, by the host's own estimate; it asks itself for two a picture."""
    shape = list(noise.shape[1:])
    plain, more = 2 * noise.shape[0], 2 * noise.shape[0] + rows
    return max(0, int(unet.memory_required([more, *shape]) - unet.memory_required([plain, *shape])))


def encode_picture(p: Any, picture: np.ndarray) -> Tensor:
    """The scaled latent mean of an RGB uint8 picture: (C, h, w). Nothing is drawn from the host's generators."""
    return encode(p, torch.from_numpy(picture.copy()).float() / 255)


def encode(p: Any, picture: Tensor) -> Tensor:
    """The scaled latent mean of a picture (H, W, 3) in [0, 1]: (C, h, w). No generator of the host is drawn from."""
    objects = p.sd_model.forge_objects
    options = objects.vae.patcher.model_options
    before = options.get("model_vae_regulation")
    options["model_vae_regulation"] = lambda posterior: posterior.mode()
    try:
        # Tiled encoding does not ask for the regulation and samples; then at least from a generator of its own.
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)
            latent = objects.vae.encode(picture[None])
    finally:
        if before is None:
            del options["model_vae_regulation"]
        else:
            options["model_vae_regulation"] = before
    scale = getattr(objects.vae.first_stage_model, "process_in", None) or objects.unet.model.process_latent_in
    return scale(latent)[0].float()


def decode(p: Any, latents: Tensor) -> Tensor:
    """The picture (3, H, W) in [-1, 1] of scaled latents (1, C, h, w)."""
    with torch.no_grad():
        return p.sd_model.decode_first_stage(latents)[0].clone()
