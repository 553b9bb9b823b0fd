"""The seam to Automatic1111: two denoiser callbacks, a wrapped `p.sample`, a wrapped `launch_sampling` for the start.

Nothing is registered per run; what a run attaches comes off in the `finally` of its `p.sample`.
"""

from __future__ import annotations

import functools
from typing import Any

from torch import Tensor

from ..adapters.branch import check_fits
from ..errors import BeyondFacialError
from ..method.engine import RunState
from ..method.schedule import Schedule
from . import a1111_model as model
from .a1111_pass import RUN, Run, finish_pass, fuse, prepare
from .a1111_start import edit_start
from .plan import RunHandle, RunPlan
from .unet_sites import enumerate_sites


def install_callbacks() -> None:
    """Register the two denoiser callbacks; called when the script is loaded. Without a run they return at once."""
    from modules import script_callbacks

    script_callbacks.on_cfg_denoiser(on_cfg_denoiser)
    script_callbacks.on_cfg_denoised(on_cfg_denoised)


def run_of(p: Any) -> Run | None:
    return getattr(p, RUN, None)


def handle_of(p: Any) -> RunHandle | None:
    run = run_of(p)
    return run.handle if run else None


def begin(p: Any, plan: RunPlan) -> RunHandle:
    """Prepare a run on `p` (in `process`). Raises BeyondFacialError where this model or adapter cannot do it."""
    end(p)
    model.refuse_unfit(p)
    run = Run(RunHandle(plan), plan.tokens)
    run.handle.warnings.extend(plan.identity.warnings)
    check_fits(plan.adapter.spec, [site.site for site in enumerate_sites(model.unet_of(p))], plan.adapter.name)
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
    run.levels, run.noise = None, noise
    run.handle.masks, run.handle.boxes = [], []
    name = "get_sigmas" if hasattr(p.sampler, "get_sigmas") else "get_timesteps"
    original = getattr(p.sampler, name)

    def noting(*args: Any, **kwargs: Any) -> Any:
        levels = original(*args, **kwargs)
        run.levels = [float(v) for v in levels]
        return levels

    run.patches.lay(p.sampler, name, noting)
    if run.settings.idap_strength > 0 and model.starts_from_noise(p):
        wrap_launch(p, run)


def wrap_launch(p: Any, run: Run) -> None:
    """The start is edited where model and conds are ready: just before the sampler runs."""
    sampler = p.sampler
    launch = sampler.launch_sampling

    def launching(steps: int, func: Any) -> Any:
        try:
            if ever_acts(run):
                edit_start(p, run, sampler)
        except Exception as error:  # an interruption would not be caught out here; `p.sample` raises this again
            run.error = error
            return sampler.last_latent
        return launch(steps, func)

    run.patches.lay(sampler, "launch_sampling", launching)


def ever_acts(run: Run) -> bool:
    """Whether the identity acts at any level of the pass; if it never does, its start is not prepended either."""
    state = RunState(run.settings, Schedule.from_levels(run.levels or [1.0]))
    return run.settings.weight > 0 and any(state.active(level) for level in state.schedule.levels)


def release_sampler(run: Run) -> None:
    """The sampler is the host's alone again."""
    run.patches.undo()
    run.noise = None


def guarded(run: Run, work: Any) -> Any:
    """Store an error and stop the sampling with the host's own interruption; `p.sample` raises it again."""
    from modules import sd_samplers_common

    try:
        return work()
    except Exception as error:
        finish_pass(run)
        run.error = error
        raise sd_samplers_common.InterruptedException from error


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
