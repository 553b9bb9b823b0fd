"""What came of a request, one line of text a picture, for the place under the pictures."""

from __future__ import annotations

from ..faces.reports import in_words
from .pictures import Output, Picture


def report_lines(output: Output) -> list[str]:
    """A line for each picture: likeness in numbers and words, size of the face, what became of the head; none without
    a face pack."""
    best, analyser = best_position(output), output.persons[0].analyser
    if analyser is None:
        return []
    return [
        f"BeyondFacial picture {position + 1}: {describe(picture, analyser.name)}"
        f"{f'; the best of {len(output.pictures)}' if position == best else ''}"
        for position, picture in sorted(output.pictures.items())
    ]


def describe(picture: Picture, pack: str) -> str:
    """As in "likeness .95 (same person), face 5% of the picture, head refined"."""
    similarity = picture.report["similarity"]
    parts = ["no face found"]
    if similarity is not None:
        words = in_words(similarity, pack)
        parts = [f"likeness {short(similarity)}{f' ({words})' if words else ''}"]
        parts.append(f"face {percent(picture.report['face_area'])} of the picture")
    if picture.is_refined:
        parts.append("head refined")
    elif "note" in picture.report:
        parts.append(picture.report["note"])
    return ", ".join(parts)


def best_position(output: Output) -> int | None:
    """The picture that is most like the person; None where there is nothing to choose from."""
    measured = {at: each.report["similarity"] for at, each in output.pictures.items()}
    found = {at: value for at, value in measured.items() if value is not None}
    return max(found, key=lambda at: found[at]) if found and len(measured) > 1 else None


def short(value: float) -> str:
    """A cosine with two digits, as .95."""
    return f"{value:.2f}".replace("0.", ".", 1)


def percent(share: float) -> str:
    return f"{share:.1%}" if share < 0.01 else f"{share:.0%}"
