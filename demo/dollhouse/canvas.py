"""Antialiased shapes with OpenCV, in units of the picture's shorter side."""

from __future__ import annotations

import cv2
import numpy as np

SUPERSAMPLE = 2
SHIFT = 4  # OpenCV's sub-pixel bits
Colour = tuple[float, float, float]


class Canvas:
    """Shapes in units of the picture's shorter side, drawn at `SUPERSAMPLE` times the size."""

    def __init__(self, width: int, height: int):
        self.size = (width, height)
        self.unit = min(width, height) * SUPERSAMPLE
        self.pixels = np.zeros((height * SUPERSAMPLE, width * SUPERSAMPLE, 3), np.uint8)
        self.right = width / min(width, height)
        self.bottom = height / min(width, height)

    def _points(self, points: list[tuple[float, float]]) -> np.ndarray:
        return np.round(np.array(points, np.float64) * self.unit * (1 << SHIFT)).astype(np.int32)

    def polygon(self, points: list[tuple[float, float]], colour: Colour) -> None:
        cv2.fillPoly(self.pixels, [self._points(points)], colour, cv2.LINE_AA, SHIFT)

    def rectangle(self, x0: float, y0: float, x1: float, y1: float, colour: Colour) -> None:
        self.polygon([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], colour)

    def ellipse(  # noqa: PLR0913  the shape's own numbers
        self,
        x: float,
        y: float,
        rx: float,
        ry: float,
        colour: Colour,
        arc: tuple[float, float] = (0, 360),
        line: float = 0,
    ) -> None:
        """Filled, or with `line` an outline of that thickness (units)."""
        centre, axes = self._points([(x, y), (abs(rx), abs(ry))])
        thickness = max(1, round(line * self.unit)) if line else -1
        cv2.ellipse(
            self.pixels, tuple(map(int, centre)), tuple(map(int, axes)), 0, *arc, colour, thickness, cv2.LINE_AA, SHIFT
        )

    def stroke(self, points: list[tuple[float, float]], width: float, colour: Colour) -> None:
        """A line with round ends."""
        fixed = self._points(points)
        cv2.polylines(self.pixels, [fixed], False, colour, max(1, round(width * self.unit)), cv2.LINE_AA, SHIFT)

    def gradient(self, y0: float, y1: float, top: Colour, bottom: Colour) -> None:
        a, b = int(y0 * self.unit), int(np.ceil(y1 * self.unit))
        t = np.linspace(0, 1, max(b - a, 1))[:, None, None]
        self.pixels[a:b] = ((1 - t) * np.array(top) + t * np.array(bottom)).astype(np.uint8)[
            : self.pixels.shape[0] - a
        ]

    def finish(self) -> np.ndarray:
        return cv2.resize(self.pixels, self.size, interpolation=cv2.INTER_AREA)
