"""Cuts the upright head out of a photo, by the face's five landmarks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from .face import Face

# All in units of the distance from the middle of the eyes to the middle of the mouth, which turning the head sideways
# leaves alone (the distance of the eyes shrinks). ArcFace's 112-pixel template has 40.7 pixels of it, so the square
# below is 160 template pixels; a drawn head of the demo's world spans 2.2 of its radii, and that distance is 0.56.
HEAD_SIDE = 2.2 / 0.56
HEAD_LIFT = 0.05 / 0.56


def head_square(landmarks: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """The square around the head with hair: centre (2,), unit vector down the face (2,), side in pixels.

    Args:
        landmarks: (5, 2) x, y in ArcFace's order: eyes, nose, corners of the mouth.
    """
    eye_left, eye_right, _, mouth_left, mouth_right = np.asarray(landmarks, dtype=np.float64)
    eyes, mouth = (eye_left + eye_right) / 2, (mouth_left + mouth_right) / 2
    across = eye_right - eye_left + mouth_right - mouth_left
    # Both terms give the direction down; their sum is more stable.
    down = mouth - eyes + np.array([-across[1], across[0]]) / 2
    length = max(float(np.hypot(*(mouth - eyes))), 1e-3)
    down = down / max(float(np.hypot(*down)), 1e-6)
    return eyes - HEAD_LIFT * length * down, down, HEAD_SIDE * length


def head_crop(image: np.ndarray, face: Face, size: int = 256) -> np.ndarray:
    """The head, hair included, upright and filling the picture: RGB uint8 (size, size, 3).

    It is cut by a similarity transform; outside the photo, the border pixels are repeated.

    Args:
        image: RGB uint8 (H, W, 3), the photo in which `face` was found.
    """
    import cv2

    centre, down, side = head_square(face.landmarks)
    scale = size / max(side, 1e-3)
    shrink = min(1.0, 2 * scale)
    if shrink < 1:  # warping alone would skip pixels, so first shrink by area to about twice the size
        image, corner = _surroundings(image, centre, side)
        centre = centre - corner
        height, width = image.shape[:2]
        target = (max(round(width * shrink), 1), max(round(height * shrink), 1))
        image = cv2.resize(image, target, interpolation=cv2.INTER_AREA)
        ratio = np.array([target[0] / width, target[1] / height])
        centre, scale = (centre + 0.5) * ratio - 0.5, scale / shrink
    right = np.array([down[1], -down[0]])
    linear = scale * np.stack([right, down])
    offset = np.full(2, size / 2 - 0.5) - linear @ centre
    matrix = np.concatenate([linear, offset[:, None]], axis=1)
    return cv2.warpAffine(image, matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _surroundings(image: np.ndarray, centre: np.ndarray, side: float) -> tuple[np.ndarray, np.ndarray]:
    """The part of a photo that contains the rotated square, and its upper left corner; it saves work on large photos.

    If the square leaves the photo, the part reaches to the photo's border."""
    size = np.array(image.shape[1::-1])
    reach = 0.75 * side  # half the diagonal is 0.71
    low = np.clip(np.floor(centre - reach), 0, size - 1).astype(int)
    high = np.clip(np.ceil(centre + reach), low + 1, size).astype(int)
    return image[low[1] : high[1], low[0] : high[0]], low
