"""Serves as `modules.sd_samplers`, `_common`, `_kdiffusion`, `_timesteps`: x0 samplers, and DDIM in eps."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from demo.sd1 import solvers

from . import shared
from .denoiser import CFGDenoiser, InterruptedException


class CFGDenoiserKDiffusion(CFGDenoiser):
    wrap = solvers.CompVisDenoiser


class CFGDenoiserTimesteps(CFGDenoiser):
    wrap = solvers.CompVisTimestepsDenoiser

    def get_pred_x0(self, x_in: Tensor, x_out: Tensor, sigma: Tensor) -> Tensor:
        a_t = shared.sd_model.alphas_cumprod[sigma.to(dtype=int)][:, None, None, None]
        return (x_in - (1 - a_t).sqrt() * x_out) / a_t.sqrt()


class Sampler:
    """Made anew for every sampling pass. `launch_sampling` may be wrapped; `last_latent` is then the scaled start."""

    denoiser: type[CFGDenoiser]
    eta_field = ("eta_ancestral", 1.0, "Eta")

    def __init__(self, func: Callable):
        self.func, self.model_wrap_cfg = func, self.denoiser(self)
        self.model_wrap = self.model_wrap_cfg.inner_model
        self.config = self.p = self.last_latent = self.sampler_extra_args = self.eta = None

    def callback_state(self, d: dict) -> None:
        shared.state.sampling_step = d["i"]

    def launch_sampling(self, steps: int, func: Callable[[], Tensor]) -> Tensor:
        self.model_wrap_cfg.steps = self.model_wrap_cfg.total_steps = steps
        shared.state.sampling_steps, shared.state.sampling_step = steps, 0
        try:
            return func()
        except InterruptedException:
            return self.last_latent

    def start(self, p: Any, x: Tensor, steps: int) -> tuple[Tensor, Tensor]:
        """The scaled start and the pass's levels."""
        raise NotImplementedError

    def sample(
        self, p: Any, x: Tensor, c: Any, uc: Any, steps: int | None = None, image_conditioning: Any = None
    ) -> Tensor:
        steps = steps or p.steps
        x, levels = self.start(p, x, steps)
        self.p = self.model_wrap_cfg.p = p
        self.model_wrap_cfg.step = 0
        option, default, infotext_key = self.eta_field
        self.eta = p.eta if p.eta is not None else getattr(shared.opts, option)
        if self.eta != default:
            p.extra_generation_params[infotext_key] = self.eta
        self.last_latent = x
        args = {"cond": c, "image_cond": image_conditioning, "uncond": uc, "cond_scale": p.cfg_scale}
        self.sampler_extra_args = {**args, "s_min_uncond": p.s_min_uncond}
        model = partial(self.model_wrap_cfg, **self.sampler_extra_args)
        return self.launch_sampling(
            steps, partial(self.func, model, x, levels, p.rng.next, self.callback_state, self.eta)
        )


class KDiffusionSampler(Sampler):
    denoiser = CFGDenoiserKDiffusion

    def get_sigmas(self, p: Any, steps: int) -> Tensor:
        name = self.config.options.get("scheduler", "uniform")
        if p.scheduler not in (None, "Automatic"):
            name = p.scheduler
        if name.lower() == "karras":
            p.extra_generation_params["Schedule type"] = "Karras"
            levels = self.model_wrap.sigmas
            return solvers.karras_sigmas(steps, levels[0].item(), levels[-1].item(), device=levels.device)
        return self.model_wrap.get_sigmas(steps)

    def start(self, p: Any, x: Tensor, steps: int) -> tuple[Tensor, Tensor]:
        sigmas = self.get_sigmas(p, steps)
        return x * sigmas[0], sigmas


class CompVisSampler(Sampler):
    denoiser = CFGDenoiserTimesteps
    eta_field = ("eta_ddim", 0.0, "Eta DDIM")

    def get_timesteps(self, p: Any, steps: int) -> Tensor:
        return torch.clip(torch.arange(0, 1000, 1000 // steps) + 1, 0, 999)

    def start(self, p: Any, x: Tensor, steps: int) -> tuple[Tensor, Tensor]:
        return x, self.get_timesteps(p, steps)


class SamplerData(NamedTuple):
    name: str
    constructor: Callable[[Any], Sampler]
    aliases: list[str]
    options: dict[str, str]


all_samplers = [
    SamplerData(
        "Euler a", lambda _: KDiffusionSampler(solvers.euler_ancestral), ["k_euler_a", "k_euler_ancestral"], {}
    ),
    SamplerData("Euler", lambda _: KDiffusionSampler(solvers.euler), ["k_euler"], {}),
    SamplerData("DPM++ 2M", lambda _: KDiffusionSampler(solvers.dpmpp_2m), ["k_dpmpp_2m"], {"scheduler": "karras"}),
    SamplerData("DPM++ SDE", lambda _: KDiffusionSampler(solvers.dpmpp_sde), ["k_dpmpp_sde"], {"scheduler": "karras"}),
    SamplerData("LCM", lambda _: KDiffusionSampler(solvers.lcm), ["k_lcm"], {}),
    SamplerData("DDIM", lambda m: CompVisSampler(partial(solvers.ddim, alphas=m.alphas_cumprod)), ["ddim"], {}),
]
all_samplers_map = {data.name: data for data in all_samplers}


def create_sampler(name: str | None, model: Any) -> Sampler:
    if name not in all_samplers_map:
        raise ValueError(f"There is no sampler {name!r}; there are: {', '.join(all_samplers_map)}.")
    sampler = all_samplers_map[name].constructor(model)
    sampler.config = all_samplers_map[name]
    return sampler
