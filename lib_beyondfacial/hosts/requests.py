"""How a host's request is made to fail in words, and what comes off it on every exit; the same on every host.

Exceptions of scripts and callbacks are swallowed by the hosts (logged, an ordinary picture); what `p.sample` raises is
not. So an error is stored, the sampling is left through the host's own interruption, and `p.sample` raises it again.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import torch
from torch import Tensor

from ..errors import BeyondFacialError


class HasError(Protocol):
    error: BaseException | None


def fail_request(p: Any, message: str) -> None:
    """Make the host fail this request with the sentence: 422 in the API, under the picture on the page."""
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
    error = BeyondFacialError(message)
    leave_with_task(error)
    raise error


class Refusal:
    """A task's result that raises when the page takes it apart."""

    def __init__(self, error: Exception):
        self.error = error

    def __iter__(self) -> Iterator[Any]:
        raise self.error


def leave_with_task(error: Exception) -> None:
    """Have the page told where the host's main thread drops what its tasks raise (reForge, Forge Classic).

    There the page is handed the task's result, which nobody has set: None, and says so in a TypeError. The task is
    known to the frame that works on it alone. Where tasks keep their exception, or there are none, nothing is done.
    """
    frame = sys._getframe()
    while frame is not None:
        task = frame.f_locals.get("self")
        if hasattr(task, "task_id") and hasattr(task, "result") and not hasattr(task, "exception"):
            task.result = Refusal(error)
            return
        frame = frame.f_back  # type: ignore[assignment]


def wrap_sample(p: Any, run: HasError, release: Callable[[], None], end: Callable[[], None]) -> None:
    """Chain `p.sample`: whatever happens inside, `release` is called; an error of ours becomes the request's."""
    unwrap_sample(p)
    before = p.__dict__.get("sample")
    original = p.sample

    @functools.wraps(original)
    def sample(*args: Any, **kwargs: Any) -> Any:
        try:
            result = original(*args, **kwargs)
        finally:
            release()
        if run.error is not None:
            error, run.error = run.error, None
            end()
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


def refuse_nan(delta: Tensor, level: float) -> None:
    if not torch.isfinite(delta).all():
        raise BeyondFacialError(
            f"BeyondFacial: the identity line gave NaN at noise level {level:.3g}; lower the identity weight, "
            "or run the model in full precision (--no-half)."
        )
