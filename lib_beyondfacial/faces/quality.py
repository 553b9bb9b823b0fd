"""The weight of a photo: the factors of docs/method.md eq. 10."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..errors import BeyondFacialError
from .crops import head_crop
from .face import Face
from .photos import Photo

RECOGNISER_SIDE = 112  # side in pixels of the recogniser's input: a larger face is no better
SHARP = 100.0  # variance of the Laplacian at which a face counts half
AGREEING = 0.15  # cosine; different persons are below it with ArcFace
RELATIVE_AGREEING = 0.5  # of the median agreement
JUDGES = 3  # the number of photos needed for a majority


def compute_quality(photo: Photo, face: Face) -> float:
    """Score * relative face size * sharpness of one face, in (0, 1]: its weight in eq. 10 without the agreement."""
    import cv2

    size = min(1.0, face.area**0.5 / RECOGNISER_SIDE)
    grey = cv2.cvtColor(head_crop(photo.image, face, RECOGNISER_SIDE), cv2.COLOR_RGB2GRAY)
    variance = float(cv2.Laplacian(grey, cv2.CV_64F).var())
    return max(face.score * size * variance / (variance + SHARP), 1e-6)


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
    """Which photos to keep, bool (N,): those whose agreement is neither small nor far below the others'."""
    return agreement >= max(AGREEING, RELATIVE_AGREEING * float(np.median(agreement)))


def is_like(face: Face, others: Sequence[Face]) -> bool:
    """Whether a face may be the same person as the others: its median cosine to them is at least AGREEING."""
    cosines = [float(face.normed_embedding @ other.normed_embedding) for other in others]
    return float(np.median(cosines)) >= AGREEING


def mean_direction(unit: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Unit float32 (512,): direction of the weighted mean of unit embeddings (N, 512); weights (N,) sum to 1."""
    mean = weights @ unit
    length = float(np.linalg.norm(mean))
    if length < 1e-6:
        raise BeyondFacialError("The photos show opposite faces; give photos of one person.")
    return (mean / length).astype(np.float32)
