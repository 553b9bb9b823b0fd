"""What every web UI's own modules do alike for one pass: encoding prompts, prompt editing, interrupts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from .types import HostModel, Processing, Sampler

LATENT_FACTOR = 8  # px per latent px of SD1.5's and SDXL's autoencoders
NATIVE_SIDE, NATIVE_SIDE_SDXL = 512, 1024  # px


def native_side(sd_model: HostModel) -> int:
    """The side in px of the pictures that the model was trained on; its configuration's, where there is one."""
    image_size = getattr(sd_model, "image_size", None)
    if isinstance(image_size, int) and image_size > 0:
        return image_size * LATENT_FACTOR
    return NATIVE_SIDE_SDXL if getattr(sd_model, "is_sdxl", False) else NATIVE_SIDE


def encode_prompts(p: Processing, texts: Sequence[str], size: tuple[int, int]) -> Tensor | Mapping[str, Tensor]:
    """The host's own text encoding at the run's CLIP skip: a tensor (B, T, C), or SDXL's dict of it.

    Args:
        size: (height, width) of what is drawn, which SDXL is told.
    """
    from modules import devices, prompt_parser

    conditioning = getattr(prompt_parser, "SdConditioning", None)
    given = list(texts)
    asked = conditioning(given, width=size[1], height=size[0]) if conditioning else given
    with torch.no_grad(), devices.autocast():
        return p.sd_model.get_learned_conditioning(asked)


def prompts_at_end(texts: Sequence[str], steps: int) -> list[str]:
    """Each text as the host's prompt editing ends it."""
    from modules import prompt_parser

    scheduled = getattr(prompt_parser, "get_learned_conditioning_prompt_schedules", None)
    return [schedule[-1][1] for schedule in scheduled(list(texts), steps)] if scheduled else list(texts)


def first_conds(sampler: Sampler) -> Tensor | dict[str, Tensor]:
    """Each picture's first AND part at the pass's first step: a tensor (B, T, C), or SDXL's dict of it."""
    from modules import prompt_parser

    conds_list, text = prompt_parser.reconstruct_multicond_batch(sampler.sampler_extra_args["cond"], 0)
    firsts = [conds[0][0] for conds in conds_list]
    return {k: v[firsts] for k, v in text.items()} if isinstance(text, Mapping) else text[firsts]


def is_first_txt2img_pass(p: Processing) -> bool:
    from modules import processing

    return isinstance(p, processing.StableDiffusionProcessingTxt2Img) and not getattr(p, "is_hr_pass", False)


def is_interrupted() -> bool:
    from modules import shared

    return bool(shared.state.interrupted or shared.state.skipped)
