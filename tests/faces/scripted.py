"""Faces as a test says them: an analyser that finds what it was told, and constructed embeddings."""

from __future__ import annotations

import numpy as np

from lib_beyondfacial.faces.face import Face
from lib_beyondfacial.faces.photos import Photo

TEMPLATE = np.array([[38.29, 51.70], [73.53, 51.50], [56.03, 71.74], [41.55, 92.37], [70.73, 92.20]], np.float32)


class Scripted:
    """An analyser that finds in a photo what was said beforehand, by the photo's first pixel."""

    name, space, tells_gender = "scripted", "scripted:0123456789", True

    def __init__(self, *found):
        self.found = found

    def find(self, image):
        return list(self.found[image[0, 0, 0]])

    find_in_scene = find


def direction(*axes: float) -> np.ndarray:
    """A unit embedding with these first coordinates."""
    vector = np.zeros(512)
    vector[: len(axes)] = axes
    return vector / np.linalg.norm(vector)


def noisy(rng, base, cosine):
    """A unit embedding at this cosine to `base`, otherwise random."""
    other = rng.standard_normal(512)
    other -= (other @ base) * base
    return cosine * base + (1 - cosine**2) ** 0.5 * other / np.linalg.norm(other)


def face(embedding, norm=20.0, score=0.9, side=112.0, at=0.0, gender=None) -> Face:
    """A face whose box is the square of this side, `at` pixels from the left."""
    box = np.array([at, 0, at + side, side], np.float32)
    landmarks = TEMPLATE * (side / 112) + np.array([at, 0], np.float32)
    return Face(box, landmarks, score, (np.asarray(embedding) * norm).astype(np.float32), gender, 640)


def photos(count: int, size: int = 120) -> list[Photo]:
    """Photos of noise, told apart by their first pixel."""
    noise = np.random.default_rng(3).integers(0, 256, (size, size, 3)).astype(np.uint8)
    made = []
    for i in range(count):
        image = noise.copy()
        image[0, 0] = i
        made.append(Photo(f"photo {i + 1}", image))
    return made
