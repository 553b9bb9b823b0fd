"""Instance attributes set over an object's own for a while, and taken off again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_ABSENT = object()


class Patches:
    """What was set over what. Undone in reverse; where somebody else has chained over ours since, theirs stays."""

    def __init__(self) -> None:
        self._done: list[tuple[Any, str, Any, Any]] = []

    def set(self, target: Any, name: str, value: Any) -> None:
        self._done.append((target, name, value, target.__dict__.get(name, _ABSENT)))
        setattr(target, name, value)

    def undo(self) -> None:
        while self._done:
            target, name, value, before = self._done.pop()
            if target.__dict__.get(name) is not value:
                continue
            if before is _ABSENT:
                delattr(target, name)
            else:
                setattr(target, name, before)


@contextmanager
def unpatched(target: Any, name: str) -> Iterator[None]:
    """An instance's method as its class has it: what others have set over it is off, and on again on every exit.

    For a model call that is not the pass's: a ControlNet of A1111 would give its hints for the whole picture to it.
    """
    patch = target.__dict__.pop(name, _ABSENT)
    try:
        yield
    finally:
        if patch is not _ABSENT:
            target.__dict__[name] = patch
