"""The conditioning modifier that adds the identity lines to a Forge's own batch, and the fusion before its CFG.

Only plain functions are registered: hosts deep-copy a patcher's options at every clone, and a copied callable object
would lose its run. Only the modifier is registered in advance; wrapper and guidance functions are put around the
present ones at each level, so the order in which extensions register does not matter.
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
    "BeyondFacial did not act: tiled sampling (MultiDiffusion and the like) splits the picture, so no mask can be "
    "applied; switch it off, or generate with BeyondFacial first and tile in a second pass."
)


def attach(p: Processing, run: Run) -> None:
    """Register our modifier on a clone of the patcher, as the family's scripts do; reserve memory for its rows."""
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
        holder.clear()  # clones that other extensions keep must not hold the run
        if objects.unet is unet:
            objects.unet = before
            return
        options = objects.unet.model_options  # another script has cloned it again
        if modifier in options.get(MODIFIERS, []):
            options[MODIFIERS] = [m for m in options[MODIFIERS] if m is not modifier]
            if not options[MODIFIERS]:
                del options[MODIFIERS]
            objects.unet.extra_preserved_memory_during_sampling -= wanted

    run.scope.callback(detach)


def make_modifier(holder: list[Run]) -> Callable:
    """The conditioning modifier of one pass; it does nothing once `holder` is empty."""

    def modifier(*given: Any) -> object:
        if not holder or holder[0].sampling is None or host_of(holder[0]).is_tiled:
            return given
        return guarded(holder[0], lambda: add_lines(holder[0], *given))

    modifier.__dict__["run"] = holder  # marks the modifier as ours
    return modifier


def move_ours_last(p: Processing) -> None:
    """Move our modifier behind all others, so that modifiers that call the model get the host's conds only."""
    options = p.sd_model.forge_objects.unet.model_options
    our_modifiers = [m for m in options.get(MODIFIERS, []) if hasattr(m, "run")]
    if our_modifiers:
        options[MODIFIERS] = [m for m in options[MODIFIERS] if m not in our_modifiers] + our_modifiers


def is_tiler_on(p: Processing) -> bool:
    """Whether a tiler has replaced the UNet's call; asked before the first call, because the start is edited then."""
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
    """The modifier at one level: inside the window, add the lines' conds and the fusion; outside, nothing."""
    sampling, host, sigma = run.sampling, host_of(run), float(timestep.flatten()[0])
    given = (net, x, timestep, uncond, cond, cond_scale, model_options, seed)
    if net.diffusion_model is not host.unet() or not sampling.acts(sigma):
        return given
    options, lines = dict(model_options), sampling.active_lines(sigma)
    host.is_inpainting = any("c_concat" in entry["model_conds"] for entry in cond)
    if not lines:
        chain_guidance(run, None, options, cond_scale, cond, list)
        return (*given[:6], options, seed)
    level = Level(sampling, lines, len(x))
    entries, negative = tagged_entries(level, cond, uncond)

    def restore() -> None:
        """Give the guidance functions, which may call the model again, the host's conds without ours."""
        entries[:] = cond
        if negative is not None:
            negative[:] = uncond or []

    wrapper = capture_wrapper(level, model_options.get("model_function_wrapper"))
    options["model_function_wrapper"] = lambda unet, args: guarded(run, lambda: wrapper(unet, args))
    chain_guidance(run, level, options, cond_scale, cond, restore)
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
    """The host's conds with tags, followed by every line's conds; and its unconds with tags.

    The lines' conds have strength 0: the host computes their rows, but they do not enter its mean.
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
    run: Run, level: Level | None, options: ModelOptions, cond_scale: float, cond: Sequence[Entry], restore: Callable
) -> None:
    """Make the host's guidance use D_s + delta: by wrapping the present guidance function, which may be nonlinear; if
    there is none, by adding guidance * delta behind the host's linear formula.

    Args:
        cond: the host's AND parts, by the sum of whose strengths the host multiplies the CFG scale.
    """
    cfg_function, parts = options.get("sampler_cfg_function"), len(cond)
    strength = sum(strength_of(entry) for entry in cond)
    strength = 1.0 if math.isclose(strength, 1.0) else strength

    def guidance_of(args: ModelOptions) -> float:
        return 1.0 if args["uncond_denoised"] is None else float(args.get("cond_scale", cond_scale)) * strength

    def delta_of(args: ModelOptions, denoised: Tensor) -> Tensor:
        restore()
        has_uncond = not math.isclose(cond_scale, 1.0) if level is None else level.has_uncond
        sigma, rows = float(args["sigma"].flatten()[0]), parts + has_uncond
        step = Step(sigma, host_of(run).cfg_scale, guidance_of(args), denoised, rows)
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
    """delta of this level; zeros if the pass is over or the picture was cut into tiles."""
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
