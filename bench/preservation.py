"""What of the plain picture is left where the person is not: outside both pictures' heads."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

Box = Sequence[float]  # x0, y0, x1, y1 in shares of the picture
GROWN = 1.8  # a head's box is enlarged by it, so that hair, hat and collar are not counted
CHANGED = 16  # of 255: a pixel whose mean change over the colours is larger counts as changed


def outside_heads(boxes: Sequence[Box], height: int, width: int) -> np.ndarray:
    """True where no head is, (H, W) bool: outside all boxes, each enlarged about its centre."""
    outside = np.ones((height, width), bool)
    for x0, y0, x1, y1 in boxes:
        x, y = (x0 + x1) / 2 * width, (y0 + y1) / 2 * height
        half_x, half_y = GROWN * (x1 - x0) / 2 * width, GROWN * (y1 - y0) / 2 * height
        left, top = max(round(x - half_x), 0), max(round(y - half_y), 0)
        outside[top : max(round(y + half_y), 0), left : max(round(x + half_x), 0)] = False
    return outside


def compare_outside(image: np.ndarray, plain: np.ndarray, boxes: Sequence[Box]) -> dict[str, float]:
    """Mean change of 255, share of the pixels that changed, and structural similarity to the plain picture.

    Args:
        image, plain: RGB uint8 (H, W, 3). boxes: the heads of both; where they fill the picture, all of it counts, as
            a close-up has left nothing of the scene.
    """
    from skimage.metrics import structural_similarity

    outside = outside_heads(boxes, *image.shape[:2])
    if not outside.any():
        outside[:] = True
    change = np.abs(image.astype(np.int16) - plain.astype(np.int16)).mean(2)
    _, ssim = structural_similarity(image, plain, channel_axis=2, full=True)
    return {
        "outside_change": round(float(change[outside].mean()), 4),
        "outside_share": round(float((change[outside] > CHANGED).mean()), 6),
        "outside_ssim": round(float(ssim.mean(2)[outside].mean()), 6),
    }
