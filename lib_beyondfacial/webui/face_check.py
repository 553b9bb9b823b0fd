"""The face check, for page (photos_ui.py) and API: what a run would make of each photo."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..faces import photos
from ..faces.checks import PhotoCheck, check_photos, draw_check, summarise
from ..settings import Settings
from . import person
from .bodies import CHECK_FIELDS
from .components import chosen_name
from .previews import to_base64_png

INPUTS = tuple(field.key for field in CHECK_FIELDS)


@dataclass(frozen=True, eq=False)
class FaceCheck:
    """The photos with one check each, and messages about all; problem: why a generation would fail, else ""."""

    photos: Sequence[photos.Photo]
    checks: Sequence[PhotoCheck]
    pack: str
    problem: str
    warnings: tuple[str, ...]
    gender: str | None


def settings_of(*values: Any) -> Settings:
    """Settings from the UI's values of INPUTS; None means nothing chosen yet."""
    given = {key: value for key, value in zip(INPUTS, values, strict=True) if value is not None}
    return Settings(**{key: chosen_name(value) if isinstance(value, str) else value for key, value in given.items()})


def run_check(settings: Settings, given: Sequence[photos.Photo]) -> FaceCheck:
    """Check the photos with the face pack and face choice that a generation with these settings would use."""
    analyser, warnings = person.open_analyser(settings.face_pack, person.pack_of_adapter(settings))
    choice = person.choice_of(settings)
    checks = check_photos(given, analyser, choice)
    problem, more, gender = summarise(checks, choice)
    return FaceCheck(given, checks, analyser.name, problem, (*warnings, *more), gender)


def check_request(values: dict[str, Any]) -> dict[str, Any]:
    """The answer of POST /beyondfacial/v1/faces, for a checked body."""
    settings = Settings(**values)
    checked = run_check(settings, person.load_photos(settings, is_api=True))
    pairs = zip(checked.photos, checked.checks, strict=True)
    return {
        "pack": checked.pack,
        "photos": [_photo_to_json(photo, check) for photo, check in pairs],
        "problem": checked.problem,
        "warnings": list(checked.warnings),
        "gender": checked.gender,
    }


def _photo_to_json(photo: photos.Photo, check: PhotoCheck) -> dict[str, Any]:
    return {
        "name": check.name,
        "width": check.width,
        "height": check.height,
        "detector_size": check.detector_size,
        "padded": check.padded,
        "used": check.used,
        "agreement": check.agreement,
        "sentence": check.sentence or check.note,
        "faces": [
            {"box": list(face.box), "score": face.score, "gender": face.gender, "chosen": face.chosen}
            for face in check.faces
        ],
        "thumbnail": to_base64_png(draw_check(photo, check)),
    }
