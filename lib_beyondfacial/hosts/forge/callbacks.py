"""The Forge family's part of a request: one denoiser callback, and a conditioning modifier for each pass."""

from __future__ import annotations

from ...errors import BeyondFacialError
from ..run import Run, run_of
from ..types import DenoiserParams, Processing
from .identity_units import ForgeUnit
from .model import ForgeHost, unet_of
from .modifier import attach, disable_for_tiling, is_tiler_on, move_ours_last
from .served import FLOW, is_flow, refuse_unfit

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

make_host, make_unit = ForgeHost, ForgeUnit
UNITS_ON = True


def install_callbacks() -> None:
    from modules import script_callbacks

    script_callbacks.on_cfg_denoiser(on_cfg_denoiser)


def before_launch(p: Processing, run: Run) -> None:
    """Called just before the sampler runs, when all scripts have registered their functions."""
    if is_flow(p.sd_model.forge_objects.unet):  # by another script, since the pass began
        raise BeyondFacialError(FLOW)
    move_ours_last(p)
    if is_tiler_on(p):
        disable_for_tiling(run)


def on_cfg_denoiser(params: DenoiserParams) -> None:
    """Before the host's model call: warn if the refiner has replaced the model and so our modifier."""
    run: Run | None = run_of(getattr(params.denoiser, "p", None))
    if run is not None and run.sampling is not None and run.sampling.schedule is not None:
        run.sampling.may_act(float(params.sigma.flatten()[0]))
