"""One sampling pass in A1111: the probe on the host's model call, the identity line as a second `inner_model` call.

delta is added in place into the host's cond rows, before its CFG.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..adapters.branch import IdentityBranch
from ..method.engine import Lines, Readings, RunState
from ..method.schedule import Schedule
from . import a1111_model as model
from . import look, words
from .a1111_look import look_closer
from .and_prompts import add_to_cond_rows, compose, compose_maps
from .patches import Patches
from .plan import RunHandle
from .requests import refuse_nan
from .unet_sites import AttentionSite, BranchHooks, Probe, RowLedger, count_rows, enumerate_sites, hooked, remove

RUN = "_beyondfacial_run"


@dataclass(eq=False)
class Pass:
    """One sampling pass: its state, and what is attached during one model call."""

    denoiser: Any
    state: RunState
    probe: Probe
    level: float = 0.0
    params: Any = None
    ledger: RowLedger | None = None
    handles: list = field(default_factory=list)
    id_cond: Any = None
    near_cond: Any = None


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
    error: BaseException | None = None
    patches: Patches = field(default_factory=Patches)

    @property
    def settings(self) -> Any:
        return self.handle.plan.settings


def prepare(run: Run, params: Any) -> None:
    """Find or make the pass, decide whether this level is in the window, attach the probe."""
    denoiser = params.denoiser
    level = float(params.sigma.flatten()[0])
    if run.current is None or run.current.denoiser is not denoiser:
        run.current = make_pass(run, denoiser, level)
    current = run.current
    if not run.settings.weight or not current.state.active(level):
        return
    if model.unet_of(denoiser.p) is not run.unet:
        run.handle.warn(
            "BeyondFacial: the refiner took over; the identity ends there, as the adapter belongs to the first model."
        )
        return
    current.level, current.params = level, params
    current.ledger = RowLedger(params.x.shape[0] - params.text_uncond.shape[0])
    if run.settings.mask_mode == "adaptive" and current.state.wants_identity_line(level):
        current.handles = current.probe.attach(current.ledger)
    else:
        current.handles = [count_rows(run.sites, current.ledger)]
    denoiser.inner_model.__dict__[RUN] = run


def make_pass(run: Run, denoiser: Any, level: float) -> Pass:
    """A fresh RunState, the sites of the UNet in use, K and V of the tokens, the probe's keys."""
    p, settings, adapter = denoiser.p, run.settings, run.handle.plan.adapter
    unet = model.unet_of(p)
    if run.unet is not unet or run.branch is None:
        run.unet, run.sites = unet, enumerate_sites(unet)
        run.branch = IdentityBranch(adapter.spec, adapter.weights, run.tokens, [site.site for site in run.sites])
    schedule = Schedule.from_levels(run.levels or [level], first=level)
    probe = Probe(run.sites, *words.probe_contexts(p, settings.subject))
    current = Pass(denoiser, RunState(settings, schedule), probe)
    prompts = words.identity_prompts(settings, run.handle.plan.identity.gender, p.prompts)
    if prompts is not None:
        current.id_cond = words.encode(p, prompts)
    if current.state.may_look:
        side = look.near_side(p)
        current.near_cond = words.encode(p, words.near_prompts(p, prompts or p.prompts), (side, side))
    return current


def fuse(run: Run, params: Any) -> None:
    """delta = the engine's answer for this level, added to the host's cond rows in place (docs/method.md eq. 8)."""
    current = run.current
    seen, state = current.params, current.state
    remove(current.handles)
    rows, batch = current.ledger.count, seen.text_uncond.shape[0]
    weights = model.prompt_weights(current.denoiser, rows, batch)
    uncond = params.x[-batch:] if current.ledger.seen > rows else None
    semantic = compose(params.x[:rows], uncond, weights)
    to_x0 = model.x0_per_prediction(current.denoiser, current.level)
    if state.wants_identity_line(current.level):
        identity, energy = evaluate_identity(run, params.inner_model, uncond, weights)
        refuse_nan(identity, current.level)  # a map of NaN would be an empty mask
        readings = Readings(
            head=[compose_maps(r, weights) for r in current.probe.result(words.HEAD)],
            person=[compose_maps(r, weights) for r in current.probe.result(words.PERSON)],
            energy=energy,
        )
        delta = state.fuse(current.level, Lines(semantic, identity, uncond), readings, to_x0)
    else:
        delta = state.reuse(semantic, to_x0)
    if state.may_look:
        delta = look_closer(run, params, delta, semantic)
    refuse_nan(delta, current.level)
    add_to_cond_rows(params.x, delta, weights)
    current.params = None
    run.handle.masks = [m[0].cpu().numpy() for m in state.fused_mask.float()]


def evaluate_identity(
    run: Run, inner_model: Any, uncond: Tensor | None, weights: list[list[float]]
) -> tuple[Tensor, list[Tensor]]:
    """D_i of eq. 2, composed as the host composes D_s, and the branch's energy per site and image."""
    current, seen = run.current, run.current.params
    rows, batch = current.ledger.count, seen.text_uncond.shape[0]
    x, sigma, image_cond, cond = seen.x[:rows], seen.sigma[:rows], seen.image_cond[:rows], seen.text_cond
    if current.id_cond is not None:
        firsts = torch.tensor([sum(len(w) for w in weights[:i]) for i in range(batch)], device=x.device)
        x, sigma, image_cond, cond, weights = (
            x[firsts],
            sigma[firsts],
            image_cond[firsts],
            current.id_cond,
            [[1.0]] * batch,
        )
    hooks = BranchHooks(run.sites, run.branch, run.settings.weight)
    with hooked(hooks.attach()):
        step = len(x) if model.batches_cond_uncond() else batch
        parts = [
            inner_model(x[a : a + step], sigma[a : a + step], cond=model.cond_dict(cond, image_cond, a, a + step))
            for a in range(0, len(x), step)
        ]
    hooks.check_fired()
    run.handle.identity_rows += len(x)
    return compose(torch.cat(parts), uncond, weights), [compose_maps(e, weights) for e in hooks.energy()]


def finish_pass(run: Run) -> None:
    """Whatever a pass still has attached comes off; its state is gone."""
    if run.current is not None:
        remove(run.current.handles)
        wrap = run.current.denoiser.model_wrap
        if wrap is not None:
            wrap.__dict__.pop(RUN, None)
    run.current = None
