"""Writes settings and reports into the host's infotext, and pastes them back into the UI."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from ..common import SHORT_HASH
from ..errors import BeyondFacialError
from ..settings import BY_KEY, FIELDS, MAX_PERSONS, PHOTOS, Field, Settings, check_value, text_to_value
from . import identities
from .components import error_html

REPORT_KEY = "BeyondFacial report"
WARNINGS_KEY = "BeyondFacial warnings"
PICTURES_KEY = "BeyondFacial pictures"
MASKS_KEY = "BeyondFacial masks"
MASK_KEY = "BeyondFacial mask"
BEST_KEY = "BeyondFacial best picture"
VERSION_KEY = "BeyondFacial version"
PHOTOS_KEY = "BeyondFacial photos"
ADAPTER_HASH_KEY = "BeyondFacial adapter hash"
ENABLED_KEY = BY_KEY["enabled"].infotext


PERSON_INFOTEXTS = [f"BeyondFacial person {number}" for number in range(1, MAX_PERSONS + 1)]


def describe_persons(settings: Settings, hashes: Sequence[str]) -> dict[str, str]:
    """The infotext's entries on who is in the picture: hashes of the photos, never a name or a photo."""
    if not settings.persons:
        return {PHOTOS_KEY: hashes[0]}
    described = {}
    for key, person, photo_hash in zip(PERSON_INFOTEXTS, settings.persons, hashes, strict=False):
        parts = [photo_hash, f"subject {person.subject}" if person.subject else ""]
        parts.append("" if person.position == "auto" else f"position {person.position}")
        parts.append("" if person.source == PHOTOS else f"drawn by {person.source}")
        described[key] = "; ".join(filter(None, [*parts, f"weight {person.weight:g}"]))
    return described


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
        if self not in parameters:
            return self.field.empty or self.field.default
        try:
            value = check_value(self.field, text_to_value(self.field, parameters[self]))
        except BeyondFacialError:
            return None
        return value if value != "" else self.field.empty


class PersonKey(PasteKey):
    """The key of the saved identity, which is also found by the photos' hash if the infotext has no name."""

    __slots__ = ()

    def __call__(self, parameters: Mapping[str, Any]) -> Any:
        if ENABLED_KEY not in parameters:
            return None
        with suppress(OSError, BeyondFacialError):
            photo_hash = str(parameters.get(PHOTOS_KEY) or "")
            name = identities.name_of_photos(photo_hash) if photo_hash else ""
            if name:
                return name
        return super().__call__(parameters)


def missing_person(parameters: Mapping[str, Any]) -> str:
    """For the host's paste tables: HTML that names the person of an infotext who is not here; "" if nobody is missing.

    An infotext has no photos; they are found by their hash, or by the name under which they are saved.
    """
    if str(parameters.get(ENABLED_KEY)) != "True" or BY_KEY["source"].infotext in parameters:
        return ""
    photo_hash = str(parameters.get(PHOTOS_KEY) or "")
    name = str(parameters.get(BY_KEY["identity"].infotext) or "")
    with suppress(OSError, BeyondFacialError):
        if (photo_hash and identities.name_of_photos(photo_hash)) or (name and name in identities.names()):
            return ""
    person = f'the saved identity "{name[:60]}"' if name else "photos"
    number = f' (hash "{photo_hash[:SHORT_HASH]}")' if photo_hash else ""
    return error_html(
        f"The pasted parameters belong to {person}{number}, which {'is' if name else 'are'} not saved here; drop the "
        "person's photos, or choose a saved identity."
    )


def paste_key(field: Field) -> PasteKey:
    """The field's key for the host's paste tables."""
    key = (PersonKey if field.key == "identity" else PasteKey)(field.infotext)
    key.field = field
    return key


PASTED_FIELDS = tuple(field for field in FIELDS if not field.is_biometric)
