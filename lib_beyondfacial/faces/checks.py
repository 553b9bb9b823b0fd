"""The face check: decides for each photo whether it is used, and which of its faces.

Generation uses the same checks (aggregate.py), so their result is what happens there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..errors import BeyondFacialError
from .analysis import FaceAnalyser
from .choice import LARGEST, FaceChoice, most_similar, pick_faces
from .face import GENDERS, Face
from .photos import Photo, check_count, list_names
from .quality import AGREEING, JUDGES, choose_agreeing, compute_agreement, compute_quality, is_like

CHOSEN_COLOUR, OTHER_COLOUR = (40, 200, 60), (235, 150, 40)
DROPPED_COLOUR = (220, 50, 50)


@dataclass(frozen=True)
class DetectedFace:
    """A face as the check shows it: box x0 y0 x1 y1 in pixels of the photo, score in [0, 1], gender or None."""

    box: tuple[float, float, float, float]
    score: float
    gender: str | None
    chosen: bool


@dataclass(frozen=True, eq=False)
class PhotoCheck:
    """The result for one photo.

    faces: all faces found, the largest first; at most one is chosen.
    detector_size: the size at which they were found, 0 without a face; padded: whether a border was needed.
    agreement: median cosine to the other photos' chosen faces, clipped at 0; None below 3 of them.
    used: whether generation uses the photo; sentence: why not, else "".
    note: says which of several faces was chosen, else "".
    face, quality: the chosen face, and its weight in eq. 10 without the agreement; None and 0 if there is none.
    """

    name: str
    width: int
    height: int
    faces: tuple[DetectedFace, ...]
    detector_size: int
    padded: bool
    agreement: float | None
    used: bool
    sentence: str = ""
    note: str = ""
    face: Face | None = None
    quality: float = 0.0


def check_photos(photos: Sequence[Photo], analyser: FaceAnalyser, choice: FaceChoice = LARGEST) -> list[PhotoCheck]:
    """Check photos: one result a photo, in the same order.

    Raises BeyondFacialError only if nothing can be checked: no photos, more than 16, or the choice is by gender and
    the pack has no gender model. If no photo can be used, summarise() has the message.
    """
    check_count(photos)
    if choice.kind in GENDERS and not analyser.tells_gender:
        raise BeyondFacialError(
            f'The face pack "{analyser.name}" has no gender model, so it cannot choose the {choice.kind} face; '
            'set "face_choice" to another choice or use a pack such as "buffalo_l".'
        )
    found = [analyser.find(photo.image) for photo in photos]
    picks = pick_faces([photo.name for photo in photos], found, choice)
    checks = []
    for photo, faces, pick in zip(photos, found, picks, strict=True):
        face = None if pick.index is None else faces[pick.index]
        height, width = photo.image.shape[:2]
        checks.append(
            PhotoCheck(
                name=photo.name,
                width=width,
                height=height,
                faces=tuple(_detected(each, i == pick.index) for i, each in enumerate(faces)),
                detector_size=faces[0].detector_size if faces else 0,
                padded=bool(faces and faces[0].padded),
                agreement=None,
                used=face is not None,
                sentence=pick.sentence,
                note=pick.note,
                face=face,
                quality=0.0 if face is None else compute_quality(photo, face),
            )
        )
    judged = _judged(checks)
    return _judged(_rejudge_group_photos(photos, found, judged)) if choice.kind == LARGEST.kind else judged


def _rejudge_group_photos(
    photos: Sequence[Photo], found: Sequence[Sequence[Face]], judged: list[PhotoCheck]
) -> list[PhotoCheck]:
    """Use group photos that were dropped for their largest face, with the face that is like the used photos.

    This needs at least two photos that agree. found: all faces of each photo.
    """
    agreed = [check.face for check in judged if check.used and check.face is not None]
    if len(agreed) < JUDGES - 1:
        return judged
    checks = list(judged)
    for i, check in enumerate(judged):
        if check.used or check.face is None or len(found[i]) < 2:
            continue
        best = most_similar(found[i], [[face] for face in agreed])
        face, name = found[i][best], check.name
        if best == 0 or not is_like(face, agreed):
            continue
        checks[i] = replace(
            check,
            faces=tuple(_detected(each, j == best) for j, each in enumerate(found[i])),
            used=True,
            sentence="",
            note=f'"{name}" shows {len(found[i])} faces; the one most like the other photos is used.',
            face=face,
            quality=compute_quality(photos[i], face),
        )
    return checks


def summarise(checks: Sequence[PhotoCheck], choice: FaceChoice = LARGEST) -> tuple[str, tuple[str, ...], str | None]:
    """(why the photos cannot be used at all, or ""; the warnings; the gender shown by most, or None)."""
    used = [check for check in checks if check.used]
    warnings = [check.note for check in checks if check.note and check.used]
    warnings += [check.sentence for check in checks if check.sentence]
    if len(used) == JUDGES - 1 and sum(check.face is not None for check in checks) == len(used):
        first, second = (check.face for check in used if check.face is not None)
        if float(first.normed_embedding @ second.normed_embedding) < AGREEING:
            warnings.append(f"{list_names([check.name for check in used])} may show different persons.")
    return ("" if used else _why_none(checks, choice)), tuple(warnings), _gender(used)


def draw_check(photo: Photo, check: PhotoCheck, side: int = 320) -> np.ndarray:
    """The photo with its faces' boxes, shrunk to at most `side` pixels, RGB uint8.

    The chosen face has a thick green box (red where the photo is dropped nevertheless), the others thin orange ones.
    """
    import cv2

    scale = min(1.0, side / max(photo.image.shape[:2]))
    height, width = (max(round(length * scale), 1) for length in photo.image.shape[:2])
    shown = cv2.resize(photo.image, (width, height), interpolation=cv2.INTER_AREA)
    thin = max(1, round(max(width, height) / 200))
    for face in sorted(check.faces, key=lambda each: each.chosen):  # the chosen face last, on top
        x0, y0, x1, y1 = (round(max(min(v * scale, 2 * side), -side)) for v in face.box)
        colour = (CHOSEN_COLOUR if check.used else DROPPED_COLOUR) if face.chosen else OTHER_COLOUR
        cv2.rectangle(shown, (x0, y0), (x1, y1), colour, 3 * thin if face.chosen else thin)
    return shown


def _judged(checks: list[PhotoCheck]) -> list[PhotoCheck]:
    """With at least 3 photos with a face, drop those that differ from the majority."""
    asked = [i for i, check in enumerate(checks) if check.face is not None]
    if len(asked) < JUDGES:
        return checks
    faces = [face for check in checks if (face := check.face) is not None]
    agreement = compute_agreement(np.stack([face.normed_embedding for face in faces]).astype(np.float64))
    kept = choose_agreeing(agreement)
    judged = list(checks)
    for i, value, keeps in zip(asked, agreement, kept, strict=True):
        why = "" if keeps else f'"{checks[i].name}" shows somebody else and is not used.'
        judged[i] = replace(checks[i], agreement=float(value), used=bool(keeps), sentence=why)
    return judged


def _why_none(checks: Sequence[PhotoCheck], choice: FaceChoice) -> str:
    names = list_names([check.name for check in checks])
    if any(check.face is not None for check in checks):
        return f"The photos {names} show different persons; give photos of one person."
    if any(check.faces for check in checks):
        return f'No {choice.wants} was found in {names}; set "face_choice" to another face or give other photos.'
    advice = "give a photo that shows the face clearly, from the front and not too small"
    return f"No face was found in {names}; {advice}."


def _gender(used: Sequence[PhotoCheck]) -> str | None:
    """The gender of most photos; with a tie, that of the best photo."""
    known = [(check.face.gender, check.quality) for check in used if check.face is not None and check.face.gender]
    if not known:
        return None
    counts = {gender: sum(each == gender for each, _ in known) for gender in GENDERS}
    if counts["female"] != counts["male"]:
        return max(counts, key=counts.__getitem__)
    return max(known, key=lambda pair: pair[1])[0]


def _detected(face: Face, is_chosen: bool) -> DetectedFace:
    x0, y0, x1, y1 = (float(v) for v in face.box)
    return DetectedFace((x0, y0, x1, y1), float(face.score), face.gender, is_chosen)
