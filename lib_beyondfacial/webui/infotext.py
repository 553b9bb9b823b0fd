"""Writes settings and reports into the host's infotext, and pastes them back into the UI."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from ..common import SHORT_HASH
from ..errors import BeyondFacialError
from ..settings import BY_KEY, MAX_PERSONS, PAGE_FIELDS, PHOTOS, Field, Settings, check_value, text_to_value
from . import identities
from .components import error_html

REPORT_KEY = "BeyondFacial report"
WARNINGS_KEY = "BeyondFacial warnings"
PICTURES_KEY = "BeyondFacial pictures"
MASKS_KEY = "BeyondFacial masks"
MASK_KEY = "BeyondFacial mask"
PLAIN_KEY = "BeyondFacial plain pictures"
PLAIN_OF_KEY = "BeyondFacial plain picture"
BEST_KEY = "BeyondFacial best picture"
VERSION_KEY = "BeyondFacial version"
PHOTOS_KEY = "BeyondFacial photos"
SECOND_PHOTOS_KEY = "BeyondFacial photos of person 2"  # of spread_persons alone
ADAPTER_HASH_KEY = "BeyondFacial adapter hash"
ENABLED_KEY = BY_KEY["enabled"].infotext
PERSON_INFOTEXTS = [f"BeyondFacial person {number}" for number in range(1, MAX_PERSONS + 1)]
PERSON_PARTS = re.compile(
    r"(\w*)(?:; position (\d))?(?:; weight ([\d.]+))?(?:; subject (.*?))?(?:; drawn by .*)?", re.DOTALL
)


def describe_persons(settings: Settings, hashes: Sequence[str]) -> dict[str, str]:
    """The infotext's entries on who is in the picture: hashes of the photos, never a name or a photo."""
    if not settings.persons:
        return {PHOTOS_KEY: hashes[0]}
    described = {}
    for key, person, photo_hash in zip(PERSON_INFOTEXTS, settings.persons, hashes, strict=False):
        parts = [photo_hash, "" if person.position == "auto" else f"position {person.position}"]
        parts += [f"weight {person.weight:g}", f"subject {person.subject}" if person.subject else ""]
        parts.append("" if person.source == PHOTOS else f"drawn by {person.source}")
        described[key] = "; ".join(filter(None, parts))
    return described


def spread_persons(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The parsed infotext with what it says of the first two persons under the keys of the page's components.

    The photos' hash of the second person is under its identity's key.
    """
    spread = dict(parameters)
    for number, key in enumerate(PERSON_INFOTEXTS[:2], 1):
        found = PERSON_PARTS.fullmatch(str(parameters.get(key) or ""))
        if not found or not found[0]:
            continue
        photo_hash, position, weight, subject = found.groups()
        of_person = {"position": position, "weight": weight, "subject": subject}
        if number == 1:
            spread |= {PHOTOS_KEY: photo_hash, f"{key} position": position or "auto"}
            spread |= {BY_KEY[name].infotext: of_person[name] for name in ("weight", "subject") if of_person[name]}
        else:
            spread |= {f"{key} {name}": value for name, value in of_person.items() if value}
            spread[SECOND_PHOTOS_KEY] = photo_hash
    return spread


class Report(dict):
    """The report of one picture: similarity (None: no face found), face_area (None: no face pack measured it) and
    mask_coverage (None: made by another machine), each 0 to 1, and a note if the picture lacks something. Of several
    persons similarity and face_area are the least similar one's; persons has each one's, with the box in px; cosines
    has a row for each face, from the left.

    Its text has no comma and no colon, so that hosts write it into an infotext without quotes.
    """

    def __str__(self) -> str:
        if "persons" in self:
            return self._of_several()
        similarity = "no face" if self["similarity"] is None else f"{self['similarity']:.3f}"
        mask = "" if self["mask_coverage"] is None else f"; mask {self['mask_coverage']:.4f}"
        is_measured = self["face_area"] is not None
        numbers = (
            f"similarity {similarity}; face {self['face_area']:.4f}{mask}" if is_measured else f"not measured{mask}"
        )
        return f"{numbers}; {self['note']}" if "note" in self else numbers

    def _of_several(self) -> str:
        parts = [
            f"person {number} {'no face' if each['similarity'] is None else format(each['similarity'], '.3f')}"
            for number, each in enumerate(self["persons"], 1)
        ]
        parts.append(f"faces {self['faces_found']} of {self['faces_expected']}")
        if self["mask_coverage"] is not None:
            parts.append(f"mask {self['mask_coverage']:.4f}")
        return "; ".join([*parts, *(self[key] for key in ("note",) if key in self)])


class Reports(list):
    """The request's reports, one a picture.

    During a batch, hosts ask with the index *in that batch*, later with the index in the request; `first` is the
    offset between the two. Pictures without a report have None, which hosts do not write.
    """

    first = 0

    def __getitem__(self, index: Any) -> Any:
        position = self.first + index
        return super().__getitem__(position) if position < len(self) else None

    def put(self, position: int, report: Report) -> None:
        """Set the report of the picture at this position in the request."""
        self.extend([None] * (position + 1 - len(self)))
        self[position] = report


class Warnings(list):
    """The request's warnings: a list in the API's answer, and one text in each picture's infotext."""

    def __getitem__(self, _index: Any) -> Any:
        return "; ".join(warning.removeprefix("BeyondFacial: ") for warning in self) or None


class PasteKey(str):
    """An infotext key that also converts its value: hosts compare it as text, and call it with the parsed infotext.

    The call returns the value in the field's type, or None to leave the component unchanged, as for a value
    that is not valid. An infotext without
    BeyondFacial only switches the accordion off; one with it sets the fields that it does not name to their defaults.
    """

    __slots__ = ("field",)
    field: Field

    def __call__(self, parameters: Mapping[str, Any]) -> Any:
        if ENABLED_KEY not in parameters:
            return False if self == ENABLED_KEY else None
        given = spread_persons(parameters)
        if self not in given:
            return self.field.empty or self.field.default
        try:
            value = check_value(self.field, text_to_value(self.field, given[self]))
        except BeyondFacialError:
            return None
        return value if value != "" else self.field.empty


class PersonKey(PasteKey):
    """The key of a saved identity, which is also found by the photos' hash if the infotext has no name."""

    __slots__ = ()

    def __call__(self, parameters: Mapping[str, Any]) -> Any:
        if ENABLED_KEY not in parameters:
            return None
        hash_key = PHOTOS_KEY if self == BY_KEY["identity"].infotext else SECOND_PHOTOS_KEY
        if name := find_saved(spread_persons(parameters).get(hash_key)):
            return name
        return super().__call__(parameters)


def find_saved(photo_hash: Any) -> str:
    """The name under which the photos are saved here; "" if they are not."""
    with suppress(OSError, BeyondFacialError):
        return identities.name_of_photos(str(photo_hash)) if photo_hash else ""
    return ""


def missing_person(parameters: Mapping[str, Any]) -> str:
    """For the host's paste tables: HTML that names who of an infotext is not here; "" if nobody is missing.

    An infotext has no photos; they are found by their hash, or by the name under which they are saved.
    """
    if str(parameters.get(ENABLED_KEY)) != "True" or BY_KEY["source"].infotext in parameters:
        return ""
    given = spread_persons(parameters)
    name = str(given.get(BY_KEY["identity"].infotext) or "")
    sentences = [missing_sentence(given.get(PHOTOS_KEY), name)]
    if SECOND_PHOTOS_KEY in given:
        sentences.append(missing_sentence(given[SECOND_PHOTOS_KEY], "", " of the second person"))
    if more := [key for key in PERSON_INFOTEXTS[2:] if key in parameters]:
        sentences.append(f"The pasted parameters belong to {len(more) + 2} persons; the page takes two, the API four.")
    return "<br>".join(error_html(each) for each in sentences if each)


def missing_sentence(photo_hash: Any, name: str, whose: str = "") -> str:
    """What the page tells of photos that are not here, by their hash or the name of the saved identity; else ""."""
    with suppress(OSError, BeyondFacialError):
        if find_saved(photo_hash) or (name and name in identities.names()):
            return ""
    person = f'the saved identity "{name[:60]}"' if name else f"photos{whose}"
    number = f' (hash "{str(photo_hash)[:SHORT_HASH]}")' if photo_hash else ""
    return (
        f"The pasted parameters belong to {person}{number}, which {'is' if name else 'are'} not saved here; drop the "
        f"person's photos{', in the tab of the second person' if whose else ''}, or choose a saved identity."
    )


def paste_key(field: Field) -> PasteKey:
    """The field's key for the host's paste tables."""
    key = (PersonKey if field.key.endswith("identity") else PasteKey)(field.infotext)
    key.field = field
    return key


PASTED_FIELDS = tuple(
    field
    for field in PAGE_FIELDS
    if not field.is_biometric and not field.key.endswith("_name")  # names are personal
)
