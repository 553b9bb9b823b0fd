"""The face check, for page and API: what a run would make of each photo, seen before anything is generated."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from ..errors import BeyondFacialError
from ..faces import photos
from ..faces.checks import PhotoCheck, check_photos, draw_check, summarise
from ..settings import Settings
from . import identities, person
from .bodies import CHECK_FIELDS
from .components import NONE, chosen_name, error_html, exception_html
from .failures import sentence_of
from .previews import to_base64_png

INPUTS = tuple(field.key for field in CHECK_FIELDS)
USED, DROPPED = "\N{CHECK MARK}", "\N{BALLOT X}"
HINT = "Check faces shows what a run would make of each photo."


@dataclass(frozen=True, eq=False)
class FaceCheck:
    """The photos, one check for each, and what is said of them all; `problem` is why a run would refuse them."""

    photos: Sequence[photos.Photo]
    checks: Sequence[PhotoCheck]
    pack: str
    problem: str
    warnings: tuple[str, ...]
    gender: str | None


def settings_of(*values: Any) -> Settings:
    """Settings from the page's values of INPUTS; None means nothing chosen yet."""
    given = {key: value for key, value in zip(INPUTS, values, strict=True) if value is not None}
    return Settings(**{key: "" if value == NONE else value for key, value in given.items()})


def run_check(settings: Settings, given: Sequence[photos.Photo]) -> FaceCheck:
    """Check the photos with the face pack and the choice of face that a run with these settings would take."""
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


def show(*values: Any) -> tuple[Any, str]:
    """For the page's button: the photos with their boxes, and in words what was found.

    Args:
        values: of INPUTS, and behind them the saved identity that is chosen: without photos it is what is shown.
    """
    try:
        settings = settings_of(*values[: len(INPUTS)])
        if not settings.references and (saved := chosen_name(*values[len(INPUTS) :] or ("",))):
            return show_saved(saved)
        if not settings.references:
            raise BeyondFacialError("There is no photo to check; give at least one.")
        readable, bad = _read_uploads(settings.references)
        checked = run_check(settings, readable) if readable else None
    except Exception as error:
        return gr.update(), exception_html(error)
    if checked is None:
        return gr.update(value=[]), "<br>".join(bad)
    marked = zip(checked.photos, checked.checks, strict=True)
    shown = [(draw_check(photo, check), f"{USED if check.used else DROPPED} {check.name}") for photo, check in marked]
    return gr.update(value=shown), "<br>".join([*_check_lines(checked), *bad])


def show_saved(name: str) -> tuple[Any, str]:
    """The saved identity in place of photos, which were checked when it was saved."""
    entry = identities.entry_of(name)
    if entry.sentence:
        return gr.update(), error_html(entry.sentence)
    count = "1 photo was" if entry.photos == 1 else f"{entry.photos} photos were"
    text = f'{USED} The saved identity "{name}" is in use; its {count} checked when it was saved.'
    return gr.update(value=[] if entry.thumbnail is None else [(entry.thumbnail, name)]), html.escape(text)


def _read_uploads(uploads: Sequence[Any]) -> tuple[list[photos.Photo], list[str]]:
    readable, bad, pixels = [], [], photos.pixels_each(len(uploads))
    for upload in uploads:
        try:
            readable.append(photos.decode_upload(upload, pixels=pixels))
        except BeyondFacialError as error:
            bad.append(error_html(f"{sentence_of(error)} A run would stop there: take it out."))
    return readable, bad


def _check_lines(checked: FaceCheck) -> list[str]:
    """One line of HTML a photo, then one on all of them, then what else is to be said."""
    count = sum(check.used for check in checked.checks)
    gender = f"; by the pack {checked.gender}" if checked.gender else ""
    total = f'{count} of {len(checked.checks)} used, with the face pack "{checked.pack}"{gender}.'
    in_lines = {check.sentence for check in checked.checks} | {check.note for check in checked.checks}
    notes = [each for each in (checked.problem, *checked.warnings) if each and each not in in_lines]
    return [*map(_line, checked.checks), f"<b>{html.escape(total)}</b>", *map(error_html, notes)]


def _line(check: PhotoCheck) -> str:
    facts = [f"{len(check.faces)} face{'' if len(check.faces) == 1 else 's'}"]
    facts += [f"score {face.score:.2f}" for face in check.faces if face.chosen]
    if check.agreement is not None:
        facts.append(f"agreement {check.agreement:.2f}")
    if check.faces:
        facts.append(f"detector {check.detector_size}{' with a border' if check.padded else ''}")
    if check.used:
        return html.escape(f"{USED} {check.name}: {', '.join(facts)}. {check.note}".strip())
    return error_html(f"{DROPPED} {check.sentence}") + html.escape(f" ({', '.join(facts)})" if check.faces else "")


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
