"""Presets: named sets of the method's parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import BeyondFacialError, printable
from .fields import fields_of
from .parameters import MethodParameters
from .values import check_value

PRESETS: dict[str, dict[str, Any]] = {
    "Default": {},
    # the later the person comes in, the less of the scene changes (docs/experiments.md, likeness against change)
    "Full body": {"start": 0.6, "idap_strength": 0.0, "refine_head": True},
    # the head refinement alone: one row of the identity at the level at which the head is looked for
    "Fast": {"start": 0.5, "idap_strength": 0.0, "refine_head": True},
    # a face that is most of the picture decides it from the first step
    "Portrait": {"start": 0.0, "idap_strength": 0.0, "refine_head": True},
    # every part of the paper's, eq. 9 too; stated in full, so that it stays so whatever the defaults become
    "As in the paper": {
        "weight": 1.0,
        "start": 0.0,
        "smoothing": 0.5,
        "idap_strength": 0.5,
        "style": 0.5,
        "refine_head": False,
    },
}
METHOD_FIELDS = {field.key: field for field in fields_of(MethodParameters)}
METHOD_DEFAULTS: dict[str, Any] = {key: field.default for key, field in METHOD_FIELDS.items()}


def preset_values(changes: Mapping[str, Any]) -> dict[str, Any]:
    """All of the method's parameters as a preset sets them, which states only what it changes; who the person is
    stays as it is.

    Raises BeyondFacialError for a key or a value that is none of theirs.
    """
    if unknown := [key for key in changes if key not in METHOD_DEFAULTS]:
        raise BeyondFacialError(f'"{printable(str(unknown[0]))}" is nothing that a preset can set.')
    return METHOD_DEFAULTS | {key: check_value(METHOD_FIELDS[key], value) for key, value in changes.items()}
