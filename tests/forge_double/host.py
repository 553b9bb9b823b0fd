"""Boots the miniature host and lays the family's sampler, processing and package names over it."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from demo.miniwebui import denoiser, processing, samplers, scripts, shared
from demo.miniwebui import host as miniature
from demo.miniwebui import script_callbacks as events
from demo.sd1 import prompts as prompt_parser

from . import conditions, sampling
from .patcher import ForgeModel
from .sampling import KINDS, Kind

HIRES_SCALE = 1.5


class ForgeDenoiser(denoiser.CFGDenoiser):
    """(x, level) -> guided prediction. Levels of timestep samplers become sigmas before anybody sees them."""

    kind: Kind = KINDS["forge"]
    refiner: Any = None  # (switch, model): from that step, or noise level, on the other model samples

    def is_refiners_turn(self, sigma: Tensor) -> bool:
        if self.refiner is None:
            return False
        return float(sigma[0]) <= self.refiner[0] if self.kind.refines_by_sigma else self.step >= self.refiner[0]

    def sigmas(self) -> Tensor:
        model = shared.sd_model.forge_objects.unet.model
        return (model.predictor if self.kind.backend else model.model_sampling).sigmas

    def forward(  # noqa: PLR0913  the samplers' extra_args
        self,
        x: Tensor,
        sigma: Tensor,
        uncond: Any,
        cond: Any,
        cond_scale: float,
        s_min_uncond: float,
        image_cond: Tensor,
    ) -> Tensor:
        if shared.state.interrupted or shared.state.skipped:
            raise denoiser.InterruptedException
        is_timestep, given = isinstance(self.sampler, samplers.CompVisSampler), x
        if is_timestep:
            sigma = self.sigmas()[sigma.round().long()]
            x = x * ((sigma**2 + 1) ** 0.5)[:, None, None, None]
        if self.is_refiners_turn(sigma):
            bring = self.refiner[1]
            shared.sd_model = self.p.sd_model = bring() if callable(bring) else bring
        parts, text = prompt_parser.reconstruct_multicond_batch(cond, self.step)
        negative = None if uncond is None else prompt_parser.reconstruct_cond_batch(uncond, self.step)
        if self.mask is not None:
            x = x * self.nmask + self.init_latent * self.mask
        step = (shared.state.sampling_step, shared.state.sampling_steps)
        params = events.CFGDenoiserParams(x, image_cond, sigma, *step, text, negative, self)
        events.cfg_denoiser_callback(params)
        if self.skips_uncond(sigma, s_min_uncond) or (self.kind.first_step_plain and self.step == 0):
            cond_scale = 1.0
        denoised = self.sample_step(params, parts, cond_scale)
        if self.mask is not None:
            denoised = denoised * self.nmask + self.init_latent * self.mask
        self.sampler.last_latent = shared.state.current_latent = denoised
        self.step += 1
        if is_timestep:
            return (given * ((sigma**2 + 1) ** 0.5)[:, None, None, None] - denoised) / sigma[:, None, None, None]
        return denoised

    def sample_step(self, params: Any, parts: list, cond_scale: float) -> Tensor:
        unet = shared.sd_model.forge_objects.unet
        model, options, x, sigma = unet.model, unet.model_options, params.x, params.sigma
        if self.kind.merges_options:
            options = sampling.merged(options, {"transformer_options": {"step": self.step}})
        uncond = conditions.compile_conditions(params.text_uncond)
        cond = conditions.compile_weighted(params.text_cond, parts)
        for entry in [*cond, *(uncond or [])] if unet.controlnet_linked_list is not None else []:
            entry["control"] = unet.controlnet_linked_list
        for modifier in options.get("conditioning_modifiers", []):
            model, x, sigma, uncond, cond, cond_scale, options, _ = modifier(
                model, x, sigma, uncond, cond, cond_scale, options, self.p.seeds[0]
            )
        return sampling.guide(self.kind, model, x, sigma, uncond, cond, cond_scale, options)


class PassOfTwoKinds:
    """Both ways into a pass: from noise, and (hires, inpainting) from a latent halfway down the schedule."""

    def sample(self, p: Any, x: Tensor, c: Any, uc: Any, steps: int | None = None, image_conditioning: Any = None):
        sampling.sampling_prepare(p.sd_model.forge_objects.unet, x)
        return super().sample(p, x, c, uc, steps, image_conditioning)

    def sample_img2img(self, p: Any, x: Tensor, noise: Tensor, c: Any, uc: Any) -> Tensor:
        begin = self.start

        def start(p: Any, _: Tensor, steps: int) -> tuple[Tensor, Tensor]:
            scaled, levels = begin(p, torch.zeros_like(noise), steps)
            if isinstance(self, samplers.CompVisSampler):
                levels = levels[: len(levels) // 2 + 2]
                a = 1 / (1 + self.model_wrap_cfg.sigmas()[levels[-1]] ** 2)
                return a**0.5 * x + (1 - a) ** 0.5 * noise, levels
            levels = levels[len(levels) // 2 :]
            return x + noise * levels[0], levels

        self.start = start
        return self.sample(p, noise, c, uc, None, noise.new_zeros(len(noise), 5, 1, 1))


class Wrapped(torch.nn.Module):
    """What the samplers ask of the wrapped model: its levels."""

    def __init__(self, model: ForgeModel):
        super().__init__()
        self.inner_model = model
        self._levels = [samplers.solvers.CompVisDenoiser(model._model)]

    @property
    def sigmas(self) -> Tensor:
        return self._levels[0].sigmas

    def get_sigmas(self, n: int) -> Tensor:
        return self._levels[0].get_sigmas(n)


class ForgeDenoiserWrapped(ForgeDenoiser):
    wrap = Wrapped


class ForgeKDiffusion(PassOfTwoKinds, samplers.KDiffusionSampler):
    denoiser = ForgeDenoiserWrapped


class ForgeTimesteps(PassOfTwoKinds, samplers.CompVisSampler):
    denoiser = ForgeDenoiserWrapped


class ForgeTxt2Img(processing.StableDiffusionProcessingTxt2Img):
    """txt2img with a hires pass; `modified_noise` is a script's way to replace the start."""

    kind: Kind = KINDS["forge"]

    def __init__(self, **fields: Any) -> None:
        super().__init__(**fields)
        self.hires, self.enable_hr, self.modified_noise = bool(self.enable_hr), False, None

    def begin_pass(self, x: Tensor, noise: Tensor, c: Any, uc: Any, thrown_away: bool = False) -> Tensor:
        """Reset what scripts registered, let them register, give back the noise to use."""
        if thrown_away:
            self.scripts.process_before_every_sampling(self, x=x, noise=noise, c=c, uc=uc)
        self.sd_model.reset()
        self.scripts.process_before_every_sampling(self, x=x, noise=noise, c=c, uc=uc)
        noise, self.modified_noise = noise if self.modified_noise is None else self.modified_noise, None
        return noise

    def sample(self, conditioning: Any, unconditional_conditioning: Any, **_batch: Any) -> Tensor:
        c, uc, self.enable_hr = conditioning, unconditional_conditioning, self.hires
        self.sampler = samplers.create_sampler(self.sampler_name, self.sd_model)
        x = self.rng.next()
        x = self.begin_pass(x, x, c, uc)
        out = self.sampler.sample(self, x, c, uc, image_conditioning=x.new_zeros(len(x), 5, 1, 1))
        return self.sample_hires(out, c, uc) if self.hires else out

    def sample_hires(self, low: Tensor, c: Any, uc: Any) -> Tensor:
        self.is_hr_pass = True
        self.sampler = samplers.create_sampler(self.sampler_name, self.sd_model)
        x = torch.nn.functional.interpolate(low, scale_factor=HIRES_SCALE)
        self.rng = processing.devices.ImageRNG(tuple(x.shape[1:]), self.seeds)
        noise = self.rng.next()
        self.scripts.before_hr(self)
        noise = self.begin_pass(x, noise, c, uc, thrown_away=self.kind.hires_twice)
        out = self.sampler.sample_img2img(self, x, noise, c, uc)
        self.is_hr_pass = False
        return out


class ForgeInpaint(processing.StableDiffusionProcessing):
    """A pass over a given latent, whose left half is kept."""

    def sample(self, conditioning: Any, unconditional_conditioning: Any, **_batch: Any) -> Tensor:
        self.sampler = samplers.create_sampler(self.sampler_name, self.sd_model)
        noise = self.rng.next()
        x = torch.full_like(noise, 0.3)
        ForgeTxt2Img.begin_pass(self, x, noise, conditioning, unconditional_conditioning)
        cfg = self.sampler.model_wrap_cfg
        cfg.mask = torch.zeros_like(x[:1])
        cfg.mask[..., : x.shape[-1] // 2] = 1
        cfg.nmask, cfg.init_latent = 1 - cfg.mask, x
        return self.sampler.sample_img2img(self, x, noise, conditioning, unconditional_conditioning)

    modified_noise = None


def packages(kind: Kind) -> dict[str, ModuleType]:
    """The host's own importable names, by kind."""
    functions = {"calc_cond_uncond_batch": sampling.calc_cond_uncond_batch}
    prepare, compiled = {"sampling_prepare": sampling.sampling_prepare}, conditions.compile_conditions
    if kind.backend:
        content: dict[str, dict] = {"modules_forge": {}, "backend": {}, "backend.sampling": {}}
        content["backend.sampling.sampling_function"] = functions | prepare
        content["backend.sampling.condition"] = {"compile_conditions": compiled}
    else:
        content = {"modules_forge": {}, "ldm_patched": {}, "ldm_patched.modules": {}}
        content["ldm_patched.modules.samplers"] = functions
        content["modules_forge.forge_sampler"] = prepare | {"cond_from_a1111_to_patched_ldm": compiled}
    made = {}
    for name, names in content.items():
        module = made[name] = ModuleType(name)
        module.__path__ = []  # type: ignore[attr-defined]
        vars(module).update(names)
    return made


def all_samplers() -> dict[str, samplers.SamplerData]:
    """The miniature host's samplers with the family's denoiser."""
    made = {}
    for data in samplers.all_samplers:

        def construct(model: Any, data: samplers.SamplerData = data) -> Any:
            plain = data.constructor(model._model if isinstance(model, ForgeModel) else model)
            cls = ForgeTimesteps if isinstance(plain, samplers.CompVisSampler) else ForgeKDiffusion
            return cls(plain.func)

        made[data.name] = data._replace(constructor=construct)
    return made


@contextmanager
def booted(
    models_dir: str | Path, extensions: Sequence[str | Path], kind: str = "forge", **boot: Any
) -> Iterator[SimpleNamespace]:
    """A running double: `.host` with txt2img, `.model`, `.inpaint(payload)`. Everything is put back afterwards."""
    with ExitStack() as stack:
        names = packages(KINDS[kind])
        sys.modules.update(names)
        stack.callback(lambda: [sys.modules.pop(name) for name in names])
        host = miniature.boot(models_dir, extensions, **boot)
        shared.sd_model = model = ForgeModel(shared.sd_model, "predictor" if KINDS[kind].backend else "model_sampling")
        for target, name, value in (
            (samplers, "all_samplers_map", all_samplers()),
            (processing, "StableDiffusionProcessingTxt2Img", ForgeTxt2Img),
            (ForgeDenoiser, "kind", KINDS[kind]),
            (ForgeTxt2Img, "kind", KINDS[kind]),
        ):
            stack.enter_context(mock.patch.object(target, name, value))

        def inpaint(**payload: Any) -> list[Any]:
            with mock.patch.object(processing, "StableDiffusionProcessingTxt2Img", ForgeInpaint):
                return host.txt2img(**payload)[0]

        yield SimpleNamespace(host=host, model=model, inpaint=inpaint, scripts=scripts.scripts_txt2img)
