"""Several photos of one person to one identity (docs/method.md eq. 10)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import BeyondFacialError
from .analysis import Face, FaceAnalyser
from .crops import head_crop
from .photos import Photo, check_count

RECOGNISER_SIDE = 112  # pixels of a face that the recogniser sees: a larger face is no better
SHARP = 100.0  # variance of the Laplacian at which a face counts half
AGREEING = 0.15  # cosine; two persons stay below it in ArcFace's space
RELATIVE_AGREEING = 0.5  # of the median agreement
JUDGES = 3  # photos from which on a majority can be asked


@dataclass(frozen=True, eq=False)
class Identity:
    """Who it is.

    embedding: unit direction, float32 (512,).
    norm: weighted mean norm of the raw embeddings, for adapters that take raw ones.
    crop: RGB uint8 (256, 256, 3), the head of the best photo.
    names: the photos used.
    warnings: sentences on photos that were dropped or doubtful.
    photo_hash: short hash over the pixels of all photos given.
    """

    embedding: np.ndarray
    norm: float
    crop: np.ndarray
    names: tuple[str, ...]
    warnings: tuple[str, ...]
    photo_hash: str


@dataclass(frozen=True, eq=False)
class _Sample:
    photo: Photo
    face: Face
    quality: float


def aggregate_photos(photos: Sequence[Photo], analyser: FaceAnalyser) -> Identity:
    """One identity from 1 to 16 photos (docs/method.md eq. 10).

        weight = score * relative face size * sharpness * agreement
        embedding = unit(sum weight * unit embedding);  norm = weighted mean of the raw norms

    Of several faces in a photo the largest is used. A photo without a face, or from 3 photos on one that shows
    somebody else, is dropped by name with a warning. Raises BeyondFacialError naming the photos where none is left.
    """
    check_count(photos)
    samples, warnings = _find_samples(photos, analyser)
    unit = np.stack([sample.face.normed_embedding for sample in samples]).astype(np.float64)
    quality = np.array([sample.quality for sample in samples])
    agreement = compute_agreement(unit)
    kept = choose_agreeing(agreement)
    names = [sample.photo.name for sample in samples]
    if not kept.any():
        raise BeyondFacialError(f"The photos {_listed(names)} show different persons; give photos of one person.")
    warnings += [f'"{names[i]}" shows somebody else and is not used.' for i in np.flatnonzero(~kept)]
    if len(samples) == JUDGES - 1 and float(unit[0] @ unit[1]) < AGREEING:
        warnings.append(f"{_listed(names)} may show different persons.")
    weights = np.where(kept, quality * agreement, 0.0)
    weights = weights / weights.sum()
    raw_norms = np.array([np.linalg.norm(sample.face.embedding) for sample in samples])
    best = samples[int(np.argmax(weights))]
    return Identity(
        embedding=mean_direction(unit, weights),
        norm=float(weights @ raw_norms),
        crop=head_crop(best.photo.image, best.face),
        names=tuple(name for name, keep in zip(names, kept, strict=True) if keep),
        warnings=tuple(warnings),
        photo_hash=hash_photos(photos),
    )


def compute_agreement(unit: np.ndarray) -> np.ndarray:
    """Median cosine of each embedding to the *other* ones, clipped at 0; ones for fewer than 3.

    Args:
        unit: unit embeddings (N, 512).
    """
    count = len(unit)
    if count < JUDGES:
        return np.ones(count)
    cosines = unit @ unit.T
    others = cosines[~np.eye(count, dtype=bool)].reshape(count, count - 1)
    return np.clip(np.median(others, axis=1), 0.0, 1.0)


def choose_agreeing(agreement: np.ndarray) -> np.ndarray:
    """Which photos stay, bool (N,): the agreement is neither small in itself nor beside the others'."""
    return agreement >= max(AGREEING, RELATIVE_AGREEING * float(np.median(agreement)))


def mean_direction(unit: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Unit float32 (512,): direction of the weighted mean of unit embeddings (N, 512); weights (N,) sum to 1."""
    mean = weights @ unit
    length = float(np.linalg.norm(mean))
    if length < 1e-6:
        raise BeyondFacialError("The photos show opposite faces; give photos of one person.")
    return (mean / length).astype(np.float32)


def hash_photos(photos: Sequence[Photo]) -> str:
    """10 hex digits of the SHA-256 over the photos' sizes and pixels, in their order."""
    digest = hashlib.sha256()
    for photo in photos:
        digest.update(repr(photo.image.shape).encode())
        digest.update(np.ascontiguousarray(photo.image).data)
    return digest.hexdigest()[:10]


def compute_quality(photo: Photo, face: Face) -> float:
    """Score * relative face size * sharpness of one face, in (0, 1]: what eq. 10 weighs a photo with."""
    import cv2

    size = min(1.0, face.area**0.5 / RECOGNISER_SIDE)
    grey = cv2.cvtColor(head_crop(photo.image, face, RECOGNISER_SIDE), cv2.COLOR_RGB2GRAY)
    variance = float(cv2.Laplacian(grey, cv2.CV_64F).var())
    return max(face.score * size * variance / (variance + SHARP), 1e-6)


def _find_samples(photos: Sequence[Photo], analyser: FaceAnalyser) -> tuple[list[_Sample], list[str]]:
    samples, warnings, faceless = [], [], []
    for photo in photos:
        faces = analyser.find(photo.image)
        if not faces:
            faceless.append(photo.name)
            continue
        if len(faces) > 1:
            warnings.append(f'"{photo.name}" shows {len(faces)} faces; the largest is used.')
        samples.append(_Sample(photo, faces[0], compute_quality(photo, faces[0])))
    if not samples:
        advice = "give a photo that shows the face clearly, from the front and not too small"
        raise BeyondFacialError(f"No face was found in {_listed(faceless)}; {advice}.")
    return samples, warnings + [f'No face was found in "{name}"; it is not used.' for name in faceless]


def _listed(names: Sequence[str]) -> str:
    quoted = [f'"{name}"' for name in names]
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} and {quoted[-1]}"
