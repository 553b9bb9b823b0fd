"""Instance attributes set over an object's own for a while, and taken off again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import nn

from .extensions import extension_of

_ABSENT = object()
HOOKS = ("_forward_pre_hooks", "_forward_hooks")  # torch's own dictionaries, number of the hook -> the hook


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


def method_patches(module: nn.Module) -> dict[str, Callable]:
    """What has been set on an instance over methods of its class, by the methods' names."""
    kind = type(module)
    return {k: v for k, v in module.__dict__.items() if callable(v) and callable(getattr(kind, k, None))}


@contextmanager
def unpatched(model: nn.Module) -> Iterator[None]:
    """A model as its classes have it: what others have set over a method of it, or of a module in it, is off, and so
    are the hooks of extensions; all are on again on every exit.

    For a model call that is not of the pass's picture: a ControlNet of A1111 would give its hints for the whole
    picture to it, in `forward`, in the attentions' `forward` and in the transformer blocks' `_forward`.
    """
    patched = [(module, method_patches(module)) for module in model.modules()]
    patched = [(module, patches) for module, patches in patched if patches]
    with hidden_hooks(model, lambda hook: extension_of(hook) is not None):
        for module, patches in patched:
            for name in patches:
                del module.__dict__[name]
        try:
            yield
        finally:
            for module, patches in patched:
                module.__dict__.update(patches)


@contextmanager
def hidden_hooks(model: nn.Module, is_hidden: Callable[[Callable], bool]) -> Iterator[None]:
    """Some forward hooks and pre-hooks of a model and its modules are off, and on again, in order, on every exit."""
    with ExitStack() as scope:
        for module in model.modules():
            for kind in HOOKS:
                hooks = getattr(module, kind)
                hidden = [number for number, hook in hooks.items() if is_hidden(hook)]
                if hidden:
                    scope.callback(_refill, hooks, dict(hooks))
                    for number in hidden:
                        del hooks[number]
        yield


def _refill(hooks: dict[int, Callable], before: dict[int, Callable]) -> None:
    """What was there before in its order, then what has come since."""
    since = {number: hook for number, hook in hooks.items() if number not in before}
    hooks.clear()
    hooks.update(before | since)
