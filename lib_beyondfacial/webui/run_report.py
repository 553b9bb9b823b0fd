"""What came of a request, one line of text a picture, for the place under the pictures."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from ..faces.reports import ANOTHER, in_words
from ..hosts.model import is_interrupted
from ..sampling.report import Report
from ..sampling.shortfalls import NOT_ACTED
from ..settings import Settings
from .pictures import Output, Picture


def report_lines(output: Output) -> list[str]:
    """A line for each picture, or for each person in it: similarity in numbers and words, size of the face, what
    became of the head, and how much of the picture its mask covers, if that is shown; none without a face pack."""
    if output.persons[0].analyser is None:
        return []
    best = best_position(output)
    pack, names = output.persons[0].analyser.name, person_names(output.settings)
    lines = []
    for position, picture in sorted(output.pictures.items()):
        best_of = f"; the best of {len(output.pictures)}" if position == best else ""
        for name, line in zip(names, describe(picture, pack), strict=False):
            lines.append(f"BeyondFacial picture {position + 1}{f', {name}' if name else ''}: {line}{best_of}")
        if output.shows_mask and picture.mask is not None and (covered := picture.report["mask_coverage"]):
            mask = f"mask {percent(covered)} of the picture"  # javascript/beyondfacial_mask.js reads it
            if len(names) > 1:
                lines.append(f"BeyondFacial picture {position + 1}: {mask}")
            else:
                lines[-1] += f"; {mask}"
    return lines


def person_names(settings: Settings) -> list[str]:
    """What the lines call the persons: nothing, if there is one."""
    return [each.name or each.identity or f"person {n}" for n, each in enumerate(settings.persons, 1)] or [""]


def describe(picture: Picture, pack: str) -> list[str]:
    """Of each person, as in "similarity .95 (same person), face 5% of the picture, head refined"."""
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
        parts = [f"similarity {short(similarity)}{f' ({words})' if words else ''}"]
        parts.append(f"face {percent(face['face_area'])} of the picture")
    parts.append("head refined" if is_refined else note)
    return ", ".join(filter(None, parts))


def best_position(output: Output) -> int | None:
    """The picture that is most like the person; None where there is nothing to choose from."""
    measured = {at: each.report["similarity"] for at, each in output.pictures.items()}
    found = {at: value for at, value in measured.items() if value is not None}
    return max(found, key=lambda at: found[at]) if found and len(measured) > 1 else None


def cost_lines(report: Report, has_plain: bool = False) -> list[str]:
    """What the request cost, in the UNet's rows; no line if nothing was fused. has_plain: plain pictures were made."""
    if report.cost is None:
        return []
    plain = "; the plain picture comes on top" if has_plain else ""
    return [f"BeyondFacial: {percent(report.cost)} more UNet work (without the autoencoder){plain}"]


def missing_faces(output: Output) -> list[str]:
    """A warning for each person of a likeness above 0 who has no face, or another person's; none where a picture's own
    warning explains it.
    An interrupted picture is not finished, so nothing is missed in it."""
    if output.persons[0].analyser is None:
        return []
    pack, settings = output.persons[0].analyser.name, output.settings
    names = [each.name or f"Person {n}" for n, each in enumerate(settings.persons, 1)] or ["The person"]
    sentences = []
    for k, (name, person) in enumerate(zip(names, settings.each_person(), strict=True)):
        if not person.weight:
            continue
        measured = {
            position: (picture.report.get("persons") or [picture.report])[k].get("similarity")
            for position, picture in sorted(output.pictures.items())
            if not (picture.report.get("note") == NOT_ACTED or picture.report.get("swapped"))
        }
        others = {n: v for n, v in measured.items() if v is not None and in_words(v, pack) == ANOTHER}
        if others:
            values = join_words(map(short, others.values()))
            sentences.append(
                f"{name} in {count_pictures(others)} does not look like the photo "
                f'(similarity {values}); try another seed, "weight" up or "start" down.'
            )
        lost = [n for n, v in measured.items() if v is None and "note" not in output.pictures[n].report]
        if lost and not is_interrupted():
            sentences.append(
                f"{name} has no face in {count_pictures(lost)}, as far as the face pack can tell; try another seed or "
                "a larger size, or let the prompt show the face."
            )
    return sentences


def count_pictures(positions: Collection[int]) -> str:
    """As in "pictures 1, 2 and 4"; positions are counted from 0."""
    return f"picture{'s' * (len(positions) > 1)} {join_words(str(n + 1) for n in positions)}"


def join_words(words: Iterable[str]) -> str:
    return " and ".join(", ".join(words).rsplit(", ", 1))


def short(value: float) -> str:
    """A cosine with two digits, as .95."""
    return f"{value:.2f}".replace("0.", ".", 1)


def percent(share: float) -> str:
    return f"{share:.1%}" if share < 0.01 else f"{share:.0%}"
