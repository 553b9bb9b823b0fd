"""Measures how similar and how large the person's face is in a finished picture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .aggregate import Identity
from .analysis import FaceAnalyser
from .recognisers import MOBILE, R50, R100, recogniser_of

# Cosines from which two faces may be, and are, one person's. For insightface's packs the usual
# thresholds of verification; Dollhouse's from 120 drawn pictures: one person's
# 5% are at .48, different persons' 95% at .42 and 99% at .64.
LEVELS = {R50: (0.25, 0.4), R100: (0.25, 0.4), MOBILE: (0.25, 0.4), "dollhouse": (0.42, 0.64)}


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
    height, width = image.shape[:2]
    x0, y0, x1, y1 = (float(v) for v in np.clip(faces[best].box, 0, [width, height, width, height]))
    area = max(x1 - x0, 0.0) * max(y1 - y0, 0.0) / (width * height)
    return FaceReport(round(cosines[best], 6), area, (x0, y0, x1, y1))


def in_words(similarity: float, pack: str) -> str:
    """What a cosine means in this face pack's space; "" for a pack that is not known."""
    levels = LEVELS.get(recogniser_of(pack) or pack)
    if levels is None:
        return ""
    may_be, is_same = levels
    return "same person" if similarity >= is_same else "similar" if similarity >= may_be else "another face"
