"""Several persons in one picture: the objects of the setting "persons", and how they go together."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..errors import BeyondFacialError, nearest_name, printable
from .fields import MAX_PERSONS, MAX_UNITS, NONE, PREFIX, Field, fields_of, setting
from .values import check_value

POSITIONS = ("auto", *map(str, range(1, MAX_PERSONS + 1)))
PERSON_KEYS = ("references", "identity", "embedding")  # who it is: one of them is given
PHOTOS = "photos"
SOURCES = (PHOTOS, *(f"ControlNet unit {number}" for number in range(MAX_UNITS)))  # numbered as on ControlNet's tabs


@dataclass(frozen=True, kw_only=True, repr=False)
class PersonSettings:
    """One of several persons. The repr shows no face."""

    references: tuple[Any, ...] = setting((), "Photos", "One to 16 photos of this person, who agreed to it.")
    identity: str = setting("", "Saved identity", "Instead of photos.", empty=NONE)
    embedding: str = setting("", "Exported identity", "Made by an export; instead of photos.", is_embedding=True)
    name: str = setting("", "Name", "What messages call this person.")
    subject: str = setting("", "Subject words", "The prompt's words for this person.")
    position: str = setting(
        "auto", "Position", "From the left, 1 for the first; auto: by the subject words.", choices=POSITIONS
    )
    weight: float = setting(1.0, "Likeness", "Higher: more like the person, less as the prompt says.", 0, 3, 0.05)
    source: str = setting(PHOTOS, "Drawn by", "Photos, or the identity unit of ControlNet.", choices=SOURCES)

    @classmethod
    def from_dict(cls, number: int, values: Any, weight: float) -> PersonSettings:
        """The person that one object of the list describes; BeyondFacialError says which object is wrong.

        number: counted from 1. weight: for an object that names none.
        """
        if isinstance(values, cls):
            return values
        if not isinstance(values, Mapping):
            raise BeyondFacialError(f'Person {number} of "persons" is a {type(values).__name__}; give an object.')
        keys = [field.key for field in PERSON_FIELDS]
        if unknown := [str(key) for key in values if key not in keys]:
            raise BeyondFacialError(
                f'"{printable(unknown[0])}" is nothing that person {number} of "persons" can have; the nearest is '
                f'"{nearest_name(unknown[0], keys)}" (all: {", ".join(keys)}).'
            )
        given = {"weight": weight, **values}
        if isinstance(given.get("position"), int) and not isinstance(given["position"], bool):
            given["position"] = str(given["position"])
        try:
            return cls(
                **{field.key: check_value(field, given[field.key]) for field in PERSON_FIELDS if field.key in given}
            )
        except BeyondFacialError as error:
            raise BeyondFacialError(f'Person {number} of "persons": {error}') from error

    def to_dict(self) -> dict[str, Any]:
        """All keys and values; from_dict of it is the same person."""
        return {field.key: getattr(self, field.key) for field in PERSON_FIELDS} | {"references": list(self.references)}

    def __repr__(self) -> str:
        return f"PersonSettings(subject={self.subject!r}, position={self.position!r}, weight={self.weight!r})"

    @property
    def words(self) -> frozenset[str]:
        """The subject's words in lower case."""
        return frozenset(re.findall(r"[^\W\d_]+", self.subject.lower()))


def unit_of(source: str) -> int | None:
    """The number of the ControlNet unit that a source names, from 0; None for photos."""
    return None if source == PHOTOS else SOURCES.index(source) - 1


PERSON_FIELDS: tuple[Field, ...] = fields_of(PersonSettings)
OF_FIRST, OF_SECOND = "person_1_", "person_2_"  # before the keys of the page's components
FIRST_FIELDS = {  # all else of the first person are fields of Settings
    "name": ("First person's name", "With a second person: what the lines under the pictures call the first."),
    "position": ("First person's position", "With a second person: from the left; auto: by the subject words."),
}
SECOND_LABELS = {"weight": "Likeness of the second person"}
BY_PERSON_KEY = {field.key: field for field in PERSON_FIELDS}
# What the page asks about two persons, in the order of the script's arguments, behind the fields of Settings.
PAGE_PERSON_FIELDS: tuple[Field, ...] = (
    *(
        replace(BY_PERSON_KEY[key], key=OF_FIRST + key, label=label, help=text)
        for key, (label, text) in FIRST_FIELDS.items()
    ),
    *(
        replace(field, key=OF_SECOND + field.key, label=SECOND_LABELS.get(field.key, field.label))
        for field in PERSON_FIELDS
        if field.kind != "embedding" and field.key != "source"
    ),
)


def gather_persons(values: Mapping[str, Any]) -> dict[str, Any]:
    """The page's values by key as the keys of Settings. Where anything about the second person is set, "persons" holds
    both; else the first is the only one. BeyondFacialError where the second has no face."""
    rest = dict(values)
    first: dict[str, Any] = {}
    second: dict[str, Any] = {}
    for field in PAGE_PERSON_FIELDS:
        if field.key in rest:
            of_person = second if field.key.startswith(OF_SECOND) else first
            of_person[field.key.removeprefix(OF_FIRST).removeprefix(OF_SECOND)] = rest.pop(field.key)
    if not (changed := [key for key, value in second.items() if is_changed(BY_PERSON_KEY[key], value)]):
        return rest
    if rest.get("enabled") and not any(key in PERSON_KEYS for key in changed):
        label = SECOND_LABELS.get(changed[0], BY_PERSON_KEY[changed[0]].label)
        raise BeyondFacialError(
            f'The second person has no photos, but "{label}" is set; give a photo or a saved identity of the second '
            f'person, or set "{label}" back.'
        )
    moved = {key: rest.pop(key) for key in (*PERSON_KEYS, "subject", "source") if key in rest}
    weight = {key: rest[key] for key in ("weight",) if key in rest}
    return {**rest, "persons": [{**moved, **weight, **first}, second]}


def is_changed(field: Field, value: Any) -> bool:
    """Whether a component of the page has another value than at first; nothing chosen yet is None or empty."""
    return value not in (None, "", [], ()) and value != field.default


def check_together(persons: Sequence[PersonSettings]) -> None:
    """BeyondFacialError where two persons ask for the same subject or the same position."""
    for (i, one), (j, other) in itertools.combinations(enumerate(persons, 1), 2):
        if one.words and one.words == other.words:
            raise BeyondFacialError(
                f'Persons {i} and {j} have the same "subject" ("{one.subject[:60]}"); give each words of the prompt '
                'that mean this person alone, or a "position".'
            )
        if one.position != "auto" and one.position == other.position:
            raise BeyondFacialError(
                f'Persons {i} and {j} have the same "position" ({one.position}); give each another, or "auto".'
            )


def check_person(settings: Any, is_from_infotext: bool) -> None:
    """BeyondFacialError unless Settings of one person say in one way who it is."""
    given = [key for key in PERSON_KEYS if getattr(settings, key)]
    if given and settings.source != PHOTOS:
        raise BeyondFacialError(
            f'"source" is "{settings.source}" and "{given[0]}" is given, too; the unit\'s own image is the photo, so '
            f'take "{given[0]}" out, or set "source" to "{PHOTOS}".'
        )
    if settings.source != PHOTOS:
        return
    if not given and is_from_infotext:
        raise BeyondFacialError(
            f'The "infotext" of the request switched {PREFIX} on, but an infotext holds no photos; give '
            f'"references" in "alwayson_scripts": {{"{PREFIX}": {{"args": [{{...}}]}}}}, or take what {PREFIX} '
            "wrote out of the infotext."
        )
    if not given:
        raise BeyondFacialError(
            '"references" is empty; give at least one photo of the person, or set "identity" to a saved one.'
        )
    if len(given) > 1:
        name = f' (the saved identity "{settings.identity[:60]}")' if settings.identity else ""
        listed = " and ".join(f'"{key}"' for key in given)
        raise BeyondFacialError(f"{listed} are given together{name}; give one of them and leave the others empty.")
