"""One request on any host: begin, end, and fail with a message.

Hosts log exceptions of scripts and callbacks and go on with an ordinary picture; only exceptions of `p.sample` fail
the request. So an error is stored, the sampling is stopped by the host's interruption, and our wrapper of `p.sample`
raises the error.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import sys
import weakref
from collections.abc import Iterator
from types import FrameType
from typing import Any, cast

from torch import Tensor

from ..errors import BeyondFacialError
from ..method.head_details import finish_pictures
from ..sampling.plan import Plan
from ..settings import keys_to_labels
from .extensions import is_raised_by_us, sentence_of
from .identity_units import GivenUnit, UnitInjection, find_given
from .model import is_interrupted
from .run import ATTRIBUTE, Adapter, Run, begin_pass, check_fits, is_copy_in_request, run_of
from .types import Processing

CACHES_OF_CONDS = ("cached_c", "cached_uc", "cached_hr_c", "cached_hr_uc")  # of `p`: [key, conds]
FORGE_PACKAGE = "modules_forge"  # a module of every host in the family and of no other


def host_adapter() -> Adapter:
    """The adapter for the running host, a1111.callbacks or forge.callbacks; imported when first needed.

    It is chosen by the loaded modules, because at load time there is no `p` yet.
    """
    is_forge = FORGE_PACKAGE in sys.modules or importlib.util.find_spec(FORGE_PACKAGE) is not None
    return cast(Adapter, importlib.import_module(".forge.callbacks" if is_forge else ".a1111.callbacks", __package__))


def install_callbacks() -> None:
    """Register the host's denoiser callbacks, when the script is loaded. They do nothing if `p` has no run."""
    host_adapter().install_callbacks()


def find_unit(p: Processing, number: int) -> GivenUnit:
    """The ControlNet unit of this number; BeyondFacialError if there is none, it is off, or has no image."""
    return find_given(p, number, host_adapter().UNITS_ON)


def make_unit(given: GivenUnit) -> UnitInjection:
    """The injection of a ControlNet unit, which then acts on its identity line alone."""
    return host_adapter().make_unit(given)


def begin(p: Processing, plan: Plan, owner_data: object = None) -> Run:
    """Prepare a run on `p` (in `process`). Raises BeyondFacialError if the model or adapter does not fit."""
    end(p)
    check_fits(p, plan, host_adapter())
    run = Run(plan, weakref.ref(p), owner_data=owner_data)
    for person in (each for line in plan.lines for each in line.persons):
        for warning in person.warnings:
            run.report.warn(warning)
    setattr(p, ATTRIBUTE, run)
    wrap_sample(p, run)
    return run


def finish_batch(p: Processing, images: object) -> None:
    """In `postprocess_batch`: add the details of refined heads to the decoded pictures, (B, 3, H, W) in [0, 1].

    Not after an interrupt, which leaves unfinished pictures. The heads are let go, so no later batch meets them.
    """
    run = run_of(p)
    if run is None:
        return
    if isinstance(images, Tensor) and not is_interrupted():
        finish_pictures(images, run.report.drawn.values())
    run.report.drawn.clear()


def end(p: Processing) -> None:
    """Remove everything of ours from `p`, which scripts may use again or copy (loopback, X/Y/Z)."""
    run = run_of(p)
    if run is not None:
        run.release()
    p.__dict__.pop(ATTRIBUTE, None)
    unwrap_sample(p)


def leave_copy(p: Processing) -> bool:
    """Whether `p` is a copy, made by another extension, of a request in progress; our wrapper is removed from it.

    ADetailer calls all scripts with such copies in the middle of a request; they must not begin or end a run.
    """
    if not is_copy_in_request(p):
        return False
    unwrap_sample(p)  # its wrapper would call the original p.sample
    return True


def before_sampling(p: Processing, noise: Tensor | None) -> None:
    """In `process_before_every_sampling`: prepare the pass; noise: the host's, of unit variance."""
    run = run_of(p)
    if run is None:
        return
    try:
        begin_pass(p, run, host_adapter(), noise)
    except Exception as error:  # hosts ignore exceptions here; `p.sample` raises it
        run.error = error


def fail(p: Processing, message: str) -> None:
    """Make the host fail this request with the message: 422 in the API, under the picture in the UI."""
    unwrap_sample(p)

    def sample(*args: object, **kwargs: object) -> None:
        unwrap_sample(p)
        raise_to_user(p, message)

    sample.__dict__["_beyondfacial"] = True
    p.sample = sample


def raise_to_user(p: Processing, message: str) -> None:
    """Fail the request with a message: 422 in the API, under the picture in the UI."""
    forget_conds(p)
    if getattr(p, "is_api", False):
        from fastapi import HTTPException

        raise HTTPException(status_code=422, detail=message)
    error = BeyondFacialError(keys_to_labels(message))
    set_task_error(error)
    raise error


def forget_conds(p: Processing) -> None:
    """Empty the host's caches of encoded prompts.

    A1111's ControlNet writes marks into the cached conds, and empties the caches at its first UNet call. If our
    request fails before that, the next request with the same prompt would use conds with marks.
    """
    for name in CACHES_OF_CONDS:
        cache = getattr(p, name, None)
        if isinstance(cache, list):
            cache[:] = [None] * len(cache)


class RaisingResult:
    """A task's result that raises the error when the UI unpacks it."""

    def __init__(self, error: Exception):
        self.error = error

    def __iter__(self) -> Iterator[object]:
        raise self.error


def set_task_error(error: Exception) -> None:
    """Show the error in the UI on hosts whose main thread discards exceptions of its tasks (reForge, Forge Classic).

    There the UI unpacks the task's result; this function sets a result that raises the error when it is unpacked. The
    task is found in the stack frame that runs it. On hosts that keep the exception, or have no tasks, nothing is set.
    """
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        task = frame.f_locals.get("self")
        if hasattr(task, "task_id") and hasattr(task, "result") and not hasattr(task, "exception"):
            task.result = RaisingResult(error)
            return
        frame = frame.f_back


def wrap_sample(p: Processing, run: Run) -> None:
    """Wrap `p.sample`: release the run on every exit, and fail the request with a message if we had an error."""
    unwrap_sample(p)
    before = p.__dict__.get("sample")
    original = p.sample

    @functools.wraps(original)
    def sample(*args: Any, **kwargs: Any) -> Any:
        try:
            result = original(*args, **kwargs)
        except Exception as error:  # one of our hooks may have raised it inside the host's model call
            if not is_raised_by_us(error):
                end(p)
                raise
            run.error = error
        except BaseException:
            end(p)
            raise
        run.release()
        if run.error is not None:
            error, run.error = run.error, None
            end(p)
            raise_to_user(p, sentence_of(error))
        return result

    sample.__dict__.update(_beyondfacial=True, _before=before)
    p.sample = sample


def unwrap_sample(p: Processing) -> None:
    """Restore `p.sample`; copies of `p` that grid scripts make have our wrapper, too."""
    wrapper = p.__dict__.get("sample")
    if getattr(wrapper, "_beyondfacial", False):
        del p.__dict__["sample"]
        if getattr(wrapper, "_before", None) is not None:
            p.sample = wrapper._before
