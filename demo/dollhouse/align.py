"""Cutting a face out by its five landmarks, as insightface's `norm_crop` does, without needing insightface."""

from __future__ import annotations

import cv2
import numpy as np

CROP = 112
# Where ArcFace wants the five landmarks in a 112 px crop (insightface, utils/face_align.py, arcface_dst).
TEMPLATE = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]], np.float32
)


def similarity_transform(points: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """The 2 x 3 turn, scale and shift that brings `points` (k, 2) nearest to `targets` (k, 2), least squares.

    As complex numbers: target = a * point + b (Umeyama 1991 without reflections).
    """
    p, q = (np.asarray(v, np.float64) @ np.array([1, 1j]) for v in (points, targets))
    centred = p - p.mean()
    a = np.vdot(centred, q - q.mean()) / np.vdot(centred, centred).real
    b = q.mean() - a * p.mean()
    return np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]])


def aligned_crop(image: np.ndarray, landmarks: np.ndarray, size: int = CROP) -> np.ndarray:
    """RGB uint8 (H, W, 3) and landmarks (5, 2) in its pixels -> the upright face, (size, size, 3)."""
    matrix = similarity_transform(landmarks, TEMPLATE * (size / CROP))
    return cv2.warpAffine(image, matrix, (size, size), borderValue=0.0)
