"""One request on any host: begin, end, and how it is made to fail with a message.

The hosts swallow exceptions of scripts and callbacks (logged, an ordinary picture), but not those of `p.sample`. So an
error is stored, the sampling is left through the host's own interruption, and the wrapped `p.sample` raises it again.
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
from ..sampling.plan import Plan
from ..settings import keys_to_labels
from .extensions import is_raised_by_us, sentence_of
from .run import ATTRIBUTE, Adapter, Run, begin_pass, check_fits, is_copy_in_request, run_of
from .types import Processing

CACHES_OF_CONDS = ("cached_c", "cached_uc", "cached_hr_c", "cached_hr_uc")  # of `p`: [key, conds]
FORGE_PACKAGE = "modules_forge"  # in every host of the family, in no other; there before any model is


def host_adapter() -> Adapter:
    """The adapter of the host that this process is, a1111.callbacks or forge.callbacks; imported only when asked.

    One process is one host, so this holds at load time, when there is no `p` to ask yet.
    """
    is_forge = FORGE_PACKAGE in sys.modules or importlib.util.find_spec(FORGE_PACKAGE) is not None
    return cast(Adapter, importlib.import_module(".forge.callbacks" if is_forge else ".a1111.callbacks", __package__))


def install_callbacks() -> None:
    """Register the host's denoiser callbacks, when the script is loaded. Without a run they return at once."""
    host_adapter().install_callbacks()


def begin(p: Processing, plan: Plan, owner_data: object = None) -> Run:
    """Prepare a run on `p` (in `process`). Raises BeyondFacialError where this model or adapter cannot do it."""
    end(p)
    check_fits(p, plan, host_adapter())
    run = Run(plan, weakref.ref(p), owner_data=owner_data)
    for person in (each for line in plan.lines for each in line.persons):
        for warning in person.warnings:
            run.report.warn(warning)
    setattr(p, ATTRIBUTE, run)
    wrap_sample(p, run)
    return run


def end(p: Processing) -> None:
    """Take everything of ours off `p`: it may be used again, as it is or as a copy (loopback, X/Y/Z)."""
    run = run_of(p)
    if run is not None:
        run.release()
    p.__dict__.pop(ATTRIBUTE, None)
    unwrap_sample(p)


def leave_copy(p: Processing) -> bool:
    """Whether `p` is another extension's copy of one whose request still goes on; our wrapper comes off such a copy.

    ADetailer hands such copies to every script in the middle of a request: they begin, report and end nothing.
    """
    if not is_copy_in_request(p):
        return False
    unwrap_sample(p)  # it would sample the owner
    return True


def before_sampling(p: Processing, noise: Tensor | None) -> None:
    """In `process_before_every_sampling`: prepare the pass; noise: unit variance, as the host drew it."""
    run = run_of(p)
    if run is None:
        return
    try:
        begin_pass(p, run, host_adapter(), noise)
    except Exception as error:  # the hosts swallow it here; `p.sample` raises it again
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
    """Empty the hosts' caches of encoded prompts.

    A1111's ControlNet writes marks into the cached conds and empties the caches at its first UNet call. Where a
    request of ours fails before that, the next plain request with the same prompt would be given the marks.
    """
    for name in CACHES_OF_CONDS:
        cache = getattr(p, name, None)
        if isinstance(cache, list):
            cache[:] = [None] * len(cache)


class RaisingResult:
    """A task's result that raises when the UI takes it apart."""

    def __init__(self, error: Exception):
        self.error = error

    def __iter__(self) -> Iterator[object]:
        raise self.error


def set_task_error(error: Exception) -> None:
    """Let the UI show the error where the host's main thread drops what its tasks raise (reForge, Forge Classic).

    There the UI is handed the task's result, which nobody has set: None, and it reports a TypeError. Only the frame
    that works on the task knows it. Where tasks keep their exception, or there are none, nothing is done.
    """
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        task = frame.f_locals.get("self")
        if hasattr(task, "task_id") and hasattr(task, "result") and not hasattr(task, "exception"):
            task.result = RaisingResult(error)
            return
        frame = frame.f_back


def wrap_sample(p: Processing, run: Run) -> None:
    """Chain `p.sample`: whatever happens inside, the run is released; an error of ours fails the request in words."""
    unwrap_sample(p)
    before = p.__dict__.get("sample")
    original = p.sample

    @functools.wraps(original)
    def sample(*args: Any, **kwargs: Any) -> Any:
        try:
            result = original(*args, **kwargs)
        except Exception as error:  # a hook of ours may have raised it in the host's own model call
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
    """Put back what `p.sample` was; the copies of `p` that grids make come with our wrapper on them."""
    wrapper = p.__dict__.get("sample")
    if getattr(wrapper, "_beyondfacial", False):
        del p.__dict__["sample"]
        if getattr(wrapper, "_before", None) is not None:
            p.sample = wrapper._before
