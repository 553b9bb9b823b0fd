"""The SCRFD face detector with onnxruntime and OpenCV, giving the same numbers as insightface.

Guo et al., *Sample and Computation Redistribution for Efficient Face Detection*, arXiv 2105.04714. For each stride and
each anchor of its grid, the network gives a score, the distances to the four sides of a box, and the offsets of five
landmarks.
"""

from __future__ import annotations

from typing import Any

import numpy as np

OVERLAP = 0.4  # boxes that share more than this of their union are one face
STRIDES_OF = {6: (8, 16, 32), 9: (8, 16, 32), 10: (8, 16, 32, 64, 128), 15: (8, 16, 32, 64, 128)}
WITH_LANDMARKS = (9, 15)


class Detector:
    """A session whose outputs are scores, boxes and landmarks by stride."""

    def __init__(self, session: Any):
        self._session = session
        outputs = session.get_outputs()
        self._names = [output.name for output in outputs]
        self._strides = STRIDES_OF[len(outputs)]
        self._anchors = 2 if len(self._strides) == 3 else 1
        self._is_batched = len(outputs[0].shape) == 3
        self.finds_landmarks = len(outputs) in WITH_LANDMARKS
        self._input = session.get_inputs()[0].name

    def find(self, picture: np.ndarray, size: tuple[int, int], threshold: float) -> tuple[np.ndarray, np.ndarray]:
        """Boxes with scores (N, 5) and landmarks (N, 5, 2), in pixels of the BGR picture, the best first.

        Args:
            picture: uint8 (H, W, 3).
            size: (width, height) of the network's input; the picture is fitted into its upper left corner.
        """
        canvas, scale = _fit(picture, size)
        scores, boxes, points = self._candidates(canvas, threshold)
        order = np.argsort(-scores, kind="stable")
        found = np.hstack([boxes / scale, scores[:, None]]).astype(np.float32)[order]
        kept = suppress_overlaps(found)
        return found[kept], (points / scale)[order][kept].astype(np.float32)

    def _candidates(self, canvas: np.ndarray, threshold: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        import cv2

        blob = cv2.dnn.blobFromImage(canvas, 1 / 128, canvas.shape[1::-1], (127.5, 127.5, 127.5), swapRB=True)
        answers = self._session.run(self._names, {self._input: blob})
        if self._is_batched:
            answers = [answer[0] for answer in answers]
        count = len(self._strides)
        parts = []
        for i, stride in enumerate(self._strides):
            score = answers[i].reshape(-1)
            chosen = np.flatnonzero(score >= threshold)
            anchors = _anchors(canvas.shape[0] // stride, canvas.shape[1] // stride, stride, self._anchors)[chosen]
            sides = answers[count + i][chosen] * stride
            boxes = np.concatenate([anchors - sides[:, :2], anchors + sides[:, 2:]], axis=1)
            offsets = answers[2 * count + i][chosen] * stride
            parts.append((score[chosen], boxes, anchors[:, None] + offsets.reshape(-1, 5, 2)))
        scores, all_boxes, points = (np.concatenate(part) for part in zip(*parts, strict=True))
        return scores, all_boxes, points


def fixed_size(session: Any) -> tuple[int, int] | None:
    """The fixed (width, height) of a detector's input; None if it may have any size."""
    height, width = session.get_inputs()[0].shape[2:4]
    is_fixed = isinstance(height, int) and isinstance(width, int) and height > 0 and width > 0
    return (width, height) if is_fixed else None


def suppress_overlaps(found: np.ndarray) -> list[int]:
    """Non-maximum suppression of rows x0, y0, x1, y1, score (N, 5), sorted by score; returns the rows that remain.

    A side is counted as its difference plus one pixel, as in the network's training code.
    """
    x0, y0, x1, y1 = found[:, :4].T
    areas = (x1 - x0 + 1) * (y1 - y0 + 1)
    left, kept = np.arange(len(found)), []
    while left.size:
        best, rest = left[0], left[1:]
        kept.append(int(best))
        width = np.minimum(x1[best], x1[rest]) - np.maximum(x0[best], x0[rest]) + 1
        height = np.minimum(y1[best], y1[rest]) - np.maximum(y0[best], y0[rest]) + 1
        shared = np.maximum(width, 0) * np.maximum(height, 0)
        left = rest[shared / (areas[best] + areas[rest] - shared) <= OVERLAP]
    return kept


def _fit(picture: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, float]:
    """Resize the picture into the upper left of a black canvas; also returns the factor."""
    import cv2

    width, height = size
    ratio = picture.shape[0] / picture.shape[1]
    fitted = (int(height / ratio), height) if ratio > height / width else (width, int(width * ratio))
    canvas = np.zeros((height, width, 3), np.uint8)
    canvas[: fitted[1], : fitted[0]] = cv2.resize(picture, fitted)
    return canvas, fitted[1] / picture.shape[0]


def _anchors(rows: int, columns: int, stride: int, count: int) -> np.ndarray:
    """x, y of the grid's points, each `count` times, float32 (rows * columns * count, 2)."""
    grid = np.stack(list(np.mgrid[:rows, :columns][::-1]), axis=-1).astype(np.float32) * stride
    return grid.reshape(-1, 2).repeat(count, axis=0)
