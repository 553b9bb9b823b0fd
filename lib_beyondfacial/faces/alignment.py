"""Aligns a face to ArcFace's template by its five landmarks; the same crop as insightface's `norm_crop`."""

from __future__ import annotations

import numpy as np

CROP = 112
ALIGNED = 2 * CROP  # the size that is saved: every second pixel of it is the recogniser's crop
# Eyes, nose, corners of the mouth in a crop of 112 pixels (insightface, utils/face_align.py, arcface_dst).
TEMPLATE = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]], np.float32
)


def similarity_transform(points: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """The rotation, scale and shift, (2, 3), from points to targets by least squares (Umeyama 1991).

    In complex numbers: target = a * point + b, with a = <p, q> / <p, p> of the centred points. If all points are
    equal, they are only shifted.

    Args:
        points, targets: (K, 2) x, y.
    """
    p, q = (np.asarray(each, dtype=np.float64) @ np.array([1, 1j]) for each in (points, targets))
    centred = p - p.mean()
    spread = float(np.vdot(centred, centred).real)
    a = np.vdot(centred, q - q.mean()) / spread if spread > 1e-9 else 1.0 + 0j
    b = q.mean() - a * p.mean()
    return np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]])


def align_face(image: np.ndarray, landmarks: np.ndarray, size: int = CROP) -> np.ndarray:
    """The upright face, uint8 (size, size, 3), of a picture in any channel order; black outside the picture.

    Args:
        image: uint8 (H, W, 3).
        landmarks: (5, 2) x, y in its pixels.
        size: 112 or a multiple of it; the template is scaled accordingly.
    """
    import cv2

    matrix = similarity_transform(landmarks, TEMPLATE * (size / CROP))
    return cv2.warpAffine(image, matrix, (size, size))  # outside: black


def aligned_to_crops(aligned: np.ndarray) -> np.ndarray:
    """Reduce (N, 224, 224, 3) to the recogniser's (N, 112, 112, 3) by taking every second pixel.

    These pixels are exactly the sample points of the smaller template; averaging would shift the face by a quarter of
    a pixel.
    """
    return np.ascontiguousarray(aligned[:, ::2, ::2])
