"""Measures how similar and how large the person's face is in a finished picture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .aggregate import Identity
from .analysis import FaceAnalyser


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
