"""Measures how similar and how large the person's face is in a finished picture."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..method.assignment import HeadBox, assign
from .aggregate import Identity
from .analysis import FaceAnalyser
from .recognisers import MOBILE, R50, R100, recogniser_of

# Cosines from which two faces may be, and are, one person's. For insightface's packs the usual
# thresholds of verification; Dollhouse's from 120 drawn pictures: one person's
# 5% are at .48, different persons' 95% at .42 and 99% at .64.
LEVELS = {R50: (0.25, 0.4), R100: (0.25, 0.4), MOBILE: (0.25, 0.4), "dollhouse": (0.42, 0.64)}

ANOTHER = "another face"  # the words for a cosine below both levels
SWAPPED = 0.1  # by so much two persons' cosines must gain in sum if they changed places


@dataclass(frozen=True)
class FaceReport:
    """What one picture shows of an identity.

    similarity: cosine of the most similar face found; None when no face was found (a table counts that as 0).
    face_area: that face's box as a part of the picture, in [0, 1]; 0.0 when no face was found.
    box: that box, x0 y0 x1 y1 in pixels, cut to the picture; None when no face was found.
    """

    similarity: float | None
    face_area: float
    box: tuple[float, float, float, float] | None


def compare(image: np.ndarray, identity: Identity, analyser: FaceAnalyser) -> FaceReport:
    """Find the most similar face of a picture (RGB uint8, (H, W, 3)) and report similarity and size."""
    faces = analyser.find_in_scene(image)
    if not faces:
        return FaceReport(None, 0.0, None)
    cosines = [float(face.normed_embedding @ identity.embedding) for face in faces]
    best = int(np.argmax(cosines))
    return face_report(faces[best].box, cosines[best], (image.shape[0], image.shape[1]))


@dataclass(frozen=True)
class PersonsReport:
    """What one picture shows of several persons.

    persons: of each, the face that is his or hers. cosines: by face, from the left, of each person.
    is_swapped: whether two persons' faces are more like each other's.
    """

    persons: tuple[FaceReport, ...]
    cosines: tuple[tuple[float, ...], ...]
    is_swapped: bool


def compare_persons(
    image: np.ndarray, identities: Sequence[Identity], analyser: FaceAnalyser, heads: Sequence[HeadBox | None]
) -> PersonsReport:
    """Find each person's face in a picture (RGB uint8, (H, W, 3)) and report similarity and size.

    Args:
        heads: by person, where the head refinement has put the person, in shares of the picture; None if it is not
            known: then the persons get the faces that are most like them, one each.
    """
    height, width = image.shape[:2]
    found = analyser.find_in_scene(image, wanted=len(identities))
    faces = sorted(found, key=lambda face: float(face.box[0] + face.box[2]))
    cosines = [[float(face.normed_embedding @ each.embedding) for face in faces] for each in identities]
    centres = [((f.box[0] + f.box[2]) / (2 * width), (f.box[1] + f.box[3]) / (2 * height)) for f in faces]
    at = [next((j for j, (x, y) in enumerate(centres) if is_in(box, x, y)), None) for box in heads]
    positions = [0 if j is None else j + 1 for j in at]
    chosen = assign([[-cosine for cosine in of_person] for of_person in cosines], positions)
    swapped = any(
        cosines[k][j] + cosines[m][i] > cosines[k][i] + cosines[m][j] + SWAPPED
        for (k, i), (m, j) in itertools.combinations(enumerate(chosen), 2)
        if i is not None and j is not None
    )
    persons = [
        FaceReport(None, 0.0, None) if j is None else face_report(faces[j].box, cosines[k][j], (height, width))
        for k, j in enumerate(chosen)
    ]
    matrix = tuple(tuple(round(of_person[j], 6) for of_person in cosines) for j in range(len(faces)))
    return PersonsReport(tuple(persons), matrix, swapped)


def is_in(box: HeadBox | None, x: float, y: float) -> bool:
    return box is not None and box[0] <= x <= box[2] and box[1] <= y <= box[3]


def face_report(box: np.ndarray, cosine: float, size: tuple[int, int]) -> FaceReport:
    """The report of one face; size: (height, width) of the picture in px."""
    height, width = size
    x0, y0, x1, y1 = (float(v) for v in np.clip(box, 0, [width, height, width, height]))
    return FaceReport(round(cosine, 6), max(x1 - x0, 0.0) * max(y1 - y0, 0.0) / (width * height), (x0, y0, x1, y1))


def in_words(similarity: float, pack: str) -> str:
    """What a cosine means in this face pack's space; "" for a pack that is not known."""
    levels = LEVELS.get(recogniser_of(pack) or pack)
    if levels is None:
        return ""
    may_be, is_same = levels
    return "same person" if similarity >= is_same else "similar" if similarity >= may_be else ANOTHER
