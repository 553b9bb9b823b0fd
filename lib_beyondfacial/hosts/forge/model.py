"""A Forge's loaded model for one sampling pass, by what is there and not by version: Forge, reForge, Classic, Neo.

`backend` is Forge's and Neo's package, `ldm_patched` with `modules_forge.forge_sampler` reForge's and Classic's.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from ...sampling.host import Cond
from ..model import WebUIHost, encode_prompts, first_conds, is_hires_pass
from ..patches import Patches
from ..run import full_like_batch
from ..types import Entry, HostModel, Processing
from .neighbours import without_such_units

MAX_SIGMA = 100.0  # below it a start is noise of finite sigma; SD: 14.6, zero-terminal-SNR schedules: thousands


def unet_of(p: Processing) -> nn.Module:
    return p.sd_model.forge_objects.unet.model.diffusion_model


def compile_cond(cond: Tensor | Mapping[str, Tensor]) -> Entry:
    """An encoded prompt in the form that the host's sampler takes."""
    try:
        from backend.sampling.condition import compile_conditions as compiled
    except ImportError:
        from modules_forge.forge_sampler import cond_from_a1111_to_patched_ldm as compiled
    return compiled(cond)[0]


def with_tensors(work: Callable[..., Tensor], *entries: Entry) -> Entry:
    """The first of some compiled conds, with what `work` makes of their tensors in place of its own."""
    made = dict(entries[0])
    for key, value in entries[0].items():
        if isinstance(value, Tensor):
            made[key] = work(*(entry[key] for entry in entries))
    made["model_conds"] = {
        key: type(value)(work(*(entry["model_conds"][key].cond for entry in entries)))
        for key, value in entries[0]["model_conds"].items()
    }
    return made


def host_sampling() -> tuple[Callable, Callable]:
    """The host's functions for a model call (with memory check and ControlNets) and for loading the UNet."""
    try:
        from backend.sampling.sampling_function import calc_cond_uncond_batch, sampling_prepare
    except ImportError:
        from ldm_patched.modules.samplers import calc_cond_uncond_batch
        from modules_forge.forge_sampler import sampling_prepare
    return calc_cond_uncond_batch, sampling_prepare


def plain_condition(entry: Entry) -> type:
    """The class of conditions that are just a tensor, by its children: it has one name on Forge, another elsewhere."""
    return type(entry["model_conds"]["c_crossattn"]).__mro__[-2]


def posterior_mean(network: nn.Module, pixels: Tensor, *_: object) -> Tensor:
    """The mean of an ldm autoencoder's posterior, (N, 4, h, w): the first half of its moments. Nothing is drawn."""
    moments = network.encoder(pixels)
    quant_conv = getattr(network, "quant_conv", None)
    return (moments if quant_conv is None else quant_conv(moments)).chunk(2, dim=1)[0]


def extra_memory(unet: HostModel, noise: Tensor, rows: int) -> int:
    """Bytes that `rows` more rows need by the host's estimate; the host itself reserves for two rows a picture."""
    shape = list(noise.shape[1:])
    plain, more = 2 * noise.shape[0], 2 * noise.shape[0] + rows
    return max(0, int(unet.memory_required([more, *shape]) - unet.memory_required([plain, *shape])))


class ForgeHost(WebUIHost):
    """sampling.host.Host for one pass of the Forge family. Predictions are x0 at a sigma, also with timestep samplers.

    is_tiled: another extension cuts the picture into tiles, so the identity does not act.
    is_inpainting: known only after the host has compiled its conds for the first level.
    """

    def __init__(self, p: Processing):
        super().__init__(p)
        self.is_tiled = False
        self.is_inpainting = False

    def unet(self) -> nn.Module:
        return unet_of(self.p)

    @property
    def cfg_scale(self) -> float:
        """The scale that the user set for this pass; at single levels the hosts may set it to 1."""
        if is_hires_pass(self.p) and hasattr(self.p, "hr_cfg"):
            return float(self.p.hr_cfg)
        return float(self.sampler.sampler_extra_args["cond_scale"])

    def sigmas(self) -> Tensor:
        """The model's noise levels, one a timestep, ascending."""
        model = self.p.sd_model.forge_objects.unet.model
        return (getattr(model, "predictor", None) or model.model_sampling).sigmas.detach().float().cpu()

    def to_sigmas(self, levels: Tensor) -> list[float]:
        if hasattr(self.sampler, "get_sigmas"):
            return [float(level) for level in levels]
        sigmas = self.sigmas()
        return sigmas[levels.cpu().float().round().long().clip(0, len(sigmas) - 1)].tolist()

    def encode_prompts(self, texts: Sequence[str], size: tuple[int, int], is_negative: bool = False) -> Cond:
        return compile_cond(encode_prompts(self.p, texts, size, is_negative))

    def select_rows(self, cond: Cond, rows: Sequence[int]) -> Cond:
        return with_tensors(lambda tensor: tensor[list(rows)], cast("Entry", cond))

    def join_conds(self, cond: Cond, uncond: Cond) -> Cond | None:
        """None for prompts of different lengths, which the host repeats to one length."""
        one, other = cast("Entry", cond), cast("Entry", uncond)
        if one["cross_attn"].shape[1:] != other["cross_attn"].shape[1:]:
            return None
        return with_tensors(lambda *tensors: torch.cat(tensors), one, other)

    def first_conds(self) -> Cond:
        """The first conds, with the ControlNets and the inpainting condition of the picture."""
        unet, entry = self.p.sd_model.forge_objects.unet, compile_cond(first_conds(self.sampler))
        x, concat = self.sampler.last_latent, self.sampler.sampler_extra_args["image_cond"]
        if unet.extra_concat_condition is not None:
            concat = unet.extra_concat_condition
        if isinstance(concat, Tensor) and concat.shape[0] == x.shape[0] and concat.shape[2:] == x.shape[2:]:
            entry["model_conds"]["c_concat"] = plain_condition(entry)(concat)
        if unet.controlnet_linked_list is not None:
            entry["control"] = unet.controlnet_linked_list
        return entry

    def encode_images(self, pictures: Tensor) -> Tensor:
        """Use the host's own `VAE.encode` (memory, dtype, tiles), with a network that gives the mean, not a sample."""
        objects = self.p.sd_model.forge_objects
        network, patches = objects.vae.first_stage_model, Patches()
        patches.set(network, "encode", functools.partial(posterior_mean, network))
        try:
            with torch.no_grad():
                latent = objects.vae.encode(pictures.movedim(1, -1) / 2 + 0.5)
        finally:
            patches.undo()
        scale = getattr(network, "process_in", None) or objects.unet.model.process_latent_in
        return scale(latent).float()

    def decode_latents(self, latents: Tensor) -> Tensor:
        with torch.no_grad():
            return self.p.sd_model.decode_first_stage(latents.to(self.sampler.last_latent.dtype)).clone()

    def start_to_x(self, start: Tensor, sigma: float) -> Tensor:
        return start if hasattr(self.sampler, "get_sigmas") else start * (1 + sigma**2) ** 0.5

    def predict_x0(self, x: Tensor, sigma: float, cond: Cond, is_crop: bool = False) -> Tensor:
        """Call the model with the patches on the host's UNet, except those of units that fail on such a call.

        ControlNets are part of the cond, so crops have none.
        """
        unet, x = self.p.sd_model.forge_objects.unet, x.to(self.sampler.last_latent)
        calc, _ = host_sampling()
        options = without_such_units(unet.model_options)
        return calc(unet.model, [cond], None, x, full_like_batch(x, sigma, x), options)[0].float()

    def can_crop(self) -> bool:
        return not self.is_inpainting

    def load_unet(self) -> None:
        unet = self.p.sd_model.forge_objects.unet
        along = list(unet.extra_model_patchers_during_sampling)
        host_sampling()[1](unet, self.sampler.last_latent)
        unet.extra_model_patchers_during_sampling = along  # the host appends the ControlNets' patchers at every call

    def starts_from_noise(self) -> bool:
        return not self.is_tiled and self.is_first_txt2img_pass() and float(self.sigmas()[-1]) < MAX_SIGMA
