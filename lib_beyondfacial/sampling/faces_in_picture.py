"""Which face of a generated picture is the person, and whether a redrawn one is better."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from ..faces.face import Face
from ..method.assignment import Head

PixelBox = tuple[float, float, float, float]
SAME_PLACE = 0.3  # two boxes with at least this overlap (intersection over union) show the same face
SAME_HEAD = 0.6  # of a redrawn head; of 112 it was .76 and more, or .52 and less: a whole person in the crop


def to_head(face: Face, attention: Tensor, size: Sequence[int]) -> Head:
    """A face as the assignment sees it; its strength is the attention at its centre.

    Args:
        attention: (h, w). size: (height, width) in px of the picture with this face.
    """
    (h, w), (height, width) = attention.shape, size
    x0, y0, x1, y1 = box_of(face)
    y, x = (y0 + y1) / 2 * h / height, (x0 + x1) / 2 * w / width
    strength = float(attention[min(max(int(y), 0), h - 1), min(max(int(x), 0), w - 1)])
    return Head((x0 / width, y0 / height, x1 / width, y1 / height), strength)


def box_of(face: Face) -> PixelBox:
    x0, y0, x1, y1 = (float(v) for v in face.box)
    return x0, y0, x1, y1


def to_image(picture: Tensor) -> np.ndarray:
    """A picture (3, H, W) in about [-1, 1] as RGB uint8 (H, W, 3)."""
    return ((picture.permute(1, 2, 0).cpu().numpy() + 1) * 127.5).round().clip(0, 255).astype(np.uint8)


def similarity(face: Face, embedding: np.ndarray) -> float:
    return float(face.normed_embedding @ embedding)


def is_better(before: Face, after: Sequence[Face], embedding: np.ndarray) -> bool:
    """Whether the redrawn face is at least as similar to the person as before; False if it has vanished, or if it has
    another size or place, as where the crop shows a whole person."""
    there = [face for face in after if overlap(box_of(before), box_of(face)) >= SAME_HEAD]
    return any(similarity(face, embedding) >= similarity(before, embedding) for face in there)


def is_same_place(one: PixelBox, other: PixelBox) -> bool:
    """Whether two boxes show the same face, in px or in shares of the picture."""
    return overlap(one, other) >= SAME_PLACE


def overlap(one: PixelBox, other: PixelBox) -> float:
    """Intersection over union of two boxes."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(width, 0.0) * max(height, 0.0)
    areas = sum((b[2] - b[0]) * (b[3] - b[1]) for b in (one, other))
    return shared / (areas - shared) if areas > shared else 0.0
