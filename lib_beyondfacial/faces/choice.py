"""Chooses the face of a photo that shows several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import BeyondFacialError
from ..settings import BY_KEY
from .face import GENDERS, Face

KINDS = BY_KEY["face_choice"].choices


@dataclass(frozen=True)
class FaceChoice:
    """One of KINDS (the setting "face_choice"); `index` counts from 1 and is for "from the left"."""

    kind: str = "largest"
    index: int = 1

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            listed = ", ".join(f'"{kind}"' for kind in KINDS)
            raise BeyondFacialError(f'"face_choice" is "{str(self.kind)[:60]}"; it must be one of {listed}.')
        if self.index < 1:
            raise BeyondFacialError(f'"face_index" is {self.index}; faces are counted from 1.')

    @property
    def wants(self) -> str:
        """A phrase for the face that is asked for."""
        if self.kind == "from the left":
            return f"face number {self.index} from the left"
        return f"{self.kind} face"


LARGEST = FaceChoice()


@dataclass(frozen=True)
class Pick:
    """The choice for one photo: the face's index, or None and a sentence why; a note if there were several faces."""

    index: int | None
    sentence: str = ""
    note: str = ""


def pick_faces(names: Sequence[str], found: Sequence[Sequence[Face]], choice: FaceChoice) -> list[Pick]:
    """One pick a photo.

    Args:
        names: the photos'.
        found: the faces of each, the largest first.
        choice: the same for all photos.
    """
    return [_pick(name, i, found, choice) for i, name in enumerate(names)]


def _pick(name: str, i: int, found: Sequence[Sequence[Face]], choice: FaceChoice) -> Pick:
    faces = found[i]
    if not faces:
        return Pick(None, f'No face was found in "{name}"; it is not used.')
    if choice.kind == "from the left":
        return _pick_by_index(name, faces, choice)
    if choice.kind in GENDERS:
        return _pick_by_gender(name, faces, choice.kind)
    others = [each for j, each in enumerate(found) if j != i and each]
    if choice.kind == "most similar" and others:
        return _noted(name, faces, most_similar(faces, others), "the one most like the other photos is used")
    alone = ", as there is no other photo to compare with" if choice.kind == "most similar" else ""
    return _noted(name, faces, 0, f"the largest is used{alone}")


def _pick_by_index(name: str, faces: Sequence[Face], choice: FaceChoice) -> Pick:
    if choice.index > len(faces):
        shown = "one face" if len(faces) == 1 else f"{len(faces)} faces"
        return Pick(None, f'"{name}" shows {shown}, so there is no {choice.wants}; it is not used.')
    order = sorted(range(len(faces)), key=lambda k: float(faces[k].box[0] + faces[k].box[2]))
    return _noted(name, faces, order[choice.index - 1], f"{choice.wants} is used")


def _pick_by_gender(name: str, faces: Sequence[Face], gender: str) -> Pick:
    fitting = [k for k, face in enumerate(faces) if face.gender == gender]
    if not fitting:
        return Pick(None, f'"{name}" shows no {gender} face; it is not used.')
    which = f"the largest {gender} one" if len(fitting) > 1 else f"the {gender} one"
    return _noted(name, faces, fitting[0], f"{which} is used")


def most_similar(faces: Sequence[Face], others: Sequence[Sequence[Face]]) -> int:
    """The face most similar to the other photos: it has the largest mean, over these, of its highest cosine in each.

    (All faces of the other photos count, because the largest face of a group photo may be anybody.)
    """
    unit = np.stack([face.normed_embedding for face in faces])
    likeness = [(unit @ np.stack([face.normed_embedding for face in each]).T).max(1) for each in others]
    return int(np.argmax(np.mean(likeness, axis=0)))


def _noted(name: str, faces: Sequence[Face], index: int, which: str) -> Pick:
    return Pick(index, note=f'"{name}" shows {len(faces)} faces; {which}.' if len(faces) > 1 else "")
