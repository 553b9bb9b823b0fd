"""One sampling pass in a Forge: a conditioning modifier that adds the identity line to the host's own batch, and the
fusion before CFG.

Everything is plain functions: the hosts deep-copy a patcher's options at every clone, which would part a callable
object from its run. The modifier is the one thing registered; wrapper and guidance functions are put around whatever
is there at the very step, so that it does not matter in which order extensions register theirs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..adapters.branch import IdentityBranch
from ..method.engine import Lines, RunState
from ..method.schedule import Schedule
from . import forge_model as model
from . import look, words
from .forge_lines import UNCOND, Entry, Step, identity_entry, tagged, watching_wrapper
from .forge_look import Guided, look_closer
from .patches import Patches
from .plan import RunHandle
from .requests import refuse_nan
from .unet_sites import AttentionSite, Probe, enumerate_sites

RUN = "_beyondfacial_run"
MODIFIERS = "conditioning_modifiers"
ASIDE = (
    "BeyondFacial stood aside: tiled sampling (MultiDiffusion and the like) cuts the picture up, and the mask with "
    "it; switch it off, or generate first and tile in a second pass."
)


@dataclass(eq=False)
class Pass:
    """One sampling pass: made before the UNet is loaded, since texts are encoded for it."""

    p: Any
    probe: Probe
    id_entry: Entry | None = None
    near_entry: Entry | None = None
    state: RunState | None = None


@dataclass(eq=False)
class Run:
    """One request on one `p`."""

    handle: RunHandle
    tokens: Tensor
    branch: IdentityBranch | None = None
    sites: list[AttentionSite] = field(default_factory=list)
    unet: Any = None
    levels: list[float] | None = None
    noise: Tensor | None = None
    current: Pass | None = None
    is_aside: bool = False
    error: BaseException | None = None
    undo: list[Callable[[], None]] = field(default_factory=list)
    patches: Patches = field(default_factory=Patches)

    @property
    def settings(self) -> Any:
        return self.handle.plan.settings

    def stand_aside(self) -> None:
        self.is_aside = True
        self.handle.warn(ASIDE)


def guarded(run: Run, work: Callable[[], Any]) -> Any:
    """Store an error and stop the sampling with the host's own interruption; `p.sample` raises it again."""
    from modules import sd_samplers_common

    try:
        return work()
    except Exception as error:
        run.current, run.error = None, error
        raise sd_samplers_common.InterruptedException from error


def make_pass(p: Any, run: Run) -> Pass:
    """The sites of the UNet in use, K and V of the tokens, the probe's words, the identity prompt."""
    settings, adapter, unet = run.settings, run.handle.plan.adapter, model.unet_of(p)
    if run.unet is not unet or run.branch is None:
        run.unet, run.sites = unet, enumerate_sites(unet)
        run.branch = IdentityBranch(adapter.spec, adapter.weights, run.tokens, [site.site for site in run.sites])
    current = Pass(p, Probe(run.sites, *words.probe_contexts(p, settings.subject)))
    prompts = words.identity_prompts(settings, run.handle.plan.identity.gender, p.prompts)
    if prompts is not None:
        current.id_entry = model.compile_cond(words.encode(p, prompts))
    if settings.refine_head:
        side = look.near_side(p)
        near = words.encode(p, words.near_prompts(p, prompts or p.prompts), (side, side))
        current.near_entry = model.compile_cond(near)
    return current


def register(p: Any, run: Run) -> None:
    """Hang the modifier on a clone of the patcher, as the family's scripts do, and announce the rows it will add."""
    objects = p.sd_model.forge_objects
    before = objects.unet
    unet = before.clone()
    modifier = make_modifier(run)
    unet.add_conditioning_modifier(modifier)
    batch = 0 if run.noise is None else len(run.noise)
    wanted = adapter_bytes(run) + (model.extra_memory(unet, run.noise, batch) if run.noise is not None else 0)
    unet.add_extra_preserved_memory_during_sampling(wanted)
    objects.unet = unet

    def undo() -> None:
        modifier.run.clear()  # type: ignore[attr-defined]  clones that others keep hold no run of ours
        if objects.unet is unet:
            objects.unet = before
            return
        options = objects.unet.model_options  # cloned once more by another script
        if modifier in options.get(MODIFIERS, []):
            options[MODIFIERS] = [m for m in options[MODIFIERS] if m is not modifier]
            if not options[MODIFIERS]:
                del options[MODIFIERS]
            objects.unet.extra_preserved_memory_during_sampling -= wanted

    run.undo.append(undo)


def adapter_bytes(run: Run) -> int:
    """What the adapter's LoRA takes on the UNet's device; K and V of a few tokens are nothing beside it."""
    tensors = run.handle.plan.adapter.weights.ip_adapter
    return sum(t.numel() * t.element_size() for name, t in tensors.items() if "lora" in name)


def make_modifier(run: Run) -> Callable:
    """The conditioning modifier of one pass; once its `run` is emptied it does nothing any more."""
    holder = [run]

    def modifier(*given: Any) -> Any:
        if not holder or holder[0].is_aside:
            return given
        return guarded(holder[0], lambda: extend(holder[0], *given))

    modifier.run = holder  # type: ignore[attr-defined]
    return modifier


def put_last(p: Any) -> None:
    """Behind all other modifiers: those that call the model themselves then see the host's conds alone."""
    options = p.sd_model.forge_objects.unet.model_options
    ours = [m for m in options.get(MODIFIERS, []) if hasattr(m, "run")]
    if ours:
        options[MODIFIERS] = [m for m in options[MODIFIERS] if m not in ours] + ours


def extend(  # noqa: PLR0913  the host's own arguments
    run: Run,
    net: Any,
    x: Tensor,
    timestep: Tensor,
    uncond: list[Entry] | None,
    cond: list[Entry],
    cond_scale: float,
    model_options: dict[str, Any],
    seed: Any,
) -> tuple:
    """The modifier's work at one level: outside the window nothing; inside, the identity's conds and the fusion."""
    current, settings, level = run.current, run.settings, float(timestep.flatten()[0])
    given = (net, x, timestep, uncond, cond, cond_scale, model_options, seed)
    if current is None or net.diffusion_model is not run.unet:
        return given
    if current.state is None:
        current.state = RunState(settings, Schedule.from_levels(run.levels or [level], first=level))
    if not settings.weight or not current.state.active(level):
        return given
    weights, batch = [float(entry.get("strength", 1.0)) for entry in cond], len(x)
    options, total = dict(model_options), sum(weights)
    if not current.state.wants_identity_line(level):
        fuse_before_cfg(run, None, options, cond_scale, total, list, uncond)
        return (*given[:6], options, seed)
    probe = current.probe if settings.mask_mode == "adaptive" else None
    own = weights if current.id_entry is None else [1.0]
    step = Step(batch, weights, own, run.sites, run.branch, settings.weight, probe)  # type: ignore[arg-type]
    entries = [tagged(entry, 1 + k, batch) for k, entry in enumerate(cond)]
    entries += [identity_entry(entry, k, batch, current.id_entry) for k, entry in enumerate(cond[: len(own)])]
    negative = None if uncond is None else [tagged(entry, UNCOND, batch) for entry in uncond]

    def restore() -> None:
        """What the guidance functions are shown, and may call the model with again, is the host's own."""
        entries[:] = cond
        if negative is not None:
            negative[:] = uncond

    options["model_function_wrapper"] = guarded_wrapper(
        run, watching_wrapper(step, model_options.get("model_function_wrapper"))
    )
    fuse_before_cfg(run, step, options, cond_scale, total, restore, uncond)
    return net, x, timestep, negative, entries, cond_scale, options, seed


def guarded_wrapper(run: Run, wrapper: Callable) -> Callable:
    return lambda apply_model, args: guarded(run, lambda: wrapper(apply_model, args))


def fuse_before_cfg(  # noqa: PLR0913
    run: Run,
    step: Step | None,
    options: dict[str, Any],
    cond_scale: float,
    total: float,
    restore: Callable,
    uncond: list[Entry] | None,
) -> None:
    """Let the host's guidance see D_s + delta: through the guidance function that is there, which need not be linear;
    else what its own formula makes of delta is added behind it."""
    guidance = options.get("sampler_cfg_function")
    strength = 1.0 if math.isclose(total, 1.0) else total

    def gain_of(args: dict[str, Any]) -> float:
        return 1.0 if args["uncond_denoised"] is None else float(args.get("cond_scale", cond_scale)) * strength

    def delta_of(args: dict[str, Any], denoised: Tensor) -> Tensor:
        restore()
        return guarded(run, lambda: compute(run, step, args, Guided(denoised, gain_of(args), cond_scale, uncond)))

    if guidance is not None:

        def fused_guidance(args: dict[str, Any]) -> Tensor:
            semantic, uncond_denoised = args["cond_denoised"], args["uncond_denoised"]
            base = semantic if uncond_denoised is None else uncond_denoised
            linear = base + gain_of(args) * (semantic - base)
            denoised = semantic + delta_of(args, linear).to(semantic.dtype)
            return guidance({**args, "cond_denoised": denoised, "cond": args["input"] - denoised})

        options["sampler_cfg_function"] = fused_guidance
        return

    def fused_result(args: dict[str, Any]) -> Tensor:
        return args["denoised"] + (gain_of(args) * delta_of(args, args["denoised"])).to(args["denoised"].dtype)

    options["sampler_post_cfg_function"] = [fused_result, *options.get("sampler_post_cfg_function", [])]


def compute(run: Run, step: Step | None, args: dict[str, Any], guided: Guided) -> Tensor:
    """delta of eq. 8 for this level, in x0 space, as everything on these hosts."""
    current = run.current
    semantic, level = args["cond_denoised"], float(args["sigma"].flatten()[0])
    nothing = torch.zeros_like(semantic)
    if current is None or current.state is None:
        return nothing
    if step is None:
        delta = current.state.reuse(semantic)
    elif step.is_cut_up:
        run.stand_aside()
        return nothing
    else:
        uncond = args["uncond_denoised"] if step.has_uncond else None
        lines = Lines(semantic, step.identity(), uncond)
        refuse_nan(lines.identity, level)  # a map of NaN would be an empty mask
        delta = current.state.fuse(level, lines, step.compose_readings())
        run.handle.identity_rows += step.rows
    if current.state.may_look:
        delta = look_closer(run, args, delta, guided)
    refuse_nan(delta, level)
    if current.state.fused_mask is not None:
        run.handle.masks = [m[0].cpu().numpy() for m in current.state.fused_mask.float()]
    return delta
