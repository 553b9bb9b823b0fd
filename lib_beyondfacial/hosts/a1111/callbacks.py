"""A1111's part of a request: two denoiser callbacks, registered once, that act only if `p` has a run."""

from __future__ import annotations

from ..run import ATTRIBUTE, Run, guarded, run_of
from ..types import DenoisedParams, DenoiserParams, Processing
from .controlnet import find_network, reference_unwatched
from .denoiser import begin_step, end_step, finish_step
from .identity_units import A1111Unit
from .model import A1111Host, refuse_unfit, unet_of
from .neighbours import find_call_splitter, warning_for

__all__ = [
    "UNITS_ON",
    "attach",
    "before_launch",
    "install_callbacks",
    "make_host",
    "make_unit",
    "refuse_unfit",
    "unet_of",
]

make_host, make_unit = A1111Host, A1111Unit
UNITS_ON = False


def install_callbacks() -> None:
    from modules import script_callbacks

    script_callbacks.on_cfg_denoiser(on_cfg_denoiser)
    script_callbacks.on_cfg_denoised(on_cfg_denoised)


def attach(p: Processing, run: Run) -> None:
    """Register `end_step` for the end of the pass; it detaches what a level has attached."""
    run.scope.callback(end_step, run)


def before_launch(p: Processing, run: Run) -> None:
    """Switch the identity off beside extensions that split model calls; keep our hooks off a reference unit's call."""
    name = find_call_splitter(p)
    if name is not None:
        run.report.warn_not_acting(warning_for(name))
        run.release()
        return
    network = find_network(p)
    if network is not None:
        run.scope.enter_context(reference_unwatched(network, unet_of(p)))


def on_cfg_denoiser(params: DenoiserParams) -> None:
    """Before the host's model call: attach the probe if the identity may act at this level."""
    run = run_of(getattr(params.denoiser, "p", None))
    if run is not None and run.sampling is not None:
        guarded(run, lambda: begin_step(run, params))


def on_cfg_denoised(params: DenoisedParams) -> None:
    """After the host's model call: evaluate the identity lines, and add delta to the cond rows in place."""
    run = params.inner_model.__dict__.pop(ATTRIBUTE, None)
    if run is not None:
        guarded(run, lambda: finish_step(run, params))
