"""The eight scenes, each with its own layout and random details."""

from __future__ import annotations

import numpy as np

from demo.dollhouse.canvas import Canvas, Colour


def _jitter(rng: np.random.Generator, colour: Colour, amount: float = 14) -> Colour:
    return tuple(float(np.clip(c + rng.uniform(-amount, amount), 0, 255)) for c in colour)


def draw_scene(c: Canvas, scene: str, rng: np.random.Generator) -> None:
    """Background of one of the eight scenes, with random details."""
    horizon = rng.uniform(0.5, 0.62)
    {
        "beach": _beach,
        "forest": _forest,
        "city": _city,
        "desert": _desert,
        "night": _night,
        "snow": _snow,
        "field": _field,
        "cave": _cave,
    }[scene](c, horizon, rng)


def _beach(c: Canvas, h: float, rng: np.random.Generator) -> None:
    c.gradient(0, h, _jitter(rng, (120, 196, 250)), (206, 234, 252))
    c.ellipse(rng.uniform(0.1, c.right - 0.1), rng.uniform(0.08, 0.2), 0.07, 0.07, (255, 238, 120))
    c.rectangle(0, h, c.right, h + 0.16, _jitter(rng, (30, 120, 200)))
    for _ in range(5):
        x, y = rng.uniform(0, c.right), h + rng.uniform(0.02, 0.14)
        c.stroke([(x, y), (x + 0.12, y)], 0.008, (190, 226, 246))
    c.rectangle(0, h + 0.16, c.right, c.bottom, _jitter(rng, (238, 214, 150)))


def _forest(c: Canvas, h: float, rng: np.random.Generator) -> None:
    c.gradient(0, h + 0.1, _jitter(rng, (150, 200, 160)), (96, 150, 96))
    for _ in range(int(rng.integers(7, 11))):
        x, w = rng.uniform(0, c.right), rng.uniform(0.03, 0.06)
        c.rectangle(x - w / 2, 0.2, x + w / 2, h + 0.12, _jitter(rng, (88, 58, 34)))
        top = rng.uniform(0, 0.12)
        green = _jitter(rng, (26, 96, 44), 20)
        for k in range(3):
            y = top + k * 0.12
            c.polygon([(x, y - 0.1), (x - 0.13, y + 0.14), (x + 0.13, y + 0.14)], green)
    c.rectangle(0, h + 0.1, c.right, c.bottom, _jitter(rng, (52, 92, 40)))


def _city(c: Canvas, h: float, rng: np.random.Generator) -> None:
    c.gradient(0, h + 0.2, _jitter(rng, (170, 190, 214)), (214, 216, 222))
    x = -0.05
    while x < c.right:
        w, top = rng.uniform(0.12, 0.22), rng.uniform(0.04, 0.34)
        c.rectangle(x, top, x + w, h + 0.2, _jitter(rng, (120, 112, 124), 30))
        for wy in np.arange(top + 0.04, h + 0.12, 0.09):
            for wx in np.arange(x + 0.03, x + w - 0.04, 0.06):
                c.rectangle(wx, wy, wx + 0.03, wy + 0.045, (250, 232, 150) if rng.random() < 0.5 else (60, 70, 90))
        x += w + rng.uniform(0, 0.03)
    c.rectangle(0, h + 0.18, c.right, c.bottom, _jitter(rng, (92, 92, 98)))
    for x in np.arange(rng.uniform(-0.2, 0), c.right, 0.3):
        c.rectangle(x, 0.9, x + 0.16, 0.92, (240, 240, 230))


def _desert(c: Canvas, h: float, rng: np.random.Generator) -> None:
    c.gradient(0, h + 0.1, _jitter(rng, (250, 190, 110)), (255, 226, 170))
    c.ellipse(rng.uniform(0.1, c.right - 0.1), 0.16, 0.09, 0.09, (255, 120, 60))
    for y, colour in ((h, (226, 160, 80)), (h + 0.14, (206, 136, 60))):
        x = rng.uniform(0, c.right)
        c.rectangle(0, y + 0.08, c.right, c.bottom, colour)
        c.ellipse(x, y + 0.12, 0.5, 0.14, colour)
    for _ in range(int(rng.integers(1, 4))):
        x, y = rng.uniform(0.05, c.right - 0.05), h + rng.uniform(0, 0.1)
        c.stroke([(x, y), (x, y - 0.2)], 0.035, (46, 120, 60))
        c.stroke([(x, y - 0.08), (x + 0.06, y - 0.08), (x + 0.06, y - 0.15)], 0.025, (46, 120, 60))


def _night(c: Canvas, h: float, rng: np.random.Generator) -> None:
    c.gradient(0, h + 0.2, _jitter(rng, (8, 10, 40), 6), (30, 32, 84))
    for _ in range(30):
        c.ellipse(rng.uniform(0, c.right), rng.uniform(0, h), 0.006, 0.006, (250, 250, 220))
    x, y = rng.uniform(0.12, c.right - 0.12), rng.uniform(0.1, 0.2)
    c.ellipse(x, y, 0.08, 0.08, (246, 242, 210))
    c.ellipse(x + 0.035, y - 0.015, 0.065, 0.065, (14, 16, 50))
    for _ in range(4):
        c.ellipse(rng.uniform(0, c.right), h + 0.2, 0.3, rng.uniform(0.08, 0.16), (20, 24, 44))
    c.rectangle(0, h + 0.16, c.right, c.bottom, _jitter(rng, (26, 30, 46), 6))


def _snow(c: Canvas, h: float, rng: np.random.Generator) -> None:
    c.gradient(0, h + 0.1, _jitter(rng, (176, 196, 216)), (226, 234, 242))
    for _ in range(3):
        x, top = rng.uniform(0, c.right), rng.uniform(0.14, 0.3)
        c.polygon([(x, top), (x - 0.36, h + 0.1), (x + 0.36, h + 0.1)], _jitter(rng, (140, 156, 180)))
        c.polygon([(x, top), (x - 0.1, top + 0.11), (x + 0.1, top + 0.11)], (250, 252, 255))
    c.rectangle(0, h + 0.08, c.right, c.bottom, _jitter(rng, (240, 245, 252), 6))
    for _ in range(26):
        c.ellipse(rng.uniform(0, c.right), rng.uniform(0, 0.95), 0.01, 0.01, (255, 255, 255))


def _field(c: Canvas, h: float, rng: np.random.Generator) -> None:
    c.gradient(0, h, _jitter(rng, (100, 180, 245)), (190, 224, 250))
    for _ in range(int(rng.integers(2, 5))):
        x, y = rng.uniform(0, c.right), rng.uniform(0.06, 0.25)
        for dx in (-0.06, 0, 0.06):
            c.ellipse(x + dx, y, 0.07, 0.04, (252, 252, 252))
    c.rectangle(0, h, c.right, c.bottom, _jitter(rng, (124, 200, 70)))
    for _ in range(24):
        x, y = rng.uniform(0, c.right), rng.uniform(h + 0.05, c.bottom)
        c.ellipse(x, y, 0.014, 0.014, ((250, 220, 60), (240, 90, 120), (255, 255, 255))[int(rng.integers(3))])


def _cave(c: Canvas, h: float, rng: np.random.Generator) -> None:
    rock = _jitter(rng, (70, 58, 56))
    c.rectangle(0, 0, c.right, c.bottom, rock)
    x = rng.uniform(0.3, c.right - 0.3)
    c.ellipse(x, h - 0.1, 0.34, 0.4, _jitter(rng, (150, 120, 100)))
    c.ellipse(x, h - 0.06, 0.2, 0.26, _jitter(rng, (222, 196, 150)))
    for _ in range(9):
        sx, length = rng.uniform(0, c.right), rng.uniform(0.08, 0.24)
        c.polygon([(sx - 0.05, 0), (sx + 0.05, 0), (sx, length)], _jitter(rng, (46, 38, 38)))
    c.rectangle(0, h + 0.2, c.right, c.bottom, _jitter(rng, (52, 44, 44)))
