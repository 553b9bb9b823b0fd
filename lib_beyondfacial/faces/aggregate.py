"""Averages several photos of one person into one identity (docs/method.md eq. 10)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..common import SHORT_HASH
from ..errors import BeyondFacialError
from .alignment import ALIGNED, align_face
from .analysis import FaceAnalyser
from .checks import check_photos, summarise
from .choice import LARGEST, FaceChoice
from .crops import head_crop
from .photos import Photo
from .quality import mean_direction

EMBEDDING = 512  # numbers of every recogniser


@dataclass(frozen=True, eq=False)
class Identity:
    """A person, from the N photos that are used; data per photo is sorted by their weights, the best first.

    embedding: unit direction, float32 (512,).
    norm: weighted mean norm of the raw embeddings, for adapters that take raw ones.
    crop: RGB uint8 (256, 256, 3), the head of the best photo; None in an export without it.
    names: the photos used, in the order in which they were given.
    warnings: sentences on photos that were dropped or doubtful.
    photo_hash: short hash over the pixels of all photos, used or not, and over the choice of face.
    photos: unit embeddings, float32 (N, 512).
    norms: of the raw embeddings, float32 (N,).
    weights: eq. 10's, float32 (N,), summing to 1.
    aligned: RGB uint8 (N, 224, 224, 3), the faces at twice ArcFace's template; None if they were not saved.
    gender: "female" or "male" if the pack gives it, else None.
    space: the recogniser of the embeddings (FaceAnalyser.space).
    name: of the saved identity, else "".
    features: of the best face by other models, "clip:<hash of the model>", if an export contains them.
    """

    embedding: np.ndarray
    norm: float
    crop: np.ndarray | None
    names: tuple[str, ...]
    warnings: tuple[str, ...]
    photo_hash: str
    photos: np.ndarray
    norms: np.ndarray
    weights: np.ndarray
    aligned: np.ndarray | None = None
    gender: str | None = None
    space: str = ""
    name: str = ""
    features: Mapping[str, np.ndarray] = field(default_factory=dict)


def aggregate_photos(photos: Sequence[Photo], analyser: FaceAnalyser, choice: FaceChoice = LARGEST) -> Identity:
    """One identity from 1 to 16 photos (docs/method.md eq. 10).

        weight = score * relative face size * sharpness * agreement
        embedding = unit(sum weight * unit embedding);  norm = weighted mean of the raw norms

    `choice` selects the face of each photo. A photo without such a face is dropped with a warning that names it; so
    is, from 3 photos on, a photo of somebody else. Raises BeyondFacialError naming the photos if none is left.
    """
    checks = check_photos(photos, analyser, choice)
    problem, warnings, gender = summarise(checks, choice)
    if problem:
        raise BeyondFacialError(problem)
    used = [
        (photo, check, face)
        for photo, check in zip(photos, checks, strict=True)
        if check.used and (face := check.face)
    ]
    weight = [check.quality * (1.0 if check.agreement is None else check.agreement) for _, check, _ in used]
    order = sorted(range(len(used)), key=lambda i: -weight[i])
    weights = np.array([weight[i] for i in order]) / sum(weight)
    raw = np.stack([used[i][2].embedding for i in order]).astype(np.float64)
    norms = np.linalg.norm(raw, axis=1)
    unit = raw / np.maximum(norms, 1e-12)[:, None]
    best, _, best_face = used[order[0]]
    return Identity(
        embedding=mean_direction(unit, weights),
        norm=float(weights @ norms),
        crop=head_crop(best.image, best_face),
        names=tuple(photo.name for photo, _, _ in used),
        warnings=warnings,
        photo_hash=hash_photos(photos, choice),
        photos=unit.astype(np.float32),
        norms=norms.astype(np.float32),
        weights=weights.astype(np.float32),
        aligned=np.stack([align_face(used[i][0].image, used[i][2].landmarks, ALIGNED) for i in order]),
        gender=gender,
        space=analyser.space,
    )


def unmeasured(photos: Sequence[Photo]) -> Identity:
    """An identity of photos that no face pack has seen: nothing can be compared with it."""
    nothing = np.zeros((0, EMBEDDING), np.float32)
    weights, names = np.zeros(0, np.float32), tuple(photo.name for photo in photos)
    return Identity(
        np.zeros(EMBEDDING, np.float32), 0.0, None, names, (), hash_photos(photos), nothing, weights, weights
    )


def hash_photos(photos: Sequence[Photo], choice: FaceChoice = LARGEST) -> str:
    """10 hex digits of the SHA-256 over the photos' sizes and pixels, in order, and over the choice unless default."""
    digest = hashlib.sha256()
    for photo in photos:
        digest.update(repr(photo.image.shape).encode())
        digest.update(np.ascontiguousarray(photo.image).data)
    if choice.kind == "from the left":
        digest.update(f"{choice.kind} {choice.index}".encode())
    elif choice.kind != LARGEST.kind:
        digest.update(choice.kind.encode())
    return digest.hexdigest()[:SHORT_HASH]
