"""The conditioning modifier that adds the identity lines to a Forge's own batch, and the fusion before its CFG.

Everything is plain functions: the hosts deep-copy a patcher's options at every clone, which would part a callable
object from its run. The modifier is the one thing registered; wrapper and guidance functions are put around whatever
is there at the very level, so that it does not matter in which order extensions register theirs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from ...sampling.host import Step
from ..run import Run, guarded
from ..types import Entry, ModelOptions, Processing
from .batch import SEMANTIC, UNCOND, Level, Part, capture_wrapper, line_entry
from .model import ForgeHost, extra_memory, host_sampling
from .neighbours import takes_one_cond

MODIFIERS = "conditioning_modifiers"
TILERS = ("multidiffusion", "tiled_diffusion", "tileddiffusion")
TILED = (
    "BeyondFacial did not act: tiled sampling (MultiDiffusion and the like) cuts the picture up, and the mask with "
    "it; switch it off, or generate first and tile in a second pass."
)


def attach(p: Processing, run: Run) -> None:
    """Register our modifier on a clone of the patcher, as the family's scripts do; announce the rows it will add."""
    if run.sampling is None:
        return
    objects = p.sd_model.forge_objects
    before = objects.unet
    unet = before.clone()
    holder = [run]
    modifier = make_modifier(holder)
    unet.add_conditioning_modifier(modifier)
    injections = [injection for line in run.plan.lines for injection in line.injections]
    wanted = sum(injection.device_bytes for injection in injections)
    if run.noise is not None:
        wanted += extra_memory(unet, run.noise, len(run.plan.lines) * len(run.noise))
    unet.add_extra_preserved_memory_during_sampling(wanted)
    objects.unet = unet

    def detach() -> None:
        holder.clear()  # clones that others keep hold no run of ours
        if objects.unet is unet:
            objects.unet = before
            return
        options = objects.unet.model_options  # cloned once more by another script
        if modifier in options.get(MODIFIERS, []):
            options[MODIFIERS] = [m for m in options[MODIFIERS] if m is not modifier]
            if not options[MODIFIERS]:
                del options[MODIFIERS]
            objects.unet.extra_preserved_memory_during_sampling -= wanted

    run.scope.callback(detach)


def make_modifier(holder: list[Run]) -> Callable:
    """The conditioning modifier of one pass; once `holder` is emptied it does nothing any more."""

    def modifier(*given: Any) -> object:
        if not holder or holder[0].sampling is None or host_of(holder[0]).is_tiled:
            return given
        return guarded(holder[0], lambda: add_lines(holder[0], *given))

    modifier.__dict__["run"] = holder  # by this others' modifiers are told from ours
    return modifier


def move_ours_last(p: Processing) -> None:
    """Behind all other modifiers: those that call the model themselves then see the host's conds alone."""
    options = p.sd_model.forge_objects.unet.model_options
    our_modifiers = [m for m in options.get(MODIFIERS, []) if hasattr(m, "run")]
    if our_modifiers:
        options[MODIFIERS] = [m for m in options[MODIFIERS] if m not in our_modifiers] + our_modifiers


def is_tiler_on(p: Processing) -> bool:
    """Whether a tiler has taken the UNet's call; the first call would tell as well, but the start is edited before."""
    wrapper = p.sd_model.forge_objects.unet.model_options.get("model_function_wrapper")
    source = f"{getattr(wrapper, '__module__', '')}.{type(wrapper).__module__}.{type(wrapper).__name__}".lower()
    return any(name in source for name in TILERS)


def disable_for_tiling(run: Run) -> None:
    host_of(run).is_tiled = True
    run.report.warn_not_acting(TILED)


def add_lines(  # noqa: PLR0913  the host's own arguments
    run: Run,
    net: nn.Module,
    x: Tensor,
    timestep: Tensor,
    uncond: list[Entry] | None,
    cond: list[Entry],
    cond_scale: float,
    model_options: ModelOptions,
    seed: object,
) -> tuple:
    """The modifier's work at one level: outside the window nothing; inside, the lines' conds and the fusion."""
    sampling, host, sigma = run.sampling, host_of(run), float(timestep.flatten()[0])
    given = (net, x, timestep, uncond, cond, cond_scale, model_options, seed)
    if net.diffusion_model is not host.unet() or not sampling.acts(sigma):
        return given
    options, lines = dict(model_options), sampling.active_lines(sigma)
    host.is_inpainting = any("c_concat" in entry["model_conds"] for entry in uncond or [])
    strength = sum(strength_of(entry) for entry in cond)
    if not lines:
        chain_guidance(run, None, options, cond_scale, strength, list)
        return (*given[:6], options, seed)
    level = Level(sampling, lines, len(x))
    entries, negative = tagged_entries(level, cond, uncond)

    def restore() -> None:
        """What the guidance functions are shown, and may call the model with again, is the host's own."""
        entries[:] = cond
        if negative is not None:
            negative[:] = uncond or []

    wrapper = capture_wrapper(level, model_options.get("model_function_wrapper"))
    options["model_function_wrapper"] = lambda unet, args: guarded(run, lambda: wrapper(unet, args))
    chain_guidance(run, level, options, cond_scale, strength, restore)
    if takes_one_cond(model_options):
        predict_apart(net, entries[len(cond) :], x, timestep, options)
        del entries[len(cond) :]
    return net, x, timestep, negative, entries, cond_scale, options, seed


def predict_apart(
    net: nn.Module, entries: Sequence[Entry], x: Tensor, timestep: Tensor, options: ModelOptions
) -> None:
    """Let the host predict conds in calls of their own, behind all modifiers; the wrapper notes what comes out."""
    calc, _ = host_sampling()
    for entry in entries:
        calc(net, [entry], None, x, timestep, options)


def tagged_entries(
    level: Level, cond: Sequence[Entry], uncond: Sequence[Entry] | None
) -> tuple[list[Entry], list[Entry] | None]:
    """The host's conds, tagged, with every line's behind them, and its unconds.

    The lines' conds have strength 0: the host computes their rows and leaves them out of its mean.
    """
    entries = [level.tag(entry, Part(SEMANTIC, strength_of(entry))) for entry in cond]
    for line in level.lines:
        line_cond = cast("Entry | None", level.sampling.prompts.lines.get(line.name))
        for entry in cond if line_cond is None else cond[:1]:
            part = Part(line.name, strength_of(entry) if line_cond is None else 1.0)
            entries.append(level.tag(line_entry(entry, line_cond), part, strength=0.0))
    return entries, None if uncond is None else [level.tag(entry, Part(UNCOND)) for entry in uncond]


def strength_of(entry: Entry) -> float:
    return float(entry.get("strength", 1.0))


def chain_guidance(  # noqa: PLR0913
    run: Run, level: Level | None, options: ModelOptions, cond_scale: float, strength: float, restore: Callable
) -> None:
    """Let the host's guidance see D_s + delta: through the guidance function that is there, which need not be linear;
    else what its own formula makes of delta is added behind it.

    Args:
        strength: sum of the AND parts', by which the host multiplies the CFG scale.
    """
    cfg_function = options.get("sampler_cfg_function")
    strength = 1.0 if math.isclose(strength, 1.0) else strength

    def guidance_of(args: ModelOptions) -> float:
        return 1.0 if args["uncond_denoised"] is None else float(args.get("cond_scale", cond_scale)) * strength

    def delta_of(args: ModelOptions, denoised: Tensor) -> Tensor:
        restore()
        step = Step(float(args["sigma"].flatten()[0]), cond_scale, guidance_of(args), denoised)
        return guarded(run, lambda: compute_delta(run, level, step, args))

    def fused_guidance(args: ModelOptions) -> Tensor:
        semantic, uncond_denoised = args["cond_denoised"], args["uncond_denoised"]
        base = semantic if uncond_denoised is None else uncond_denoised
        linear = base + guidance_of(args) * (semantic - base)
        denoised = semantic + delta_of(args, linear).to(semantic.dtype)
        return cfg_function({**args, "cond_denoised": denoised, "cond": args["input"] - denoised})

    def fused_result(args: ModelOptions) -> Tensor:
        return args["denoised"] + (guidance_of(args) * delta_of(args, args["denoised"])).to(args["denoised"].dtype)

    if cfg_function is not None:
        options["sampler_cfg_function"] = fused_guidance
    else:
        options["sampler_post_cfg_function"] = [fused_result, *options.get("sampler_post_cfg_function", [])]


def compute_delta(run: Run, level: Level | None, step: Step, args: ModelOptions) -> Tensor:
    """delta of this level; zeros where the pass is over, or was cut into tiles."""
    semantic, sampling = args["cond_denoised"], run.sampling
    if sampling is None:
        return torch.zeros_like(semantic)
    if level is None:
        return sampling.delta(step, None)
    if level.is_tiled:
        disable_for_tiling(run)
        return torch.zeros_like(semantic)
    return sampling.delta(step, level.predictions(semantic, args["uncond_denoised"]))


def host_of(run: Run) -> ForgeHost:
    assert isinstance(run.host, ForgeHost), "begin_pass has made it"
    return run.host
