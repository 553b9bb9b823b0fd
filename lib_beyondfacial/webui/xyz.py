"""Axes for the host's X/Y/Z plot, one for each setting that is declared as one, and one for the presets."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

from ..adapters import registry
from ..errors import BeyondFacialError
from ..hosts import request
from ..settings import PREFIX, Field, check_value, text_to_value
from . import cells, folders, forwarding, identities, presets

FILE = "xyz_grid.py"
NAMES: dict[str, Callable[[], Iterable[str]]] = {
    "adapter": folders.adapters_by_name,
    "identity": identities.names,
    "preset": presets.all_presets,
}
CHECKS: dict[str, Callable[[str], object]] = {
    "adapter": lambda name: registry.peek_adapter(name, folders.adapters_by_name()),
    "identity": identities.entry_of,
    "preset": presets.find_preset,
}


def add_axes() -> None:
    """Add ours to the host's list, once; for the host's on_before_ui."""
    module = find_module()
    if module is None or any(option.label.startswith(f"[{PREFIX}]") for option in module.axis_options):
        return
    module.axis_options.extend(make_axis(module.AxisOption, field) for field in cells.AXES.values())


def find_module() -> ModuleType | None:
    """The loaded script that draws X/Y/Z plots; None where the host has none."""
    from modules import scripts

    modules = (data.module for data in scripts.scripts_data if Path(data.path).name == FILE)
    return next((module for module in modules if hasattr(module, "axis_options")), None)


def make_axis(axis_option: Callable[..., Any], field: Field) -> Any:
    """One axis. Everything but a number is typed as text, or chosen from a list where there is one."""
    choices = choices_of(field)
    return axis_option(
        f"[{PREFIX}] {field.label}",
        {"float": float, "int": int}.get(field.kind, str),
        lambda p, value, _values: apply(p, field, value),
        format_value=lambda _p, _option, value: cells.name_value(field, value),
        confirm=lambda p, values: confirm(p, field, values),
        cost=0.5 if field.key == "adapter" else 0.0,
        **({} if choices is None else {"choices": choices}),
    )


def choices_of(field: Field) -> Callable[[], list[str]] | None:
    """What the plot's list offers; None for a number."""
    if field.key in NAMES:
        return lambda: list(NAMES[field.key]())
    if field.kind == "bool":
        return lambda: ["True", "False"]
    return (lambda: list(field.choices)) if field.choices else None


def confirm(p: Any, field: Field, values: Iterable[Any]) -> None:
    """Refuse the whole plot, before anything is generated, where one of the axis's values cannot be used."""
    try:
        for value in values:
            checked = check_value(field, text_to_value(field, value))
            if checked and field.key in CHECKS:
                CHECKS[field.key](checked)
    except BeyondFacialError as error:
        request.raise_to_user(p, f"{PREFIX}: {error}")


def apply(p: Any, field: Field, value: Any) -> None:
    """Lay the value over the settings of this cell's `p`, a copy of the plot's: nothing of it is left afterwards."""
    cells.set_value(p, field, check_value(field, text_to_value(field, value)))
    p.extra_generation_params = dict(p.extra_generation_params)
    forwarding.prepare(p)
