"""Drawing what `extras.py` names: mouths, things worn and held, night and rain. Colours come from a generator of their
own, so that the same picture without them is drawn as ever."""

from __future__ import annotations

import numpy as np

from demo.dollhouse.canvas import Canvas, Colour

HATS = ((62, 42, 30), (34, 34, 40), (176, 136, 84), (110, 30, 50))
CAPS = ((204, 40, 44), (40, 84, 196), (30, 130, 80), (240, 160, 40))
THINGS = ((226, 40, 50), (250, 200, 40), (60, 110, 230), (230, 80, 190), (60, 180, 90))
DARK, TEETH, THROAT = (20, 20, 26), (250, 250, 246), (70, 16, 24)


def draw_mouth(c: Canvas, x: float, y: float, r: float, w: float, lips: Colour, expression: str) -> None:
    """The mouth of a head at (x, y), half its height r and half its width w; of a neutral face `draw_head` has it."""
    middle = y + 0.56 * r
    if expression == "smiling":
        c.ellipse(x, middle - 0.1 * r, 0.5 * w, 0.34 * r, lips, (0, 180))
        c.ellipse(x, middle - 0.08 * r, 0.38 * w, 0.18 * r, TEETH, (0, 180))
    elif expression == "sad":
        c.ellipse(x, middle + 0.2 * r, 0.38 * w, 0.26 * r, lips, (190, 350), line=0.13 * r)
    else:
        c.ellipse(x, middle + 0.08 * r, 0.3 * w, 0.3 * r, lips)
        c.ellipse(x, middle + 0.08 * r, 0.2 * w, 0.2 * r, THROAT)


def draw_brow(c: Canvas, x: float, y: float, r: float, colour: Colour, side: int) -> None:
    """A sad face's: its inner end is up. `side` is -1 for the eye on the left."""
    c.stroke([(x - side * 0.2 * r, y - 0.42 * r), (x + side * 0.22 * r, y - 0.24 * r)], 0.08 * r, colour)


def draw_accessory(  # noqa: PLR0913  the head's place and size, and what is worn
    c: Canvas, x: float, y: float, r: float, w: float, accessory: str, rng: np.random.Generator
) -> None:
    if accessory == "sunglasses":
        for side in (-1, 1):
            c.ellipse(x + side * 0.42 * w, y + 0.03 * r, 0.37 * r, 0.32 * r, DARK)
        c.rectangle(x - 1.0 * w, y - 0.12 * r, x + 1.0 * w, y - 0.0 * r, DARK)
    elif accessory == "hat":
        colour = HATS[rng.integers(len(HATS))]
        c.polygon(
            [
                (x - 0.78 * w, y - 0.5 * r),
                (x - 0.66 * w, y - 1.42 * r),
                (x + 0.66 * w, y - 1.42 * r),
                (x + 0.78 * w, y - 0.5 * r),
            ],
            colour,
        )
        c.rectangle(x - 0.78 * w, y - 0.78 * r, x + 0.78 * w, y - 0.6 * r, (236, 226, 200))
        c.ellipse(x, y - 0.54 * r, 1.6 * w, 0.17 * r, colour)
    elif accessory == "cap":
        colour = CAPS[rng.integers(len(CAPS))]
        c.ellipse(x, y - 0.46 * r, 1.08 * w, 0.78 * r, colour, (180, 360))
        c.stroke([(x - 0.1 * w, y - 0.5 * r), (x + 1.5 * w, y - 0.44 * r)], 0.17 * r, tuple(0.7 * v for v in colour))


def draw_item(c: Canvas, hand: tuple[float, float], r: float, item: str, side: int, rng: np.random.Generator) -> None:
    """What is held in the hand on one side (-1: the left); behind the body, so that it hides no face."""
    colour, (x, y) = THINGS[rng.integers(len(THINGS))], hand
    if item == "ball":
        c.ellipse(x + side * 0.3 * r, y + 0.25 * r, 0.72 * r, 0.72 * r, colour)
        c.ellipse(x + side * 0.3 * r, y + 0.25 * r, 0.72 * r, 0.24 * r, TEETH, line=0.12 * r)
    elif item == "balloon":
        top = max(min(y - 2.6 * r, c.bottom - 3.4 * r), 0.9 * r)
        at = float(np.clip(x + side * 0.75 * r, 0.8 * r, c.right - 0.8 * r))
        c.stroke([(x, y), (at, top + 0.9 * r)], 0.07 * r, TEETH)
        c.ellipse(at, top, 0.78 * r, 0.95 * r, colour)
        c.ellipse(at - 0.25 * r, top - 0.35 * r, 0.16 * r, 0.2 * r, TEETH)
    else:
        top = max(min(y - 3.2 * r, c.bottom - 3.0 * r), 1.3 * r)
        at = x + side * 0.45 * r
        c.stroke([(x, y), (at, top)], 0.1 * r, (70, 56, 50))
        c.ellipse(at, top, 1.75 * r, 1.15 * r, colour, (180, 360))
        for k in (-1, 0, 1):
            c.ellipse(at + k * 1.16 * r, top, 0.58 * r, 0.2 * r, tuple(0.72 * v for v in colour), (180, 360))


def draw_modifier(c: Canvas, scene: str, modifier: str, rng: np.random.Generator) -> None:
    """Night or rain over a scene, before anybody is drawn into it."""
    if modifier == "night":
        c.pixels[:] = (c.pixels * np.array((0.26, 0.28, 0.42)) + (4, 6, 22)).astype(np.uint8)
        if scene == "cave":
            return
        for _ in range(22):
            c.ellipse(rng.uniform(0, c.right), rng.uniform(0, 0.42), 0.006, 0.006, (250, 250, 220))
        x, y = rng.uniform(0.1, c.right - 0.1), rng.uniform(0.07, 0.15)
        c.ellipse(x, y, 0.06, 0.06, (246, 242, 210))
    elif modifier == "rain":
        grey = c.pixels.mean(2, keepdims=True)
        c.pixels[:] = (0.42 * c.pixels + 0.26 * grey + np.array((20, 26, 36))).astype(np.uint8)
        for _ in range(round(70 * c.right)):
            x, y, length = rng.uniform(0, c.right), rng.uniform(0, 1), rng.uniform(0.05, 0.1)
            c.stroke([(x, y), (x - 0.3 * length, y + length)], 0.009, (176, 196, 224))
