"""The loaded model as far as all web UIs agree: supported models, text encoding, prompt editing, interrupts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ..errors import BeyondFacialError
from ..method.head_refinement import VarianceExploding
from .text_cache import encode_once
from .types import HostModel, Processing, Sampler

LATENT_FACTOR = 8  # px per latent px of SD1.5's and SDXL's autoencoders
NATIVE_SIDE, NATIVE_SIDE_SDXL = 512, 1024  # px
COMPILED = (
    "BeyondFacial: the UNet is compiled (torch.compile), and a compiled UNet cannot be given an identity; switch the "
    "compilation off for this run."
)
UNFIT = {"is_sd3": "an SD3", "is_sd2": "an SD2", "is_flux": "a Flux"}


def native_side(sd_model: HostModel) -> int:
    """The side in px of the model's training pictures: its `image_size` (latents), else 1024 (SDXL) or 512."""
    image_size = getattr(sd_model, "image_size", None)
    if isinstance(image_size, int) and image_size > 0:
        return image_size * LATENT_FACTOR
    return NATIVE_SIDE_SDXL if getattr(sd_model, "is_sdxl", False) else NATIVE_SIDE


def prompts_of(p: Processing) -> tuple[Sequence[str], Sequence[str]]:
    """The pictures' prompts and negative prompts in the present pass; hires fix may have its own."""
    if is_hires_pass(p) and getattr(p, "hr_prompts", None):
        return p.hr_prompts, p.hr_negative_prompts
    return p.prompts, p.negative_prompts


def size_of(p: Processing) -> tuple[int, int]:
    """(height, width) in px of the present pass's pictures."""
    if is_hires_pass(p) and getattr(p, "hr_upscale_to_y", 0):
        return p.hr_upscale_to_y, p.hr_upscale_to_x
    return p.height, p.width


def is_hires_pass(p: Processing) -> bool:
    return bool(getattr(p, "is_hr_pass", False))


def encode_prompts(
    p: Processing, texts: Sequence[str], size: tuple[int, int], is_negative: bool = False
) -> Tensor | Mapping[str, Tensor]:
    """Encode texts with the host at the request's CLIP skip: a tensor (B, T, C), or for SDXL a dict with it.

    Args:
        size: (height, width) of the picture, an input of SDXL.
        is_negative: these are negative prompts; where all are empty, the hosts give SDXL zeros.
    """
    from modules import devices, prompt_parser

    conditioning = getattr(prompt_parser, "SdConditioning", None)
    given = list(texts)
    height, width = size
    more = {"is_negative_prompt": is_negative, "width": width, "height": height}
    asked = conditioning(given, **more) if conditioning else given

    def encode() -> Tensor | Mapping[str, Tensor]:
        with torch.no_grad(), devices.autocast():
            return p.sd_model.get_learned_conditioning(asked)

    kept = encode_once(p, given, (*size, is_negative), encode)
    if isinstance(kept, Mapping):  # copies, as ControlNet's ReVision writes into what a model call is given
        return type(kept)({key: value.clone() for key, value in kept.items()})  # type: ignore[call-arg]
    return kept.clone()


def first_conds(sampler: Sampler) -> Tensor | dict[str, Tensor]:
    """Each picture's first AND part at the pass's first step: a tensor (B, T, C), or for SDXL a dict with it."""
    from modules import prompt_parser

    conds_list, text = prompt_parser.reconstruct_multicond_batch(sampler.sampler_extra_args["cond"], 0)
    firsts = [conds[0][0] for conds in conds_list]
    return {k: v[firsts] for k, v in text.items()} if isinstance(text, Mapping) else text[firsts]


def refuse_unfit(p: Processing) -> None:
    """BeyondFacialError for models that the method does not support; check_fits finds the others."""
    for flag, kind in UNFIT.items():
        if getattr(p.sd_model, flag, False):
            raise not_served(kind)
    if getattr(p.sd_model, "cond_stage_key", "") == "edit":
        raise BeyondFacialError(
            "BeyondFacial does not work with instruct-pix2pix models; choose an ordinary checkpoint."
        )


def not_served(kind: str) -> BeyondFacialError:
    """The error for a kind of model ("a Flux") that the method does not serve."""
    return BeyondFacialError(
        f"BeyondFacial works with SD1.5 and SDXL models, and this is {kind} model; choose another checkpoint."
    )


def refuse_compiled(unet: nn.Module) -> None:
    """BeyondFacialError where torch.compile has taken over the calls of a UNet, or of a module in it.

    A compiled call was traced with the hooks of its first call: it would miss ours, or keep them for plain pictures.
    """
    for module in unet.modules():
        if hasattr(module, "_orig_mod") or getattr(module, "_compiled_call_impl", None) is not None:
            raise BeyondFacialError(COMPILED)


class WebUIHost(ABC):
    """The parts of sampling.host.Host that A1111 and the Forge family share, for one pass."""

    law = VarianceExploding()

    def __init__(self, p: Processing):
        self.p, self.sampler = p, p.sampler
        self.native_side = native_side(p.sd_model)
        self.picture_size = size_of(p)
        self.weight_loads = 0

    @abstractmethod
    def unet(self) -> nn.Module: ...

    def model_key(self) -> object:
        return self.unet(), self.weight_loads

    @contextmanager
    def counting_weight_loads(self) -> Iterator[None]:
        """Hear of every state dict that is loaded into this very UNet meanwhile: some refiners come that way."""

        def note(module: nn.Module, incompatible_keys: object) -> None:
            self.weight_loads += 1

        handle = self.unet().register_load_state_dict_post_hook(note)
        try:
            yield
        finally:
            handle.remove()

    def encode_words(self, words: Sequence[str]) -> Tensor:
        encoded = encode_prompts(self.p, words, self.picture_size)
        return (encoded["crossattn"] if isinstance(encoded, Mapping) else encoded)[:, 1].detach()

    def prompts_at_end(self, texts: Sequence[str]) -> list[str]:
        from modules import prompt_parser

        scheduled = getattr(prompt_parser, "get_learned_conditioning_prompt_schedules", None)
        if scheduled is None:
            return list(texts)
        steps = (self.p.steps,)
        if is_hires_pass(self.p):  # its steps are counted behind the first pass's
            steps = (self.p.steps, getattr(self.p, "hr_second_pass_steps", 0) or self.p.steps)
        return [schedule[-1][1] for schedule in scheduled(list(texts), *steps)]

    def is_first_txt2img_pass(self) -> bool:
        from modules import processing

        is_txt2img = isinstance(self.p, processing.StableDiffusionProcessingTxt2Img)
        return is_txt2img and not is_hires_pass(self.p)

    def is_interrupted(self) -> bool:
        return is_interrupted()

    def show_progress(self, text: str, done: float = 0.0) -> None:
        from modules import shared

        shared.state.textinfo = text or None
        step = int(shared.state.sampling_step)
        shared.state.sampling_step = step + done if done else step


def is_interrupted() -> bool:
    """Whether the user has pressed interrupt or skip."""
    from modules import shared

    return bool(shared.state.interrupted or shared.state.skipped)
