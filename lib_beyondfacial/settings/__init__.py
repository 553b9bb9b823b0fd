"""What can be set: one field table (table), its checks (values), and the frozen Settings made from it.

Whoever holds a Settings holds a valid one: every way in (the page's values, the API's dict, an infotext) goes through
the same checks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from ..errors import BeyondFacialError, nearest_name, printable
from .table import BY_KEY, FIELDS, MAX_REFERENCES, MAX_TEXT, PREFIX, PRESETS, Field, preset_values
from .values import check_value, text_to_value, value_to_text

__all__ = [
    "BY_KEY",
    "FIELDS",
    "MAX_REFERENCES",
    "MAX_TEXT",
    "PREFIX",
    "PRESETS",
    "Field",
    "Settings",
    "check_value",
    "fields_to_schema",
    "preset_values",
    "text_to_value",
]

_BY_INFOTEXT: dict[str, Field] = {field.infotext: field for field in FIELDS}


@dataclass(frozen=True)
class Settings:
    """The settings of one request, checked; see FIELDS for ranges and meanings. Photos are kept out of the repr."""

    enabled: bool = False
    references: tuple[Any, ...] = ()
    identity: str = ""
    adapter: str = ""
    weight: float = 1.0
    start: float = 0.0
    stop: float = 1.0
    mask_strength: float = 1.0
    mask_softness: float = 0.5
    idap_strength: float = 0.5
    close_look: bool = True
    show_mask: bool = False
    face_pack: str = ""
    face_choice: str = "largest"
    face_index: int = 1
    adapter_family: str = "auto"
    clip_weight: float = 1.0
    identity_in_infotext: bool = False
    subject: str = ""
    id_prompt: str = ""
    gender_alignment: str = "warn"
    mask_mode: str = "adaptive"
    rho: float = 1.0
    stride: int = 1
    decision_reference: str = "semantic"
    smoothing: float = 0.5
    style: float = 0.0

    def __post_init__(self) -> None:
        for field in FIELDS:
            object.__setattr__(self, field.key, check_value(field, getattr(self, field.key)))
        if not self.start < self.stop:
            raise BeyondFacialError(
                f'"start" is {self.start:g} and "stop" is {self.stop:g}; start must be smaller than stop.'
            )

    def __repr__(self) -> str:
        values = (f"{k}={v!r}" for k, v in self.to_dict().items() if k != "references")
        return f"Settings({', '.join(values)}, references=<{len(self.references)} photos>)"

    @classmethod
    def from_script_args(cls, *args: Any) -> Settings:
        """The page's (enabled, field, field, ...) in FIELDS' order, or the API's one dict in the first position.

        A non-empty dict that leaves "enabled" out means enabled: a unit that was filled in is never silently off.
        Page values that are None (nothing chosen yet) mean the default. Raises BeyondFacialError.
        """
        if args and isinstance(args[0], Mapping):
            if any(isinstance(arg, Mapping) for arg in args[1:]):
                raise BeyondFacialError('"args" holds more than one object; put all settings into the first.')
            settings = cls.from_dict({"enabled": True, **args[0]} if args[0] else {})
        elif len(args) > len(FIELDS):
            raise BeyondFacialError(f'"args" has {len(args)} values; {PREFIX} takes {len(FIELDS)}, or one object.')
        else:
            values = zip(FIELDS, args, strict=False)
            settings = cls(**{field.key: value for field, value in values if value is not None})
        if settings.enabled:
            settings._check_person()
        return settings

    def _check_person(self) -> None:
        if not self.references and not self.identity:
            raise BeyondFacialError(
                '"references" is empty; give at least one photo of the person, or a saved "identity" by name.'
            )
        if self.references and self.identity:
            raise BeyondFacialError(
                f'"references" and "identity" ("{self.identity[:60]}") are both given; leave one of them empty.'
            )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Settings:
        """Settings from the API's keys; an unknown key is an error that names the nearest known one."""
        for key in values:
            if key not in BY_KEY:
                raise BeyondFacialError(
                    f'"{printable(str(key))}" is not a setting of {PREFIX}; '
                    f'the nearest is "{nearest_name(str(key), BY_KEY)}" (all: {", ".join(BY_KEY)}).'
                )
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """All fields in FIELDS' order; from_dict of it is the same Settings."""
        return {**{field.key: getattr(self, field.key) for field in FIELDS}, "references": list(self.references)}

    def to_infotext(self) -> dict[str, str]:
        """Infotext keys and values: the plain fields always, advanced ones where they differ.

        Never the photos, and a saved identity's name only where identity_in_infotext says so.
        """
        kept_back = {"references"} if self.identity_in_infotext else {"references", "identity"}
        written = (field for field in FIELDS if field.key not in kept_back)
        return {
            field.infotext: value_to_text(field, getattr(self, field.key))
            for field in written
            if getattr(self, field.key) != field.default or not (field.advanced or field.kind == "text")
        }

    @classmethod
    def from_infotext(cls, parameters: Mapping[str, Any]) -> Settings:
        """Inverse of to_infotext (without the photos, which an infotext does not carry); foreign keys are ignored."""
        known = ((_BY_INFOTEXT[key], value) for key, value in parameters.items() if key in _BY_INFOTEXT)
        return cls(**{field.key: text_to_value(field, value) for field, value in known if field.kind != "photos"})

    @staticmethod
    def json_schema() -> dict[str, Any]:
        """The API's dict as a JSON Schema (2020-12)."""
        return fields_to_schema(PREFIX, FIELDS)


def fields_to_schema(title: str, table: Sequence[Field], required: Sequence[str] = ()) -> dict[str, Any]:
    """An object with these fields and no others, as a JSON Schema (2020-12)."""
    schema: dict[str, Any] = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": title,
        "type": "object",
        "additionalProperties": False,
        "properties": {field.key: _property(field) for field in table},
    }
    return {**schema, "required": list(required)} if required else schema


def _property(field: Field) -> dict[str, Any]:
    types = {"bool": "boolean", "float": "number", "int": "integer", "photos": "array"}
    schema: dict[str, Any] = {"type": types.get(field.kind, "string"), "title": field.label, "description": field.help}
    if field.kind == "photos":
        schema |= {"items": {"type": "string", "contentEncoding": "base64"}, "maxItems": MAX_REFERENCES}
    if field.choices:
        schema["enum"] = list(field.choices)
    if field.minimum is not None:
        schema |= {"minimum": field.minimum, "maximum": field.maximum}
    if field.kind == "text":
        schema["maxLength"] = MAX_TEXT
    return {**schema, "default": [] if field.kind == "photos" else field.default}


assert [field.name for field in fields(Settings)] == list(BY_KEY), "Settings and FIELDS list the same keys in order"
