"""The seam to the Forge family (Forge, reForge, Forge Classic): an extra line in the host's own batch.

A conditioning modifier on a clone of the UNet's patcher adds the identity line; `p.sample` is wrapped so that it comes
off on every exit, `launch_sampling` for the start.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ..adapters.branch import check_fits
from . import forge_model as model
from .forge_pass import RUN, Run, make_pass, put_last, register
from .forge_start import edit_start
from .plan import RunHandle, RunPlan
from .requests import fail_request, unwrap_sample, wrap_sample
from .start import ever_acts
from .unet_sites import enumerate_sites

__all__ = ["before_sampling", "begin", "end", "fail_request", "handle_of", "install_callbacks", "run_of"]

TILERS = ("multidiffusion", "tiled_diffusion", "tileddiffusion")


def install_callbacks() -> None:
    """Register the denoiser callback; called when the script is loaded. Without a run it returns at once."""
    from modules import script_callbacks

    script_callbacks.on_cfg_denoiser(on_cfg_denoiser)


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


def release(run: Run) -> None:
    """Nothing of ours is registered any more; patcher and sampler are the host's alone again."""
    while run.undo:
        run.undo.pop()()
    run.patches.undo()
    run.current = run.noise = None


def before_sampling(p: Any, noise: Tensor | None) -> None:
    """In `process_before_every_sampling`: which comes twice for one pass in some hires passes, so it starts afresh."""
    run = run_of(p)
    if run is None:
        return
    try:
        follow_sampler(p, run, noise)
    except Exception as error:  # the hosts swallow it here; `p.sample` raises it again
        run.error = error


def follow_sampler(p: Any, run: Run, noise: Tensor | None) -> None:
    """Note the schedule of the pass that begins on `p.sampler`, and register for it."""
    release(run)
    run.levels, run.noise, run.is_aside = None, noise, False
    run.handle.masks, run.handle.boxes = [], []
    wrap_launch(p, run)
    note_levels(p, run)
    settings = run.settings
    if settings.weight > 0 and settings.mask_strength > 0 and settings.start < settings.stop:
        # Before the UNet is loaded: the text encoder could push it out again.
        run.current = make_pass(p, run)
        register(p, run)


def note_levels(p: Any, run: Run) -> None:
    """Note the pass's sigmas when its sampler asks for them."""
    is_timestep = not hasattr(p.sampler, "get_sigmas")
    name = "get_timesteps" if is_timestep else "get_sigmas"
    original = getattr(p.sampler, name)

    def noting(*args: Any, **kwargs: Any) -> Any:
        levels = original(*args, **kwargs)
        run.levels = model.levels_to_sigmas(p, levels) if is_timestep else [float(v) for v in levels]
        return levels

    run.patches.lay(p.sampler, name, noting)


def wrap_launch(p: Any, run: Run) -> None:
    """Just before the sampler runs: all scripts have registered, model and conds are ready for the start's edit."""
    sampler = p.sampler
    launch = sampler.launch_sampling

    def launching(steps: int, func: Any) -> Any:
        try:
            if run.error is None and run.current is not None:
                put_last(p)
                if tiler_on(p):
                    run.stand_aside()
                elif prepends(p, run):
                    edit_start(p, run, sampler)
        except Exception as error:
            run.error = error
        # An interruption would not be caught out here; `p.sample` raises the error.
        return launch(steps, func) if run.error is None else sampler.last_latent

    run.patches.lay(sampler, "launch_sampling", launching)


def prepends(p: Any, run: Run) -> bool:
    """Only a pass that starts from noise, and in which the identity acts, gets an identity in its start."""
    return run.settings.idap_strength > 0 and model.starts_from_noise(p) and ever_acts(run.settings, run.levels)


def tiler_on(p: Any) -> bool:
    """Whether a tiler has taken the UNet's call; the first call would tell as well, but the start is edited before."""
    wrapper = p.sd_model.forge_objects.unet.model_options.get("model_function_wrapper")
    source = f"{getattr(wrapper, '__module__', '')}.{type(wrapper).__module__}.{type(wrapper).__name__}".lower()
    return any(name in source for name in TILERS)


def on_cfg_denoiser(params: Any) -> None:
    """Before the host's model call: say so where the refiner has taken the model, and our modifier with it, away."""
    p = getattr(params.denoiser, "p", None)
    run = run_of(p)
    if run is None or run.current is None or run.current.state is None:
        return
    if run.current.state.active(float(params.sigma.flatten()[0])) and model.unet_of(p) is not run.unet:
        run.handle.warn(
            "BeyondFacial: the refiner took over; the identity ends there, as the adapter belongs to the first model."
        )
