"""Declaration of a setting: a dataclass field whose metadata is used by UI, schema, infotext and checks."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

MAX_REFERENCES = 16
MAX_PERSONS = 4
MAX_UNITS = 10  # A1111's ControlNet offers as many units
MAX_TEXT = 2000
MAX_EMBEDDING = 8_000_000  # letters of base64; faces/identity_file.py says how many bytes an identity has
PREFIX = "BeyondFacial"
AUTOMATIC, NONE = "(automatic)", "(none: use photos)"  # what the page's lists show for ""
FOLDS = {
    "mask": "Mask and timing",
    "face": "Which face, which person",
    "expert": "Expert (paper)",
}  # closed at first, by title
SECTIONS = ("person", "main", *FOLDS, "compare")  # the order of FIELDS, and so of the script's arguments
MOST_BUTTONS = 6  # of a choice; more become a dropdown
KINDS = {bool: "bool", float: "float", int: "int", str: "text", tuple: "photos"}


@dataclass(frozen=True)
class Field:
    """One setting: its key in the API, its label and help in the UI, and its allowed values.

    A number has minimum, maximum and the slider's step; a text with choices is one of them. section is one of
    SECTIONS. empty: what the page's list shows for an empty text. axis: whether X/Y/Z plots can vary it.
    is_embedding: a long text in base64 that describes a person, for the API alone. items: of a list of objects, what
    each may have. Published keys are never reused for
    another meaning.
    """

    key: str
    default: Any
    label: str
    help: str
    minimum: float | None = None
    maximum: float | None = None
    step: float | None = None
    choices: tuple[str, ...] = ()
    section: str = "main"
    empty: str = ""
    axis: bool = False
    is_embedding: bool = False
    items: tuple[Field, ...] = ()

    @property
    def kind(self) -> str:
        """The kind of its values: "bool", "float", "int", "text", "choice", "photos", "embedding" or "persons"."""
        if self.items:
            return "persons"
        if self.is_embedding:
            return "embedding"
        return "choice" if self.choices else KINDS[type(self.default)]

    @property
    def is_biometric(self) -> bool:
        """Whether its values show or describe a face: never in an infotext, a log or a message."""
        return self.kind in ("photos", "embedding", "persons")

    @property
    def infotext(self) -> str:
        """The key under which the infotext carries this field, as in "BeyondFacial mask strength"."""
        return f"{PREFIX} {self.key.replace('_', ' ')}"

    def describe_range(self) -> str:
        """The allowed values as a phrase for messages."""
        limits = f"from {self.minimum:g} to {self.maximum:g}" if self.minimum is not None else ""
        return {
            "bool": "true or false",
            "float": f"a number {limits}",
            "int": f"a whole number {limits}",
            "text": f"text of at most {MAX_TEXT} characters",
            "choice": "one of " + ", ".join(f'"{choice}"' for choice in self.choices),
            "photos": f"a list of at most {MAX_REFERENCES} photos",
            "persons": f"a list of one to {MAX_PERSONS} persons",
            "embedding": f"an exported identity, base64 of at most {MAX_EMBEDDING} letters",
        }[self.kind]


def setting(
    default: Any,
    label: str,
    help: str,
    minimum: float | None = None,
    maximum: float | None = None,
    step: float | None = None,
    *,
    choices: tuple[str, ...] = (),
    section: str = "main",
    empty: str = "",
    axis: bool = False,
    is_embedding: bool = False,
    items: tuple[Field, ...] = (),
) -> Any:
    """Declare a dataclass field as a setting; the arguments are Field's, the key is the dataclass field's name."""
    described = Field(
        "", default, label, help, minimum, maximum, step, choices, section, empty, axis, is_embedding, items
    )
    return dataclasses.field(default=default, metadata={"setting": described})


def fields_of(declared: Any) -> tuple[Field, ...]:
    """The settings that a dataclass declares, by section, and within a section as they are declared."""
    found = [dataclasses.replace(each.metadata["setting"], key=each.name) for each in dataclasses.fields(declared)]
    return tuple(sorted(found, key=lambda field: SECTIONS.index(field.section)))


def fields_to_schema(title: str, table: Sequence[Field], required: Sequence[str] = ()) -> dict[str, Any]:
    """An object with these fields and no others, as a JSON Schema (2020-12)."""
    schema: dict[str, Any] = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": title,
        "type": "object",
        "additionalProperties": False,
        "properties": {field.key: _field_to_schema(field) for field in table},
    }
    return {**schema, "required": list(required)} if required else schema


def _field_to_schema(field: Field) -> dict[str, Any]:
    limits = {"minimum": field.minimum, "maximum": field.maximum}
    photo = {"type": "string", "contentEncoding": "base64"}
    types: dict[str, dict[str, Any]] = {
        "bool": {"type": "boolean"},
        "float": {"type": "number", **limits},
        "int": {"type": "integer", **limits},
        "text": {"type": "string", "maxLength": MAX_TEXT},
        "choice": {"type": "string", "enum": list(field.choices)},
        "photos": {"type": "array", "items": photo, "maxItems": MAX_REFERENCES},
        "embedding": {**photo, "maxLength": MAX_EMBEDDING},
        "persons": {"type": "array", "maxItems": MAX_PERSONS},
    }
    if field.items:
        properties = {item.key: _field_to_schema(item) for item in field.items}
        person = {"type": "object", "additionalProperties": False, "properties": properties}
        return {"title": field.label, "description": field.help, **types["persons"], "items": person}
    default = list(field.default) if field.kind == "photos" else field.default
    return {"title": field.label, "description": field.help, **types[field.kind], "default": default}
