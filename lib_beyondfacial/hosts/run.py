"""One request on one `p` and its sampling passes, as far as A1111 and the Forge family agree."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import torch
from torch import Tensor, nn

from ..errors import BeyondFacialError
from ..sampling.host import BatchImage, Host
from ..sampling.plan import Plan
from ..sampling.report import Report
from ..sampling.sampling_pass import SamplingPass
from ..sampling.start_noise import find_scale
from ..unet.sites import enumerate_sites
from .identity_units import GivenUnit, UnitInjection, units_of
from .model import is_hires_pass, prompts_of, refuse_compiled
from .patches import Patches
from .types import Processing, Sampler

ATTRIBUTE = "_beyondfacial"  # of `p`; also of A1111's model wrapper during a model call
HIRES_WITHOUT = "BeyondFacial: the hires pass ran without the identity, as its checkpoint is another:"
MIN_LATENT = 4  # latent px of the shorter side; a head does not fit into less
FIRST_PASS_ALONE = (
    'BeyondFacial did not act: "hires_pass" is "first", and this run is the second pass alone; choose "both" or '
    '"second".'
)
TOO_SMALL = "BeyondFacial did not act: the picture is too small for a person; choose 64 px a side or more."
T = TypeVar("T")


class PassHost(Host, Protocol):
    """The host of one pass, with the functions that only the host adapters need."""

    def to_sigmas(self, levels: Tensor) -> list[float]:
        """Convert the sampler's levels to sigmas."""
        ...

    def counting_weight_loads(self) -> AbstractContextManager[None]:
        """Let model_key change with every state dict that is loaded into the UNet meanwhile."""
        ...

    def starts_from_noise(self) -> bool:
        """Whether this is the first pass of txt2img, on a model that starts from noise of finite sigma."""
        ...


@dataclass(eq=False)
class Run:
    """One request.

    owner: the `p` of request.begin. Copies of that `p` have the attribute as well, but no run.
    owner_data: data of the caller of request.begin.
    noise: the host's noise of the present pass, of unit variance.
    masks_before: by line, the masks that hires fix's first pass ended with; only during its second.
    batch: the number of the batch that is sampled.
    step: state of the host adapter between the two callbacks of one level.
    scope: what is attached for the present pass.
    error: met where the hosts swallow exceptions; `p.sample` raises it.
    """

    plan: Plan
    owner: weakref.ref[Processing]
    report: Report = field(default_factory=Report)
    owner_data: object = None
    host: PassHost | None = None
    sampling: SamplingPass | None = None
    noise: Tensor | None = None
    masks_before: Mapping[str, Tensor] = field(default_factory=dict)
    batch: int | None = None
    step: object = None
    scope: ExitStack = field(default_factory=ExitStack)
    error: BaseException | None = None

    def release(self) -> None:
        """Detach everything of ours from the host."""
        self.scope.close()
        self.host = self.sampling = self.noise = self.step = None


def run_of(p: Processing | None) -> Run | None:
    """The run that was begun on this `p`; None for a copy of it."""
    run = getattr(p, ATTRIBUTE, None)
    return run if run is not None and run.owner() is p else None


def is_copy_in_request(p: Processing) -> bool:
    """Whether `p` is a copy, made by another extension, of a request in progress."""
    run = getattr(p, ATTRIBUTE, None)
    owner = None if run is None else run.owner()
    return owner is not None and owner is not p


class Adapter(Protocol):
    """The functions of a host that hosts/request.py needs: the module a1111.callbacks or forge.callbacks."""

    UNITS_ON: bool  # whether a ControlNet unit of the API that does not say "enabled" is on

    def install_callbacks(self) -> None: ...

    def make_unit(self, given: GivenUnit) -> UnitInjection: ...

    def refuse_unfit(self, p: Processing) -> None: ...

    def unet_of(self, p: Processing) -> nn.Module: ...

    def make_host(self, p: Processing) -> PassHost: ...

    def attach(self, p: Processing, run: Run) -> None:
        """Register what this pass needs; closing run.scope removes it."""
        ...

    def before_launch(self, p: Processing, run: Run) -> None:
        """Called just before the sampler runs, when all scripts have registered their functions."""
        ...


def check_fits(p: Processing, plan: Plan, adapter: Adapter) -> None:
    """BeyondFacialError if the method, or an injection of the plan, does not fit the loaded model."""
    adapter.refuse_unfit(p)
    refuse_compiled(adapter.unet_of(p))
    sites = [each.site for each in enumerate_sites(adapter.unet_of(p))]
    for injection in (each for line in plan.lines for each in line.injections):
        injection.check_fits(sites)


def begin_pass(p: Processing, run: Run, adapter: Adapter, noise: Tensor | None) -> None:
    """Prepare the pass that begins on `p.sampler`; release the previous one (hosts announce some passes twice)."""
    run.release()
    patches = Patches()
    run.scope.callback(patches.undo)
    wrap_launch(patches, p, run, adapter)
    batch, is_hires = getattr(p, "iteration", 0), is_hires_pass(p)
    wanted, is_left_out = run.plan.parameters.hires_pass, False
    if wanted != "both" and getattr(p, "enable_hr", False):
        is_left_out = is_hires == (wanted == "first")
    if is_left_out and is_hires:  # what the first pass has reported holds, if there was one
        if run.batch != batch:
            run.report.begin_pass(False)
            run.report.warn_not_acting(FIRST_PASS_ALONE)
        return
    is_later = run.batch == batch and is_hires
    run.masks_before = (run.report.masks or run.masks_before) if is_later else {}
    run.report.begin_pass(is_later)
    run.batch = batch
    if is_left_out or not run.plan.can_act:
        return
    if noise is not None and min(noise.shape[-2:]) < MIN_LATENT:
        run.report.warn_not_acting(TOO_SMALL)
        return
    try:  # an override or the hires pass may have loaded another model
        check_fits(p, run.plan, adapter)
    except BeyondFacialError as error:
        if not is_hires:
            raise
        run.report.warn(f"{HIRES_WITHOUT} {str(error).removeprefix('BeyondFacial: ')}")
        return
    run.noise, run.host = noise, adapter.make_host(p)
    run.scope.enter_context(run.host.counting_weight_loads())
    run.sampling = SamplingPass(run.plan, run.host, images_of(p), run.report, run.masks_before)
    note_levels(patches, run, p.sampler)
    adapter.attach(p, run)


def images_of(p: Processing) -> list[BatchImage]:
    return [BatchImage(*each) for each in zip(*prompts_of(p), p.seeds, strict=False)]


def note_levels(patches: Patches, run: Run, sampler: Sampler) -> None:
    """Note the pass's levels when its sampler asks for them."""
    name = "get_sigmas" if hasattr(sampler, "get_sigmas") else "get_timesteps"
    original = getattr(sampler, name)

    def noting(*args: object, **kwargs: object) -> Tensor:
        levels = original(*args, **kwargs)
        if run.sampling is not None and run.host is not None:
            run.sampling.levels = run.host.to_sigmas(levels)
        return levels

    patches.set(sampler, name, noting)


def wrap_launch(patches: Patches, p: Processing, run: Run, adapter: Adapter) -> None:
    """Just before the sampler runs, when model, conds and ControlNet's units are ready: confine the units that draw
    persons, in passes without the identity, too, and edit the start."""
    sampler = p.sampler
    launch = sampler.launch_sampling

    def launching(steps: int, func: Callable) -> Tensor | None:
        try:
            if run.error is None and run.host is not None:
                adapter.before_launch(p, run)
            if run.error is None:
                confine_units(p, run)
                edit_start(run, sampler)
        except Exception as error:
            run.error = error
        # Do not raise the host's interruption: here the host would not catch it. `p.sample` raises the error.
        return launch(steps, func) if run.error is None else sampler.last_latent

    patches.set(sampler, "launch_sampling", launching)


def confine_units(p: Processing, run: Run) -> None:
    """Let the ControlNet units that draw persons act on their identity lines alone, until the pass ends."""
    units = units_of(run.plan)
    for unit in units:
        unit.find(p)
    for unit in units:
        run.scope.enter_context(unit.confined(p))


def edit_start(run: Run, sampler: Sampler) -> None:
    """Mix the identity into the start, if the pass starts from noise and the identity acts in it."""
    sampling, host, start = run.sampling, run.host, sampler.last_latent
    if sampling is None or host is None or not host.starts_from_noise() or not sampling.edits_start():
        return
    if start is None or run.noise is None or run.noise.shape != start.shape:
        run.report.warn("BeyondFacial: the start of this sampler could not be found; it was left as it is.")
        return
    sampling.edit_start(start, find_scale(run.noise, start))


def guarded(run: Run, work: Callable[[], T]) -> T:
    """Store an error and stop the sampling by the host's interruption; `p.sample` raises the error afterwards."""
    from modules import sd_samplers_common

    try:
        return work()
    except Exception as error:
        run.release()
        run.error = error
        raise sd_samplers_common.InterruptedException from error


def full_like_batch(x: Tensor, value: float, like: Tensor) -> Tensor:
    """One value for each row of x, on the device and in the dtype of `like`."""
    return torch.full((len(x),), value, device=like.device, dtype=like.dtype)
