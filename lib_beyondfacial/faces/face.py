"""One face of a picture, the result of both engines."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

GENDERS = ("female", "male")


@dataclass(frozen=True, eq=False)
class Face:
    """One face of a picture.

    box: (4,) x0, y0, x1, y1 in pixels of the picture, not cut to it.
    landmarks: (5, 2) x, y: eyes, nose, corners of the mouth, left to right in the picture.
    score: the detector's, in [0, 1].
    embedding: raw (not normalised) float32 (512,).
    gender: "female" or "male" if the pack has a gender model, else None.
    detector_size: the size at which the detector found it.
    padded: whether it was found only with a border around the picture.
    """

    box: np.ndarray
    landmarks: np.ndarray
    score: float
    embedding: np.ndarray
    gender: str | None = None
    detector_size: int = 0
    padded: bool = False

    @property
    def normed_embedding(self) -> np.ndarray:
        """Unit-length embedding (512,)."""
        return self.embedding / max(float(np.linalg.norm(self.embedding)), 1e-12)

    @property
    def area(self) -> float:
        """The area of the box, in square pixels."""
        x0, y0, x1, y1 = (float(v) for v in self.box)
        return max(x1 - x0, 0.0) * max(y1 - y0, 0.0)
