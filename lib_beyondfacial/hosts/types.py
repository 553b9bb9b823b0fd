"""What the host adapters know of the web UIs' own objects, by what they read of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from torch import Tensor, nn

HostModel = Any  # `p.sd_model`: of another class on each host, read attribute by attribute in */model.py
Entry = dict[str, Any]  # a compiled cond of the Forge family: "model_conds", "strength", "area", ...
ModelOptions = dict[str, Any]  # of a Forge patcher
Unet = Callable[..., Tensor]  # a model call of a Forge: (input, timestep, **conditions)


class Sampler(Protocol):
    """One sampling pass's sampler; made anew for every pass."""

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
    seeds: Sequence[int]
    width: int
    height: int
    steps: int
    sample: Callable[..., Any]


class DenoiserParams(Protocol):
    """What A1111 hands to on_cfg_denoiser: rows [cond rows..., one uncond row a picture]."""

    x: Tensor
    sigma: Tensor
    image_cond: Tensor
    text_cond: Tensor | Mapping[str, Tensor]
    text_uncond: Tensor
    denoiser: Denoiser


class DenoisedParams(Protocol):
    """What A1111 hands to on_cfg_denoised."""

    x: Tensor
    inner_model: nn.Module
