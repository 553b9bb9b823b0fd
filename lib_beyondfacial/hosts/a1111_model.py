"""What the seam asks of A1111's loaded model: its UNet, its text encoder, its VAE, its spaces. Reads only."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import BeyondFacialError

HEAD, PERSON = "head", "person"
HEAD_WORDS = ("face", "hair", "eyes")
# What the head words are judged against: words of no part of a person. dollhouse: with scenery among them the head is
# found in 93% of the pictures, with articles and prepositions alone in a third.
REFERENCE_WORDS = ("the", "in", "at", "of", "a", "photo", "shot", "body", "forest", "city", "beach", "night", "snow")
PERSON_WORDS = frozenset({
    "person", "man", "woman", "boy", "girl", "guy", "lady", "child", "kid", "people", "human", "knight",
    "king", "queen", "prince", "princess", "warrior", "soldier", "wizard", "witch", "monk", "nun", "pirate",
    "hero", "heroine", "astronaut", "dancer", "athlete", "runner", "singer", "actor", "actress", "model",
    "bride", "groom", "father", "mother",
})  # fmt: skip
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


def encode(p: Any, texts: list[str]) -> Any:
    """The host's own text encoding at the run's clip skip: a tensor (B, T, C), or SDXL's dict of it."""
    from modules import devices, prompt_parser

    conditioning = getattr(prompt_parser, "SdConditioning", None)
    asked = conditioning(texts, width=p.width, height=p.height) if conditioning else texts
    with torch.no_grad(), devices.autocast():
        return p.sd_model.get_learned_conditioning(asked)


def crossattn(cond: Any) -> Tensor:
    return cond["crossattn"] if isinstance(cond, dict) else cond


def probe_contexts(p: Any, subject: str) -> tuple[dict[str, Tensor], Tensor]:
    """The text encoder's output at the head words, at the prompt's person words (or the user's `subject`), and at the
    reference words: each word encoded by itself, so that only its meaning differs."""
    prompt = " ".join(getattr(p, "prompts", None) or [p.prompt])
    words = re.findall(r"[^\W\d_]+", subject or prompt)
    person = [w for w in dict.fromkeys(w.lower() for w in words) if subject or w in PERSON_WORDS]
    groups = {HEAD: list(HEAD_WORDS), PERSON: person}
    # One token a word: the one after the start token; longer words are told by their first piece.
    asked = {group: own for group, own in groups.items() if own} | {"": list(REFERENCE_WORDS)}
    encoded = crossattn(encode(p, [word for own in asked.values() for word in own]))[:, 1].detach()
    parts = dict(zip(asked, encoded.split([len(own) for own in asked.values()]), strict=True))
    return parts, parts.pop("")


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


def encode_picture(p: Any, picture: np.ndarray) -> Tensor:
    """The scaled latent mean of an RGB uint8 picture: (C, h, w). Nothing is sampled."""
    from modules import devices

    sd_model = p.sd_model
    x = torch.from_numpy(picture.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
    first = next(sd_model.first_stage_model.parameters())
    with torch.no_grad(), devices.without_autocast():
        posterior = sd_model.encode_first_stage(x.to(devices.device, first.dtype))
    mean = posterior.mode() if hasattr(posterior, "mode") else posterior
    return (sd_model.scale_factor * mean)[0].float()
