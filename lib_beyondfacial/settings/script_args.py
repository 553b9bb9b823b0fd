"""A script's arguments: the page's values, one a field, or first the API's object."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import BeyondFacialError
from .fields import AUTOMATIC, NONE, PREFIX, Field
from .persons import PAGE_PERSON_FIELDS, PERSON_KEYS, gather_persons


def args_to_values(args: Sequence[Any], table: Sequence[Field]) -> dict[str, Any]:
    """The keys and values of Settings that the arguments give; BeyondFacialError where they are no such arguments.

    table: the page's fields, one argument each; those of PAGE_PERSON_FIELDS stand behind them. A non-empty object
    without "enabled" means enabled, so that a filled-in unit is never silently off. Arguments behind the object come
    from the request's "infotext"; they fill in the keys that the object leaves out. Values of None (nothing chosen
    yet) mean the default.
    """
    objects = sum(isinstance(arg, Mapping) for arg in args)
    if objects > 1:
        raise BeyondFacialError('"args" holds more than one object; put all settings into the first.')
    if objects and not isinstance(args[0], Mapping):
        raise BeyondFacialError(
            '"args" holds something else before its object; give one object with all settings, "enabled" too: '
            '"args": [{...}].'
        )
    fields = (*table, *PAGE_PERSON_FIELDS)
    if len(args) > len(fields):
        raise BeyondFacialError(f'"args" has {len(args)} values; {PREFIX} takes {len(fields)}, or one object.')
    given = [(field.key, value) for field, value in zip(fields, args, strict=False) if value is not None]
    values = gather_persons({key: "" if value in (AUTOMATIC, NONE) else value for key, value in given})
    if not objects:
        return values
    values = _over_infotext(args[0], values, table) if args[0] else {}
    if values.get("persons") == []:
        raise BeyondFacialError('"persons" is empty; give one to four persons, or leave it out.')
    return values


def _over_infotext(unit: Mapping[str, Any], behind: Mapping[str, Any], table: Sequence[Field]) -> dict[str, Any]:
    """The API's dict, filled in from the arguments behind it: the UI's defaults, or values of an infotext."""
    keys = [field.key for field in table if field.key != "enabled" and not field.is_biometric]
    known = {key: behind[key] for key in (*keys, "persons") if key in behind}
    if any(unit.get(key) for key in (*PERSON_KEYS, "persons")):  # they replace those of the infotext
        known = {key: value for key, value in known.items() if key not in ("identity", "persons")}
        known.pop("source", None)
    if unit.get("persons"):
        known.pop("subject", None)
    return {**known, "enabled": True, **unit}
