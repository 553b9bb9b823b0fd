"""What came of a request, one line of text a picture, for the place under the pictures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..faces.reports import in_words
from ..sampling.report import Report
from ..settings import Settings
from .pictures import Output, Picture


def report_lines(output: Output) -> list[str]:
    """A line for each picture, or for each person in it: likeness in numbers and words, size of the face, what became
    of the head; none without a face pack."""
    if output.persons[0].analyser is None:
        return []
    best = best_position(output)
    pack, names = output.persons[0].analyser.name, person_names(output.settings)
    lines = []
    for position, picture in sorted(output.pictures.items()):
        best_of = f"; the best of {len(output.pictures)}" if position == best else ""
        for name, line in zip(names, describe(picture, pack), strict=False):
            lines.append(f"BeyondFacial picture {position + 1}{f', {name}' if name else ''}: {line}{best_of}")
    return lines


def person_names(settings: Settings) -> list[str]:
    """What the lines call the persons: nothing, if there is one."""
    return [each.name or each.identity or f"person {n}" for n, each in enumerate(settings.persons, 1)] or [""]


def describe(picture: Picture, pack: str) -> list[str]:
    """Of each person, as in "likeness .95 (same person), face 5% of the picture, head refined"."""
    faces = picture.report.get("persons") or [picture.report]
    refined = picture.refined or (False,) * len(faces)
    note = picture.report.get("note", "")
    if len(faces) > 1 and note.startswith("no face"):  # which each line says of its own person
        note = ""
    return [describe_face(face, is_refined, note, pack) for face, is_refined in zip(faces, refined, strict=True)]


def describe_face(face: Mapping[str, Any], is_refined: bool, note: str, pack: str) -> str:
    """face: its "similarity" and "face_area". note: what the picture lacks."""
    similarity = face["similarity"]
    parts = ["no face found"]
    if similarity is not None:
        words = in_words(similarity, pack)
        parts = [f"likeness {short(similarity)}{f' ({words})' if words else ''}"]
        parts.append(f"face {percent(face['face_area'])} of the picture")
    parts.append("head refined" if is_refined else note)
    return ", ".join(filter(None, parts))


def best_position(output: Output) -> int | None:
    """The picture that is most like the person; None where there is nothing to choose from."""
    measured = {at: each.report["similarity"] for at, each in output.pictures.items()}
    found = {at: value for at, value in measured.items() if value is not None}
    return max(found, key=lambda at: found[at]) if found and len(measured) > 1 else None


def cost_lines(report: Report) -> list[str]:
    """What the request cost, in the UNet's rows; no line if nothing was fused."""
    return [] if report.cost is None else [f"BeyondFacial: {percent(report.cost)} more work for the model"]


def short(value: float) -> str:
    """A cosine with two digits, as .95."""
    return f"{value:.2f}".replace("0.", ".", 1)


def percent(share: float) -> str:
    return f"{share:.1%}" if share < 0.01 else f"{share:.0%}"
