"""What can be set: one field table, and the frozen Settings made from it.

The table orders the page, the infotext, the API's schema and (later) the X/Y/Z axes. Whoever holds a Settings holds
a valid one: every way in (the page's values, the API's dict, an infotext) goes through the same checks.
"""

from __future__ import annotations

import difflib
import json
import math
import numbers
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from .errors import BeyondFacialError

MAX_REFERENCES = 16
MAX_TEXT = 2000
PREFIX = "BeyondFacial"
REFERENCES = ("semantic", "uncond")


@dataclass(frozen=True)
class Field:
    """One setting: how it is called in the API, on the page and in the infotext, and what it may be.

    kind is "bool", "float", "int", "text", "choice" or "photos". Published keys are never reused for another meaning.
    """

    key: str
    kind: str
    default: Any
    label: str
    help: str
    minimum: float | None = None
    maximum: float | None = None
    step: float | None = None
    choices: tuple[str, ...] = ()
    advanced: bool = False
    axis: bool = True

    @property
    def infotext(self) -> str:
        """The key under which the infotext carries this field, as in "BeyondFacial mask strength"."""
        return f"{PREFIX} {self.key.replace('_', ' ')}"

    @property
    def expects(self) -> str:
        """What a value must be, in words, for messages and for the docs."""
        if self.kind == "bool":
            return "true or false"
        if self.kind == "float":
            return f"a number from {self.minimum:g} to {self.maximum:g}"
        if self.kind == "int":
            return f"a whole number from {self.minimum:g} to {self.maximum:g}"
        if self.kind == "choice":
            return "one of " + ", ".join(f'"{choice}"' for choice in self.choices)
        if self.kind == "photos":
            return f"a list of at most {MAX_REFERENCES} photos"
        return f"text of at most {MAX_TEXT} characters"


FIELDS: tuple[Field, ...] = (
    Field("enabled", "bool", False, "BeyondFacial", "Keep this person in the whole scene.", axis=False),
    Field("references", "photos", (), "Photos", "One to 16 photos of one person, who agreed to it.", axis=False),
    Field("adapter", "text", "", "Identity adapter", "A FaceID file by name; empty: the only one there is."),
    Field("weight", "float", 2.0, "Identity weight", "Strength of the adapter in the identity line.", 0, 3, 0.05),
    Field("start", "float", 0.1, "Start", "Part of the schedule after which the identity line begins.", 0, 1, 0.01),
    Field("stop", "float", 1.0, "Stop", "Part of the schedule at which the identity line ends.", 0, 1, 0.01),
    Field("mask_strength", "float", 1.0, "Mask strength", "Scales the mask; 0 is the plain picture.", 0, 1, 0.05),
    Field("mask_softness", "float", 0.5, "Mask softness", "Width of the soft edge of the mask.", 0, 1, 0.05),
    Field("idap_strength", "float", 0.3, "Start identity", "How much of the face enters the noise.", 0, 1, 0.05),
    Field("show_mask", "bool", False, "Show mask", "Append the fusion mask after the pictures.", axis=False),
    *(
        replace(field, advanced=True)
        for field in (
            Field("face_pack", "text", "", "Face pack", "insightface pack; empty: the usual one.", axis=False),
            Field("subject", "text", "", "Subject words", "Words of the prompt that mean the person."),
            Field("id_prompt", "text", "", "Identity prompt", "Of the identity line; {prompt} is yours."),
            Field("mask_mode", "choice", "adaptive", "Mask mode", "whole: everywhere.", choices=("adaptive", "whole")),
            Field("rho", "float", 1.0, "Damping rho", "Scales what is added (eq. 8).", 0, 2, 0.05),
            Field("stride", "int", 1, "Stride", "Evaluate the identity line at every k-th step.", 1, 8, 1),
            Field("decision_reference", "choice", "semantic", "Decision reference", "Of eq. 4.", choices=REFERENCES),
            Field("smoothing", "float", 0.5, "Smoothing", "How slowly the mask follows (eq. 7).", 0, 0.99, 0.01),
            Field("style", "float", 0.0, "Style alignment", "Pulls to the scene's colours (eq. 9).", 0, 1, 0.05),
        )
    ),
)
BY_KEY: dict[str, Field] = {field.key: field for field in FIELDS}
_BY_INFOTEXT: dict[str, Field] = {field.infotext: field for field in FIELDS}


@dataclass(frozen=True)
class Settings:
    """The settings of one request, checked; see FIELDS for ranges and meanings. Photos are kept out of the repr."""

    enabled: bool = False
    references: tuple[Any, ...] = ()
    adapter: str = ""
    weight: float = 2.0
    start: float = 0.1
    stop: float = 1.0
    mask_strength: float = 1.0
    mask_softness: float = 0.5
    idap_strength: float = 0.3
    show_mask: bool = False
    face_pack: str = ""
    subject: str = ""
    id_prompt: str = ""
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
        if settings.enabled and not settings.references:
            raise BeyondFacialError('"references" is empty; give at least one photo of the person.')
        return settings

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Settings:
        """Settings from the API's keys; an unknown key is an error that names the nearest known one."""
        for key in values:
            if key not in BY_KEY:
                raise BeyondFacialError(_unknown(str(key), list(BY_KEY)))
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """All fields in FIELDS' order; from_dict of it is the same Settings."""
        return {**{field.key: getattr(self, field.key) for field in FIELDS}, "references": list(self.references)}

    def to_infotext(self) -> dict[str, str]:
        """Infotext keys and values: the plain fields always, advanced ones where they differ; never the photos."""
        written = (field for field in FIELDS if field.kind != "photos")
        return {
            field.infotext: _value_to_text(field, getattr(self, field.key))
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
        return {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "title": PREFIX,
            "type": "object",
            "additionalProperties": False,
            "properties": {field.key: _property(field) for field in FIELDS},
        }


def text_to_value(field: Field, text: Any) -> Any:
    """One infotext value back to the field's type; what cannot be read is left for the check to refuse by name."""
    text = str(text)
    if field.kind == "bool":
        return {"true": True, "false": False}.get(text.lower(), text)
    try:
        return {"float": float, "int": int}.get(field.kind, _unwrap)(text)
    except (ValueError, RecursionError):
        return text


def _value_to_text(field: Field, value: Any) -> str:
    return _wrap(value) if field.kind == "text" else str(value)


def _wrap(text: str) -> str:
    """Guard a text that hosts' infotext parsers would change: "5x5" is split, a leading quote is unquoted, and a
    value equal to its key is dropped. Such texts travel as a JSON list of one."""
    fragile = text.startswith(('"', "[", PREFIX)) or re.fullmatch(r"\d+x\d+", text)
    return json.dumps([text], ensure_ascii=False) if fragile else text


def _unwrap(text: str) -> str:
    parsed = json.loads(text) if text.startswith('["') else [text]
    return parsed[0] if isinstance(parsed, list) and len(parsed) == 1 and isinstance(parsed[0], str) else text


def check_value(field: Field, value: Any) -> Any:
    """The value in the field's own type, or a BeyondFacialError naming field, value and range."""
    checked = {
        "bool": _check_bool,
        "float": _check_number,
        "int": _check_number,
        "text": _check_text,
        "choice": _check_choice,
        "photos": _check_photos,
    }[field.kind](field, value)
    if checked is None:
        raise BeyondFacialError(f'"{field.key}" is {_shown(field, value)}; it must be {field.expects}.')
    return checked


def _check_bool(field: Field, value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


def _check_number(field: Field, value: Any) -> float | int | None:
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return None
    try:
        number = float(value)
    except OverflowError:  # a whole number of hundreds of digits
        return None
    if field.minimum is None or field.maximum is None or not field.minimum <= number <= field.maximum:  # NaN, too
        return None
    if field.kind == "float":
        return number + 0.0  # -0.0 becomes 0.0
    return int(number) if number.is_integer() else None


def _check_text(field: Field, value: Any) -> str | None:
    """Stripped text; control characters and lone surrogates are refused, an infotext could not carry them."""
    if not isinstance(value, str) or len(value) > MAX_TEXT:
        return None
    text = value.replace("\r\n", "\n").strip()
    return None if any(unicodedata.category(c) in ("Cc", "Cs") and c not in "\n\t" for c in text) else text


def _check_choice(field: Field, value: Any) -> str | None:
    return value if isinstance(value, str) and value in field.choices else None


def _check_photos(field: Field, value: Any) -> tuple[Any, ...] | None:
    if isinstance(value, (str, bytes)) or not isinstance(value, Sequence) or len(value) > MAX_REFERENCES:
        return None
    return tuple(value)


def _shown(field: Field, value: Any) -> str:
    """A value as a message may quote it: short, and never the bytes of a photo."""
    if field.kind == "photos":
        is_list = isinstance(value, Sequence) and not isinstance(value, (str, bytes))
        return f"a list of {len(value)}" if is_list else f"a {type(value).__name__}"
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _unknown(key: str, known: list[str]) -> str:
    near = difflib.get_close_matches(key, known, n=1, cutoff=0)
    return f'"{key[:60]}" is not a setting of {PREFIX}; the nearest is "{near[0]}" (all: {", ".join(known)}).'


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
