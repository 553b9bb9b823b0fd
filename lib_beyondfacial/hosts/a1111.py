"""The seam to Automatic1111: two denoiser callbacks, a wrapped `p.sample`, a wrapped `launch_sampling` for the start.

Nothing is registered per run; what a run attaches comes off in the `finally` of its `p.sample`.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ..adapters.branch import check_fits
from . import a1111_model as model
from .a1111_pass import RUN, Run, finish_pass, fuse, prepare
from .a1111_start import edit_start
from .plan import RunHandle, RunPlan
from .requests import fail_request, unwrap_sample, wrap_sample
from .start import ever_acts
from .unet_sites import enumerate_sites

__all__ = ["before_sampling", "begin", "end", "fail_request", "handle_of", "install_callbacks", "run_of"]


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
    wrap_sample(p, run, lambda: release(run), lambda: end(p))
    return run.handle


def end(p: Any) -> None:
    """Take everything of ours off `p`."""
    run = run_of(p)
    if run is not None:
        release(run)
        delattr(p, RUN)
    unwrap_sample(p)


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
    release(run)
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
            if ever_acts(run.settings, run.levels):
                edit_start(p, run, sampler)
        except Exception as error:  # an interruption would not be caught out here; `p.sample` raises this again
            run.error = error
            return sampler.last_latent
        return launch(steps, func)

    run.patches.lay(sampler, "launch_sampling", launching)


def release(run: Run) -> None:
    """Nothing of ours is attached any more; the sampler is the host's alone again."""
    finish_pass(run)
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
