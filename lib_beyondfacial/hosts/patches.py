"""Sets attributes on objects temporarily, and restores what was there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import nn

from .extensions import extension_of

_ABSENT = object()
HOOKS = ("_forward_pre_hooks", "_forward_hooks")  # torch's own dictionaries, number of the hook -> the hook


class Patches:
    """Attributes that were set, to be undone in reverse; if another extension has replaced ours since, it stays."""

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
    """Functions set on an instance that hide methods of its class, by the methods' names."""
    kind = type(module)
    return {k: v for k, v in module.__dict__.items() if callable(v) and callable(getattr(kind, k, None))}


@contextmanager
def unpatched(model: nn.Module) -> Iterator[None]:
    """Remove, inside the context, all patches of methods in the model and all hooks of extensions; restore them on
    exit.

    For model calls on other pictures than the pass's: A1111's ControlNet would apply its hints for the whole picture,
    through `forward`, the attentions' `forward` and the transformer blocks' `_forward`.
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
    """Remove some forward hooks and pre-hooks inside the context; restore them, in order, on every exit."""
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
    """Restore the previous hooks in their order, followed by hooks added since."""
    since = {number: hook for number, hook in hooks.items() if number not in before}
    hooks.clear()
    hooks.update(before | since)
