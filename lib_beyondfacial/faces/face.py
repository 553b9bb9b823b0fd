"""One face of a picture, as an engine finds it and as everything else sees it."""

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
    gender: "female" or "male" where the pack has that model, else None.
    detector_size: the size at which the detector found it.
    padded: whether it was found only after a border had been put around the picture.
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
        """Of the box, in pixels."""
        x0, y0, x1, y1 = (float(v) for v in self.box)
        return max(x1 - x0, 0.0) * max(y1 - y0, 0.0)
