"""One cell of an X/Y/Z plot: values laid over the settings, on the cell's own copy of `p`; nothing is left afterwards.

The axes follow from the settings that are declared with axis=True, and the presets.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..settings import BY_KEY, FIELDS, NONE, OF_SECOND, PAGE_FIELDS, PERSON_KEYS, Field
from . import presets

ATTRIBUTE = "_beyondfacial_cell"  # of a cell's `p`: key -> value
PRESET = Field("preset", "", "Preset", "Sets all of the method's parameters.", axis=True)
AXES = {field.key: field for field in (PRESET, *FIELDS) if field.axis}


def set_value(p: Any, field: Field, value: Any) -> None:
    """Lay a checked value over the settings; a new dictionary each time, as copies of `p` share the old one."""
    setattr(p, ATTRIBUTE, {**getattr(p, ATTRIBUTE, {}), field.key: value})


def apply_cell(p: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """The script's arguments with the cell's values laid over them; outside of a plot they are the same.

    A preset comes first, whatever its axis, so that other axes vary what it sets. With two persons the axis of the
    identity varies the first, and that of the likeness both.
    """
    cell = dict(getattr(p, ATTRIBUTE, {}))
    values = presets.find_preset(cell.pop("preset")) if "preset" in cell else {}
    values |= cell
    if values.get("identity"):
        values = {key: BY_KEY[key].default for key in (*PERSON_KEYS, "source")} | values
    if not values or not args:
        return args
    if isinstance(args[0], Mapping):
        return (over_unit(args[0], values, cell), *args[1:]) if args[0] else args
    page = {field.key: arg for field, arg in zip(PAGE_FIELDS, args, strict=False)}
    if "weight" in cell and has_second(page):
        values[f"{OF_SECOND}weight"] = cell["weight"]
    return tuple(values.get(key, arg) for key, arg in page.items())


def has_second(page: Mapping[str, Any]) -> bool:
    """Whether the page's values say who the second person is."""
    return any(page.get(OF_SECOND + key) not in (None, "", NONE, [], ()) for key in PERSON_KEYS)


def over_unit(unit: Mapping[str, Any], values: Mapping[str, Any], cell: Mapping[str, Any]) -> dict[str, Any]:
    """The API's object with the values laid over it. Of several persons a cell's identity is the first's, its weight
    all's."""
    persons = unit.get("persons")
    if not isinstance(persons, list) or not all(isinstance(each, Mapping) for each in persons):
        return {**unit, **values}
    changed = [{**each, **{key: cell[key] for key in ("weight",) if key in cell}} for each in persons]
    if changed and values.get("identity"):
        changed[0] |= {key: values[key] for key in PERSON_KEYS}
    return {**unit, **{key: value for key, value in values.items() if key not in PERSON_KEYS}, "persons": changed}


def name_cell(p: Any) -> str:
    """What the cell differs in, as warnings and errors name it; "" outside of a plot."""
    return ", ".join(name_value(AXES[key], value) for key, value in getattr(p, ATTRIBUTE, {}).items())


def name_value(field: Field, value: Any) -> str:
    """A value as the legend shows it: "Mask strength: 0.5"."""
    shown = f"{value:g}" if isinstance(value, float) else str(value)
    return f"{field.label}: {shown or 'none'}"
