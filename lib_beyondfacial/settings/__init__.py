"""All settings. Each is declared once, in MethodParameters (parameters.py) or in Settings.

FIELDS is derived from the declarations; UI, schema, infotext and checks follow from it. A Settings object is always
valid: the UI's values, the API's dict and an infotext go through the same checks.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..errors import BeyondFacialError, nearest_name, printable
from .fields import (
    AUTOMATIC,
    FOLDS,
    MAX_EMBEDDING,
    MAX_PERSONS,
    MAX_REFERENCES,
    NONE,
    PREFIX,
    Field,
    fields_of,
    fields_to_schema,
    setting,
)
from .parameters import MethodParameters
from .persons import (
    OF_SECOND,
    PAGE_PERSON_FIELDS,
    PERSON_FIELDS,
    PERSON_KEYS,
    PHOTOS,
    SOURCES,
    PersonSettings,
    check_person,
    check_together,
    unit_of,
)
from .presets import METHOD_DEFAULTS, PRESETS, preset_values
from .script_args import args_to_values
from .values import check_value, text_to_value, value_to_text

__all__ = [
    "AUTOMATIC",
    "BY_KEY",
    "FIELDS",
    "PERSON_KEYS",
    "PersonSettings",
    "FOLDS",
    "PHOTOS",
    "MAX_EMBEDDING",
    "MAX_PERSONS",
    "MAX_REFERENCES",
    "METHOD_DEFAULTS",
    "NONE",
    "OF_SECOND",
    "PAGE_FIELDS",
    "PAGE_PERSON_FIELDS",
    "PREFIX",
    "PRESETS",
    "Field",
    "MethodParameters",
    "UI_FIELDS",
    "Settings",
    "check_value",
    "fields_to_schema",
    "keys_to_labels",
    "nearest_key",
    "preset_values",
    "text_to_value",
]

# What the page says; the API's sentence names its keys.
NOBODY = f"{PREFIX} is on, but nobody is given: drop a photo, choose a saved identity, or switch {PREFIX} off."


@dataclass(frozen=True, kw_only=True, repr=False)
class Settings(MethodParameters):
    """The checked settings of one request: the method's parameters and the person. The repr shows no face."""

    enabled: bool = setting(False, PREFIX, "Keep this person in the whole scene.", section="person")
    references: tuple[Any, ...] = setting(
        (), "Photos", "One to 16 photos of one person, who agreed to it.", section="person"
    )
    identity: str = setting("", "Saved identity", "Instead of photos.", section="person", empty=NONE, axis=True)
    embedding: str = setting(
        "", "Exported identity", "Made by an export; instead of photos.", section="person", is_embedding=True
    )
    persons: tuple[PersonSettings, ...] = setting(
        (), "Persons", "One to four persons, instead of the keys of one.", section="person", items=PERSON_FIELDS
    )
    adapter: str = setting(
        "", "Identity adapter", "The file that draws a given face.",
        section="person", empty=AUTOMATIC, axis=True,
    )  # fmt: skip
    show_mask: bool = setting(False, "Show mask", "Adds, after the pictures, where the person acted.", section="mask")
    face_pack: str = setting(
        "", "Face pack", "What recognises faces. Automatic: what the adapter was made with.",
        section="face", empty=AUTOMATIC,
    )  # fmt: skip
    face_choice: str = setting(
        "largest",
        "Face in a photo",
        "Which face to use if a photo shows several.",
        choices=("largest", "from the left", "female", "male", "most similar"),
        section="face",
    )
    face_index: int = setting(
        1, "Face number", 'Counted from the left, for "from the left".', 1, 20, 1, section="face"
    )
    adapter_family: str = setting(
        "auto",
        "Adapter family",
        "What the adapter's file is, where it does not tell.",
        choices=("auto", "faceid_plus", "faceid_plus_v2", "instantid", "portrait_unnorm"),
        section="expert",
    )
    clip_weight: float = setting(
        1.0,
        "CLIP weight",
        "FaceID-Plus v2 only. Higher: more of the photo's hair and looks.",
        0,
        2,
        0.05,
        section="expert",
    )
    identity_in_infotext: bool = setting(
        False, "Name in infotext", "Writes the saved identity's name into each picture's parameters.", section="expert"
    )
    subject: str = setting(
        "", "Subject words", "The prompt's words that mean the person, where it says neither man nor woman.",
        section="face",
    )  # fmt: skip
    id_prompt: str = setting(
        "", "Identity prompt", "The identity line's prompt; {prompt} stands for yours.", section="expert"
    )
    in_tiles: bool = setting(
        False,
        "In tiles",
        "Also in each tile of SD upscale and the like; else not there.",
        section="expert",
    )
    source: str = setting(
        PHOTOS,
        "Drawn by",
        "Your photos with our adapter, or the face that a unit of the web UI's ControlNet draws.",
        choices=SOURCES,
        section="expert",
    )
    gender_alignment: str = setting(
        "warn",
        "Gender alignment",
        "What to do if photo and prompt differ in gender.",
        choices=("off", "warn", "follow photo"),
        section="face",
    )

    plain_picture: bool = setting(
        False,
        "Also make the plain picture",
        "Each picture once more without the person, to compare: same seed; takes as long as a picture without us.",
        section="compare",
    )

    def __post_init__(self) -> None:
        for field in FIELDS:
            object.__setattr__(self, field.key, check_value(field, getattr(self, field.key)))
        persons = (PersonSettings.from_dict(n, each, self.weight) for n, each in enumerate(self.persons, 1))
        object.__setattr__(self, "persons", tuple(persons))
        if not self.start < self.stop:
            raise BeyondFacialError(
                f'"start" is {self.start:g} and "stop" is {self.stop:g}; start must be smaller than stop.'
            )

    def __repr__(self) -> str:
        values = (f"{k}={v!r}" for k, v in self.to_dict().items() if not BY_KEY[k].is_biometric)
        hidden = f"references=<{len(self.references)} photos>, embedding=<{len(self.embedding)} letters>"
        hidden += f", persons={list(self.persons)!r}" if self.persons else ""
        return f"Settings({', '.join(values)}, {hidden})"

    @classmethod
    def from_script_args(cls, *args: Any, is_api: bool = False) -> Settings:
        """From a script's arguments: the UI's values in PAGE_FIELDS' order, or the API's dict (script_args.py).

        Raises BeyondFacialError.
        """
        settings = cls.from_dict(args_to_values(args, UI_FIELDS))
        if settings.enabled:
            has_object = bool(args) and isinstance(args[0], Mapping)
            is_given = settings.source != PHOTOS or any(getattr(settings, key) for key in (*PERSON_KEYS, "persons"))
            if not (has_object or is_api or is_given):
                raise BeyondFacialError(NOBODY)
            settings._check_persons(is_from_infotext=is_api and not has_object)
        return settings

    def each_person(self) -> tuple[Settings, ...]:
        """The settings of each person alone, in the keys of one person."""
        if not self.persons:
            return (self,)
        keys = (*PERSON_KEYS, "source", "subject", "weight")
        return tuple(
            replace(self, persons=(), **{key: getattr(person, key) for key in keys}) for person in self.persons
        )

    @property
    def controlnet_unit(self) -> int | None:
        """The number of the ControlNet unit that draws the person, from 0; None for photos and our adapter."""
        return unit_of(self.source)

    def _check_persons(self, is_from_infotext: bool) -> None:
        if not self.persons:
            check_person(self, is_from_infotext)
            return
        if given := [key for key in (*PERSON_KEYS, "subject", "source") if getattr(self, key) != BY_KEY[key].default]:
            raise BeyondFacialError(
                f'"persons" and "{given[0]}" are given together; move "{given[0]}" into the person whose it is.'
            )
        for number, each in enumerate(self.each_person(), 1):
            try:
                check_person(each, is_from_infotext=False)
            except BeyondFacialError as error:
                raise BeyondFacialError(f'Person {number} of "persons": {error}') from error
        check_together(self.persons)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Settings:
        """Settings from the API's keys; BeyondFacialError for an unknown key, with the nearest known one."""
        for key in values:
            if key not in BY_KEY:
                raise BeyondFacialError(
                    f'"{printable(str(key))}" is not a setting of {PREFIX}; '
                    f'the nearest is "{nearest_key(str(key), BY_KEY)}" (all: {", ".join(BY_KEY)}).'
                )
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """All fields as a dict that from_dict turns back into the same Settings; no "persons" if there are none."""
        values = {field.key: getattr(self, field.key) for field in FIELDS} | {"references": list(self.references)}
        persons = [person.to_dict() for person in values.pop("persons")]
        return values | {"persons": persons} if persons else values

    def to_infotext(self) -> dict[str, str]:
        """Infotext keys and values: "enabled", and whatever differs from its default.

        Photos and exports are never included, and a saved identity's name only with identity_in_infotext.
        """
        return {
            field.infotext: value_to_text(field, getattr(self, field.key))
            for field in FIELDS
            if not field.is_biometric
            and (field.key != "identity" or self.identity_in_infotext)
            and (field.key == "enabled" or getattr(self, field.key) != field.default)
        }

    @classmethod
    def from_infotext(cls, parameters: Mapping[str, Any]) -> Settings:
        """Inverse of to_infotext, except that photos are missing; keys of others are ignored."""
        known = (field for field in FIELDS if field.infotext in parameters and not field.is_biometric)
        return cls(**{field.key: text_to_value(field, parameters[field.infotext]) for field in known})

    @staticmethod
    def json_schema() -> dict[str, Any]:
        """The API's dict as a JSON Schema (2020-12)."""
        return fields_to_schema(PREFIX, FIELDS)


FIELDS: tuple[Field, ...] = fields_of(Settings)
UI_FIELDS = tuple(field for field in FIELDS if field.kind not in ("embedding", "persons"))  # a component each
PAGE_FIELDS = (*UI_FIELDS, *PAGE_PERSON_FIELDS)  # the script's arguments from the page
PHOTO_NAMES = {"face", "faces", "image", "images", "img", "imgs", "photo", "photos", "picture", "pictures"}
BY_KEY: dict[str, Field] = {field.key: field for field in FIELDS}


def nearest_key(name: str, known: Iterable[str]) -> str:
    """The known key that a wrong one most likely means; "image" and the like mean "references"."""
    keys = list(known)
    return "references" if name.lower() in PHOTO_NAMES and "references" in keys else nearest_name(name, keys)


def keys_to_labels(sentence: str) -> str:
    """Replace the API keys that a sentence quotes by the UI's labels, and leave out the list of persons.

    A quoted value that equals a key ("identity" is "start") is not replaced.
    """

    def label(match: re.Match) -> str:
        field = BY_KEY.get(match[1]) or of_person.get(match[1])
        return match[0] if field is None else f'"{field.label}"'

    of_person = {field.key: field for field in PERSON_FIELDS}
    return re.sub(r'(?<! is )(?<!\()"(\w+)"', label, sentence.replace(' of "persons"', ""))
