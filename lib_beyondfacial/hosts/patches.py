"""Instance attributes laid over an object's own for a while, and taken off again."""

from __future__ import annotations

from typing import Any

_ABSENT = object()


class Patches:
    """What was laid over what. Undone in reverse; where somebody else has chained over ours since, theirs stays."""

    def __init__(self) -> None:
        self._done: list[tuple[Any, str, Any, Any]] = []

    def lay(self, target: Any, name: str, value: Any) -> None:
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
