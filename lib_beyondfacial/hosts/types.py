"""Types of the web UIs' objects, with the attributes that the host adapters use."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from torch import Tensor, nn

HostModel = Any  # `p.sd_model`: another class on each host; only */model.py reads its attributes
Entry = dict[str, Any]  # a compiled cond of the Forge family: "model_conds", "strength", "area", ...
ModelOptions = dict[str, Any]  # of a Forge patcher
Unet = Callable[..., Tensor]  # a model call of a Forge: (input, timestep, **conditions)


class Sampler(Protocol):
    """The sampler of one pass; hosts make a new one for every pass."""

    last_latent: Tensor | None
    sampler_extra_args: dict[str, Any]
    model_wrap_cfg: Denoiser
    launch_sampling: Callable[[int, Callable], Tensor]


class Denoiser(Protocol):
    """The sampler's CFG denoiser."""

    p: Processing
    sampler: Sampler
    inner_model: nn.Module


class Processing(Protocol):
    """The web UIs' `p`."""

    sd_model: HostModel
    sampler: Sampler
    prompts: Sequence[str]
    negative_prompts: Sequence[str]
    hr_prompts: Sequence[str]
    hr_negative_prompts: Sequence[str]
    hr_upscale_to_x: int
    hr_upscale_to_y: int
    seeds: Sequence[int]
    width: int
    height: int
    steps: int
    sample: Callable[..., Any]


class DenoiserParams(Protocol):
    """A1111's argument of on_cfg_denoiser; rows: [cond rows..., one uncond row a picture]."""

    x: Tensor
    sigma: Tensor
    image_cond: Tensor
    text_cond: Tensor | Mapping[str, Tensor]
    text_uncond: Tensor
    denoiser: Denoiser


class DenoisedParams(Protocol):
    """What A1111 passes to callbacks of on_cfg_denoised: the fields that we use."""

    x: Tensor
    inner_model: nn.Module
