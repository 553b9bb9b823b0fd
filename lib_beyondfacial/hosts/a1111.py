"""The seam to Automatic1111: two denoiser callbacks, a wrapped `p.sample`, a wrapped `launch_sampling` for the start.

The identity line is a second `inner_model` call from `cfg_denoised`; delta is added in place into the cond rows.
Nothing is registered per run; what a run attaches comes off in the `finally` of its `p.sample`.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..adapters.branch import IdentityBranch, check_fits
from ..adapters.projections import project_identity
from ..errors import BeyondFacialError
from ..method.engine import Lines, Readings, RunState
from ..method.schedule import Schedule
from . import a1111_model as model
from .a1111_start import edit_start
from .plan import RunHandle, RunPlan
from .unet_sites import AttentionSite, BranchHooks, Probe, RowLedger, enumerate_sites, hooked, remove

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
    sampler: Any = None

    @property
    def settings(self) -> Any:
        return self.handle.plan.settings


def install_callbacks() -> None:
    """Register the two denoiser callbacks; called once when the script is loaded. Without a run they return at once."""
    from modules import script_callbacks

    script_callbacks.on_cfg_denoiser(on_cfg_denoiser)
    script_callbacks.on_cfg_denoised(on_cfg_denoised)


def run_of(p: Any) -> Run | None:
    return getattr(p, RUN, None)


def handle_of(p: Any) -> RunHandle | None:
    run = run_of(p)
    return run.handle if run else None


# ---- a request's beginning and end ------------------------------------------------------------------------------------


def begin(p: Any, plan: RunPlan) -> RunHandle:
    """Prepare a run on `p` (in `process`). Raises BeyondFacialError where this model or adapter cannot do it."""
    end(p)
    model.refuse_unfit(p)
    spec, weights = plan.adapter.spec, plan.adapter.weights
    embedding = torch.from_numpy(plan.identity.embedding).float()[None]
    run = Run(RunHandle(plan), project_identity(spec, weights, embedding))
    run.handle.warnings.extend(plan.identity.warnings)
    check_fits(spec, [site.site for site in enumerate_sites(model.unet_of(p))], plan.adapter.name)
    setattr(p, RUN, run)
    wrap_sample(p, run)
    return run.handle


def end(p: Any) -> None:
    """Take everything of ours off `p`."""
    run = run_of(p)
    if run is not None:
        finish_pass(run)
        release_sampler(run)
        delattr(p, RUN)
    unwrap_sample(p)


def fail_request(p: Any, message: str) -> None:
    """Make the host fail this request with the sentence: 422 in the API, under the picture on the page.

    Exceptions of scripts are swallowed by the hosts; what `p.sample` raises is not.
    """
    unwrap_sample(p)

    def sample(*args: Any, **kwargs: Any) -> None:
        unwrap_sample(p)
        raise_to_user(p, message)

    sample._beyondfacial = True  # type: ignore[attr-defined]
    p.sample = sample


def raise_to_user(p: Any, message: str) -> None:
    if getattr(p, "is_api", False):
        from fastapi import HTTPException

        raise HTTPException(status_code=422, detail=message)
    raise BeyondFacialError(message)


def wrap_sample(p: Any, run: Run) -> None:
    """Chain `p.sample`: whatever happens inside, our hooks come off; an error of ours becomes the request's."""
    unwrap_sample(p)
    before = p.__dict__.get("sample")
    original = p.sample

    @functools.wraps(original)
    def sample(*args: Any, **kwargs: Any) -> Any:
        try:
            result = original(*args, **kwargs)
        finally:
            finish_pass(run)
            release_sampler(run)
        if run.error is not None:
            error, run.error = run.error, None
            end(p)
            if isinstance(error, BeyondFacialError):
                raise_to_user(p, str(error))
            raise error
        return result

    sample._beyondfacial = True  # type: ignore[attr-defined]
    sample._before = before  # type: ignore[attr-defined]
    p.sample = sample


def unwrap_sample(p: Any) -> None:
    """Put back what `p.sample` was; the copies of `p` that grids make come with our wrapper on them."""
    wrapper = p.__dict__.get("sample")
    if getattr(wrapper, "_beyondfacial", False):
        del p.__dict__["sample"]
        if getattr(wrapper, "_before", None) is not None:
            p.sample = wrapper._before


def before_sampling(p: Any, noise: Tensor | None) -> None:
    """In `process_before_every_sampling`: note the pass's schedule, and in txt2img's first pass edit the start."""
    run = run_of(p)
    if run is None:
        return
    try:
        follow_sampler(p, run, noise)
    except Exception as error:  # the hosts swallow it here; `p.sample` raises it again
        run.error = error


def follow_sampler(p: Any, run: Run, noise: Tensor | None) -> None:
    """Note the schedule of the pass that begins on `p.sampler`, and hang the start's edit on it."""
    finish_pass(run)
    release_sampler(run)
    run.sampler, run.levels, run.noise = p.sampler, None, noise
    run.handle.masks, run.handle.boxes = [], []
    name = "get_sigmas" if hasattr(p.sampler, "get_sigmas") else "get_timesteps"
    original = getattr(p.sampler, name)

    def noting(*args: Any, **kwargs: Any) -> Any:
        levels = original(*args, **kwargs)
        run.levels = [float(v) for v in levels]
        return levels

    setattr(p.sampler, name, noting)
    if run.settings.idap_strength > 0 and model.starts_from_noise(p):
        wrap_launch(p, run)


def wrap_launch(p: Any, run: Run) -> None:
    """The start is edited where model and conds are ready: just before the sampler runs."""
    sampler = p.sampler
    launch = sampler.launch_sampling

    def launching(steps: int, func: Any) -> Any:
        guarded(run, lambda: edit_start(p, run, sampler))
        return launch(steps, func)

    sampler.launch_sampling = launching


def release_sampler(run: Run) -> None:
    """Take the instance attributes off the sampler; its class's own methods show again."""
    for name in ("get_sigmas", "get_timesteps", "launch_sampling"):
        if run.sampler is not None:
            run.sampler.__dict__.pop(name, None)
    run.sampler = run.noise = None


def guarded(run: Run, work: Any) -> Any:
    """Store an error and stop the sampling with the host's own interruption; `p.sample` raises it again."""
    from modules import sd_samplers_common

    try:
        return work()
    except Exception as error:
        finish_pass(run)
        run.error = error
        raise sd_samplers_common.InterruptedException from error


# ---- within a pass ----------------------------------------------------------------------------------------------------


def on_cfg_denoiser(params: Any) -> None:
    """Before the host's model call: hang the probe on it, if the identity may act at this level."""
    run = run_of(getattr(params.denoiser, "p", None))
    if run is not None:
        guarded(run, lambda: prepare(run, params))


def on_cfg_denoised(params: Any) -> None:
    """After the host's model call: evaluate the identity line, add delta to the cond rows in place."""
    run = params.inner_model.__dict__.pop(RUN, None)
    if run is not None:
        guarded(run, lambda: fuse(run, params))


def prepare(run: Run, params: Any) -> None:
    """Find or make the pass, decide whether this level is in the window, attach the probe."""
    denoiser = params.denoiser
    level = float(params.sigma.flatten()[0])
    if run.current is None or run.current.denoiser is not denoiser:
        run.current = make_pass(run, denoiser, level)
    current = run.current
    if not run.settings.mask_strength or not current.state.active(level):
        return
    if model.unet_of(denoiser.p) is not run.unet:
        run.handle.warn("BeyondFacial: the refiner took over; the identity ends there, since the adapter belongs to the first model.")
        return
    current.level, current.params = level, params
    current.ledger = RowLedger(params.x.shape[0] - params.text_uncond.shape[0])
    if run.settings.mask_mode == "adaptive" and current.state.wants_identity_line(level):
        current.handles = current.probe.attach(current.ledger)
    else:
        current.handles = [count_rows(run.sites[0], current.ledger)]
    denoiser.inner_model.__dict__[RUN] = run


def count_rows(site: AttentionSite, ledger: RowLedger) -> Any:
    """The ledger alone, where no map is read: tells whether the host ran its uncond rows."""
    return site.attn2.to_q.register_forward_hook(lambda module, args, query: ledger.begin_call(query.shape[0]))


def make_pass(run: Run, denoiser: Any, level: float) -> Pass:
    """A fresh RunState, the sites of the UNet in use, K and V of the tokens, the probe's keys."""
    p, settings, adapter = denoiser.p, run.settings, run.handle.plan.adapter
    unet = model.unet_of(p)
    if run.unet is not unet or run.branch is None:
        run.unet, run.sites = unet, enumerate_sites(unet)
        run.branch = IdentityBranch(adapter.spec, adapter.weights, run.tokens, [site.site for site in run.sites])
    schedule = Schedule.from_levels(run.levels or [level], first=level)
    probe = Probe(run.sites, model.probe_contexts(p, settings.subject))
    current = Pass(denoiser, RunState(settings, schedule), probe)
    if settings.id_prompt:
        current.id_cond = model.encode(p, [settings.id_prompt.replace("{prompt}", prompt) for prompt in p.prompts])
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
        readings = Readings(
            head=[compose_maps(r, weights) for r in current.probe.result(model.HEAD)],
            person=[compose_maps(r, weights) for r in current.probe.result(model.PERSON)],
            energy=energy,
        )
        delta = state.fuse(current.level, Lines(semantic, identity, uncond), readings, to_x0)
    else:
        delta = state.reuse(semantic, to_x0)
    if not torch.isfinite(delta).all():
        raise BeyondFacialError(
            f"BeyondFacial: the identity line gave NaN at noise level {current.level:.3g}; lower the identity weight, "
            "or run the model in full precision (--no-half)."
        )
    add_to_cond_rows(params.x, delta, weights)
    current.params = None
    run.handle.masks = [m[0].cpu().numpy() for m in state.fused_mask.float()]


def evaluate_identity(run: Run, inner_model: Any, uncond: Tensor | None, weights: list[list[float]]) -> tuple[Tensor, list[Tensor]]:
    """D_i of eq. 2, composed as the host composes D_s, and the branch's energy per site and image."""
    current, seen = run.current, run.current.params
    rows, batch = current.ledger.count, seen.text_uncond.shape[0]
    x, sigma, image_cond, cond = seen.x[:rows], seen.sigma[:rows], seen.image_cond[:rows], seen.text_cond
    if current.id_cond is not None:
        firsts = torch.tensor([sum(len(w) for w in weights[:i]) for i in range(batch)], device=x.device)
        x, sigma, image_cond, cond, weights = x[firsts], sigma[firsts], image_cond[firsts], current.id_cond, [[1.0]] * batch
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


def compose(rows: Tensor, uncond: Tensor | None, weights: list[list[float]]) -> Tensor:
    """The host's own AND composition of cond rows: D_u + sum w_k (D_k - D_u); one row of weight 1 stays as it is."""
    out, at = [], 0
    for i, own in enumerate(weights):
        if own == [1.0]:
            out.append(rows[at])
        else:
            base = rows[at] if uncond is None else uncond[i]
            out.append(base + sum(w * (rows[at + k] - base) for k, w in enumerate(own)))
        at += len(own)
    return torch.stack(out)


def compose_maps(rows: Tensor, weights: list[list[float]]) -> Tensor:
    """Attention of an image's AND parts, averaged by their weights' size: (rows, n) -> (B, n)."""
    out, at = [], 0
    for own in weights:
        size = torch.tensor([abs(w) for w in own], device=rows.device)
        share = size / size.sum() if float(size.sum()) > 0 else torch.full_like(size, 1 / len(own))
        out.append((rows[at : at + len(own)] * share[:, None]).sum(0))
        at += len(own)
    return torch.stack(out)


def add_to_cond_rows(x: Tensor, delta: Tensor, weights: list[list[float]]) -> None:
    """Add delta once per image: to its heaviest AND part, divided by that part's weight, so that the sum gains delta."""
    at = 0
    for i, own in enumerate(weights):
        k = max(range(len(own)), key=lambda j: abs(own[j]))
        if own[k]:
            x[at + k] += (delta[i] / own[k]).to(x.dtype)
        at += len(own)


def finish_pass(run: Run) -> None:
    """Whatever a pass still has attached comes off; its state is gone."""
    if run.current is not None:
        remove(run.current.handles)
        wrap = run.current.denoiser.model_wrap
        if wrap is not None:
            wrap.__dict__.pop(RUN, None)
    run.current = None
