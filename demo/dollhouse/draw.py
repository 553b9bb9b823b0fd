"""Drawing a `Picture`: scene, body, head; and saying where its head is."""

from __future__ import annotations

import cv2
import numpy as np

from demo.dollhouse.canvas import Canvas, Colour
from demo.dollhouse.draw_extras import draw_accessory, draw_brow, draw_item, draw_modifier, draw_mouth
from demo.dollhouse.scenes import draw_scene
from demo.dollhouse.world import (
    EYE_COLOURS,
    HAIR_COLOURS,
    HEAD_RADIUS,
    SIZE,
    Identity,
    Picture,
    Truth,
    head_radius,
)


def skin_colour(tone: float) -> Colour:
    light, mid, dark = np.array((255, 224, 196.0)), np.array((214, 156, 110.0)), np.array((98, 62, 40.0))
    mixed = light + (mid - light) * tone * 2 if tone < 0.5 else mid + (dark - mid) * (tone * 2 - 1)
    return tuple(mixed)


CLOTHES = (
    (200, 40, 40),
    (40, 90, 200),
    (240, 180, 40),
    (60, 150, 80),
    (150, 60, 160),
    (240, 240, 240),
    (40, 40, 50),
    (240, 130, 50),
)

# Limb angles in degrees from straight down, positive to the right: (upper arm, fore-arm) x 2, (thigh, shin) x 2.
POSES = {
    "standing": ((-16, -8), (16, 8), (-6, -4), (6, 4)),
    "waving": ((-16, -8), (120, 168), (-6, -4), (6, 4)),
    "jumping": ((-140, -160), (140, 160), (-48, 24), (48, -24)),
    "sitting": ((-30, 20), (30, -20), (-78, -4), (78, 4)),
    "running": ((-62, 40), (52, 130), (-60, -94), (52, -18)),
}


def limb_points(root: tuple[float, float], angles: tuple[float, float], lengths: float) -> list[tuple[float, float]]:
    """Where a limb begins, bends and ends, its two parts at angles in degrees."""
    points = [root]
    for angle in np.deg2rad(angles):
        px, py = points[-1]
        points.append((px + lengths * np.sin(angle), py + lengths * np.cos(angle)))
    return points


def draw_body(  # noqa: PLR0913  the head's place and size, and what the body does
    c: Canvas,
    x: float,
    y: float,
    r: float,
    action: str,
    skin: Colour,
    rng: np.random.Generator,
    item: str = "none",
    item_side: int = -1,
    colours: np.random.Generator | None = None,
) -> None:
    """Torso and limbs under a head at (x, y) of radius r; something may be held in the hand on one side."""
    shirt, trousers = (CLOTHES[i] for i in rng.choice(len(CLOTHES), 2, replace=False))
    neck, hip = y + 0.95 * r, y + 2.9 * r
    lean = 0.35 * r if action == "running" else 0.0

    def limb(
        root: tuple[float, float],
        angles: tuple[float, float],
        lengths: float,
        width: float,
        upper: Colour,
        lower: Colour,
    ) -> None:
        points = limb_points(root, angles, lengths)
        c.stroke(points[1:], width * 0.85, lower)
        c.stroke(points[:2], width, upper)
        c.ellipse(*points[-1], width * 0.62, width * 0.62, skin if lower is shirt else (50, 40, 40))

    left_arm, right_arm, left_leg, right_leg = POSES[action]
    jig = rng.uniform(-7, 7, 8).reshape(4, 2)
    if item != "none" and colours is not None:
        angles = np.add(left_arm if item_side < 0 else right_arm, jig[2 if item_side < 0 else 3])
        hand = limb_points((x + item_side * 0.82 * r, neck + 0.35 * r), tuple(angles), 0.98 * r)[-1]
        draw_item(c, hand, r, item, item_side, colours)
    if action == "sitting":
        c.rectangle(x - 1.5 * r, hip + 0.2 * r, x + 1.5 * r, hip + 1.3 * r, (120, 86, 56))
    for side, angles, j in ((-1, left_leg, 0), (1, right_leg, 1)):
        limb((x - lean + side * 0.42 * r, hip), tuple(np.add(angles, jig[j])), 1.12 * r, 0.62 * r, trousers, trousers)
    shoulders = [(x - 0.95 * r, neck + 0.3 * r), (x - 0.5 * r, neck - 0.1 * r), (x + 0.5 * r, neck - 0.1 * r)]
    waist = [(x - lean + 0.8 * r, hip + 0.25 * r), (x - lean - 0.8 * r, hip + 0.25 * r)]
    c.polygon([*shoulders, (x + 0.95 * r, neck + 0.3 * r), *waist], shirt)
    for side, angles, j in ((-1, left_arm, 2), (1, right_arm, 3)):
        limb((x + side * 0.82 * r, neck + 0.35 * r), tuple(np.add(angles, jig[j])), 0.98 * r, 0.5 * r, shirt, shirt)
    c.rectangle(x - 0.25 * r, y + 0.7 * r, x + 0.25 * r, neck + 0.12 * r, skin)


def draw_hair_behind(c: Canvas, x: float, y: float, r: float, person: Identity) -> None:
    hair, w = HAIR_COLOURS[person.hair_colour], person.width * r
    if person.hair_style == "afro":
        c.ellipse(x, y - 0.3 * r, 1.35 * r, 1.15 * r, hair)
    elif person.hair_style == "long":
        c.ellipse(x, y - 0.15 * r, 1.18 * w, 1.05 * r, hair)
        c.rectangle(x - 1.18 * w, y - 0.1 * r, x + 1.18 * w, y + 1.25 * r, hair)
    elif person.hair_style == "spiky":
        for angle in np.deg2rad(np.arange(-80, 81, 32)):
            tip = (x + 1.5 * r * np.sin(angle), y - 1.5 * r * np.cos(angle))
            wide = 0.36 * r
            base = (x + 0.8 * w * np.sin(angle), y - 0.8 * r * np.cos(angle))
            side = (wide * np.cos(angle), wide * np.sin(angle))
            c.polygon([tip, (base[0] - side[0], base[1] - side[1]), (base[0] + side[0], base[1] + side[1])], hair)


def draw_hair_front(c: Canvas, x: float, y: float, r: float, person: Identity) -> None:
    hair, w = HAIR_COLOURS[person.hair_colour], person.width * r
    if person.hair_style == "bald":
        return
    if person.hair_style in ("short", "spiky"):
        c.ellipse(x, y - 0.36 * r, 1.04 * w, 0.7 * r, hair, (180, 360))
        c.rectangle(x - 1.04 * w, y - 0.4 * r, x + 1.04 * w, y - 0.3 * r, hair)
    else:
        c.ellipse(x, y - 0.45 * r, 0.98 * w, 0.58 * r, hair, (180, 360))


def draw_head(  # noqa: PLR0913, PLR0915  a head's parts in their order
    c: Canvas,
    x: float,
    y: float,
    r: float,
    person: Identity,
    expression: str = "neutral",
    accessory: str = "none",
    colours: np.random.Generator | None = None,
) -> np.ndarray:
    """The head at (x, y), half its height r; returns the five landmarks in the canvas's units, where they are on a
    neutral face. `colours` is what the accessory's colour is drawn from."""
    skin, w = skin_colour(person.skin), person.width * r
    hair = HAIR_COLOURS[person.hair_colour]
    draw_hair_behind(c, x, y, r, person)
    for side in (-1, 1):
        c.ellipse(x + side * w, y + 0.05 * r, 0.14 * r, 0.2 * r, skin)
        if person.gender == "woman":
            c.ellipse(x + side * w, y + 0.3 * r, 0.09 * r, 0.09 * r, (255, 210, 60))
    c.ellipse(x, y, w, r, skin)
    if person.beard:
        c.ellipse(x, y + 0.42 * r, 0.78 * w, 0.56 * r, hair)
        c.ellipse(x, y + 0.2 * r, 0.6 * w, 0.34 * r, skin)
    draw_hair_front(c, x, y, r, person)
    eye_x, eye_y = 0.42 * w, y + 0.0 * r
    for side in (-1, 1):
        ex = x + side * eye_x
        c.ellipse(ex, eye_y, 0.2 * r, 0.22 * r, (252, 252, 252))
        c.ellipse(ex, eye_y, 0.145 * r, 0.17 * r, EYE_COLOURS[person.eyes])
        c.ellipse(ex, eye_y, 0.06 * r, 0.07 * r, (10, 10, 10))
        brow = tuple(0.5 * v for v in hair)
        if expression == "sad":
            draw_brow(c, ex, eye_y, r, brow, side)
        else:
            c.stroke([(ex - 0.2 * r, eye_y - 0.3 * r), (ex + 0.2 * r, eye_y - 0.3 * r)], 0.07 * r, brow)
        if person.glasses:
            c.ellipse(ex, eye_y, 0.33 * r, 0.33 * r, (24, 24, 28), line=0.1 * r)
    if person.glasses:
        c.stroke([(x - eye_x + 0.3 * r, eye_y), (x + eye_x - 0.3 * r, eye_y)], 0.08 * r, (24, 24, 28))
    c.stroke([(x, y + 0.12 * r), (x, y + 0.34 * r)], 0.09 * r, tuple(0.75 * v for v in skin))
    lips = (206, 36, 60) if person.gender == "woman" else (130, 60, 50)
    mouth = y + 0.56 * r
    if expression == "neutral":
        c.ellipse(x, mouth, 0.3 * w, 0.12 * r if person.gender == "woman" else 0.07 * r, lips)
    else:
        draw_mouth(c, x, y, r, w, lips, expression)
    draw_accessory(c, x, y, r, w, accessory, colours or np.random.default_rng(0))
    return np.array(
        [(x - eye_x, eye_y), (x + eye_x, eye_y), (x, y + 0.34 * r), (x - 0.3 * w, mouth), (x + 0.3 * w, mouth)]
    )


def to_ink(image: np.ndarray) -> np.ndarray:
    """Grey paper with dark outlines."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    edges = cv2.morphologyEx(grey, cv2.MORPH_GRADIENT, np.ones((2, 2), np.uint8))
    paper = 110 + 0.5 * grey.astype(np.float32)
    ink = np.clip(paper - 2.2 * edges, 12, 250).astype(np.uint8)
    return np.repeat(ink[..., None], 3, 2)


# Of two persons: half their distance at least, in units of the picture's shorter side (close-ups are wide); and by how
# much at most they stand beside the middle. With more of it a small model draws a third one in between.
HALF_GAP = {"close-up": 0.36, "half": 0.235, "full": 0.225}
BESIDE = 0.05


def places(picture: Picture, c: Canvas, r: float, rng: np.random.Generator) -> list[tuple[float, float, float]]:
    """Everybody's head: x, y, r in the canvas's units, from the left."""
    middle = c.right / 2
    if picture.shot == "full":
        spread = c.right / 2 - 0.3
        x = middle + rng.uniform(-1, 1) * max(spread, 0.1)
        y = rng.uniform(0.2, 0.27) - (0.06 if picture.action == "jumping" else 0)
        if picture.action == "sitting":
            y += 0.14
    elif picture.shot == "half":
        x, y = middle + rng.uniform(-0.12, 0.12), rng.uniform(0.34, 0.42)
    else:
        x, y = middle + rng.uniform(-0.05, 0.05), rng.uniform(0.46, 0.53)
    if picture.second is None:
        return [(x, y, r)]
    most = HALF_GAP[picture.shot] + (0.02 if middle < 0.6 else 0.08)  # square pictures have no more room
    half = rng.uniform(HALF_GAP[picture.shot], most)
    x = middle + rng.uniform(-1, 1) * (0.03 if middle < 0.6 else BESIDE)
    low = 0.13 * r / HEAD_RADIUS["full"]
    both = [y, y + rng.uniform(-0.03, 0.03)]
    return [
        (x + side * half, max(at, low), r * rng.uniform(0.95, 1.05)) for side, at in zip((-1, 1), both, strict=True)
    ]


def draw(picture: Picture, width: int = SIZE, height: int = SIZE) -> tuple[np.ndarray, Truth]:
    """Draw a picture: RGB uint8 (height, width, 3), and where its head is, or its heads are."""
    rng, added = np.random.default_rng(picture.details), np.random.default_rng((picture.details, 1))
    c = Canvas(width, height)
    draw_scene(c, picture.scene, rng)
    draw_modifier(c, picture.scene, picture.modifier, added)
    r = head_radius(picture.shot, min(width, height)) * rng.uniform(0.94, 1.06)
    people, where = picture.people, places(picture, c, r, rng)
    if picture.shot == "full":
        for x, y, r in where:
            ground = y + (5.2 if picture.action != "sitting" else 4.3) * r
            ground = min(ground + (0.07 if picture.action == "jumping" else 0), 0.985)
            c.ellipse(x, ground, 1.3 * r, 0.2 * r, (40, 40, 44))
    for k, (person, (x, y, r)) in enumerate(zip(people, where, strict=True)):
        skin = skin_colour(person.identity.skin)
        draw_body(c, x, y, r, picture.action, skin, rng, person.item, 1 if k else -1, added)
    points = [
        draw_head(c, x, y, r, person.identity, person.expression, person.accessory, added)
        for person, (x, y, r) in zip(people, where, strict=True)
    ]
    image = c.finish()
    if picture.style == "ink":
        image = to_ink(image)
    scale, truth = min(width, height), None
    for marks, (x, y, r) in zip(points[::-1], where[::-1], strict=True):
        box = tuple(scale * v for v in (x - 1.05 * r, y - 1.15 * r, x + 1.05 * r, y + 1.05 * r))
        truth = Truth(box, (marks * scale).astype(np.float32), r * scale, second=truth)
    return image, truth
