"""Checks the values of users against their field, and converts them to and from infotext."""

from __future__ import annotations

import json
import math
import numbers
import re
import unicodedata
from collections.abc import Sequence
from typing import Any

from ..errors import BeyondFacialError
from .fields import MAX_EMBEDDING, MAX_PERSONS, MAX_REFERENCES, MAX_TEXT, PREFIX, Field


def text_to_value(field: Field, text: Any) -> Any:
    """Convert an infotext value to the field's type; other text is returned as it is, and check_value refuses it."""
    text = str(text)
    if field.kind == "bool":
        return {"true": True, "false": False}.get(text.lower(), text)
    try:
        return {"float": float, "int": int}.get(field.kind, _unwrap)(text)
    except (ValueError, RecursionError):
        return text


def value_to_text(field: Field, value: Any) -> str:
    return _wrap(value) if field.kind == "text" else str(value)


def _wrap(text: str) -> str:
    """Write a text as a JSON list of one text if a host's infotext parser would change it.

    The parsers split "5x5", remove quotes at the start, and take a text that starts with our prefix for a key. A text
    that starts with "[" is wrapped, too, so that unwrapping is unambiguous.
    """
    fragile = text.startswith(('"', "[", PREFIX)) or re.fullmatch(r"\d+x\d+", text)
    return json.dumps([text], ensure_ascii=False) if fragile else text


def _unwrap(text: str) -> str:
    parsed = json.loads(text) if text.startswith('["') else [text]
    return parsed[0] if isinstance(parsed, list) and len(parsed) == 1 and isinstance(parsed[0], str) else text


def check_value(field: Field, value: Any) -> Any:
    """The value in the field's type; BeyondFacialError naming field, value and range if it is not allowed."""
    checked = {
        "bool": _check_bool,
        "float": _check_number,
        "int": _check_number,
        "text": _check_text,
        "choice": _check_choice,
        "photos": _check_photos,
        "embedding": _check_embedding,
        "persons": _check_persons,
    }[field.kind](field, value)
    if checked is None:
        raise BeyondFacialError(f'"{field.key}" is {_shown(field, value)}; it must be {field.describe_range()}.')
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
    """The stripped text; control characters and lone surrogates are refused, because infotexts cannot hold them."""
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


def _check_persons(_field: Field, value: Any) -> tuple[Any, ...] | None:
    """At most MAX_PERSONS of them; PersonSettings checks each."""
    is_list = isinstance(value, Sequence) and not isinstance(value, (str, bytes))
    return tuple(value) if is_list and len(value) <= MAX_PERSONS else None


def _check_embedding(_field: Field, value: Any) -> str | None:
    """Base64 text, not decoded yet; the size is bounded before anything reads it."""
    if not isinstance(value, str) or len(value) > MAX_EMBEDDING:
        return None
    return value if re.fullmatch(r"[A-Za-z0-9+/]*={0,2}", value) else None


def _shown(field: Field, value: Any) -> str:
    """A value in the form that a message quotes: short, and without the bytes of a photo."""
    if field.kind in ("photos", "persons"):
        is_list = isinstance(value, Sequence) and not isinstance(value, (str, bytes))
        return f"a list of {len(value)}" if is_list else f"a {type(value).__name__}"
    if field.kind == "embedding" and isinstance(value, str):
        return f"a text of {len(value)} letters"
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
