"""Drawing a `Picture` with OpenCV, antialiased, and saying where its head is."""

from __future__ import annotations

import cv2
import numpy as np

from demo.dollhouse.world import EYE_COLOURS, HAIR_COLOURS, HEAD_RADIUS, Identity, Picture, Truth

SUPERSAMPLE = 2
SHIFT = 4  # OpenCV's sub-pixel bits
Colour = tuple[float, float, float]


def skin_colour(tone: float) -> Colour:
    light, mid, dark = np.array((255, 224, 196.0)), np.array((214, 156, 110.0)), np.array((98, 62, 40.0))
    mixed = light + (mid - light) * tone * 2 if tone < 0.5 else mid + (dark - mid) * (tone * 2 - 1)
    return tuple(mixed)


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


def draw_body(c: Canvas, x: float, y: float, r: float, action: str, skin: Colour, rng: np.random.Generator) -> None:
    """Torso and limbs under a head at (x, y) of radius r."""
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
        points = [root]
        for angle in np.deg2rad(angles):
            px, py = points[-1]
            points.append((px + lengths * np.sin(angle), py + lengths * np.cos(angle)))
        c.stroke(points[1:], width * 0.85, lower)
        c.stroke(points[:2], width, upper)
        c.ellipse(*points[-1], width * 0.62, width * 0.62, skin if lower is shirt else (50, 40, 40))

    left_arm, right_arm, left_leg, right_leg = POSES[action]
    jig = rng.uniform(-7, 7, 8).reshape(4, 2)
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


def draw_hair_behind(c: Canvas, x: float, y: float, r: float, who: Identity) -> None:
    hair, w = HAIR_COLOURS[who.hair_colour], who.width * r
    if who.hair_style == "afro":
        c.ellipse(x, y - 0.3 * r, 1.35 * r, 1.15 * r, hair)
    elif who.hair_style == "long":
        c.ellipse(x, y - 0.15 * r, 1.18 * w, 1.05 * r, hair)
        c.rectangle(x - 1.18 * w, y - 0.1 * r, x + 1.18 * w, y + 1.25 * r, hair)
    elif who.hair_style == "spiky":
        for angle in np.deg2rad(np.arange(-80, 81, 32)):
            tip = (x + 1.5 * r * np.sin(angle), y - 1.5 * r * np.cos(angle))
            wide = 0.36 * r
            base = (x + 0.8 * w * np.sin(angle), y - 0.8 * r * np.cos(angle))
            side = (wide * np.cos(angle), wide * np.sin(angle))
            c.polygon([tip, (base[0] - side[0], base[1] - side[1]), (base[0] + side[0], base[1] + side[1])], hair)


def draw_hair_front(c: Canvas, x: float, y: float, r: float, who: Identity) -> None:
    hair, w = HAIR_COLOURS[who.hair_colour], who.width * r
    if who.hair_style == "bald":
        return
    if who.hair_style in ("short", "spiky"):
        c.ellipse(x, y - 0.36 * r, 1.04 * w, 0.7 * r, hair, (180, 360))
        c.rectangle(x - 1.04 * w, y - 0.4 * r, x + 1.04 * w, y - 0.3 * r, hair)
    else:
        c.ellipse(x, y - 0.45 * r, 0.98 * w, 0.58 * r, hair, (180, 360))


def draw_head(c: Canvas, x: float, y: float, r: float, who: Identity) -> np.ndarray:  # noqa: PLR0915  a head's parts in their order
    """The head at (x, y), half its height r; returns the five landmarks in the canvas's units."""
    skin, w = skin_colour(who.skin), who.width * r
    hair = HAIR_COLOURS[who.hair_colour]
    draw_hair_behind(c, x, y, r, who)
    for side in (-1, 1):
        c.ellipse(x + side * w, y + 0.05 * r, 0.14 * r, 0.2 * r, skin)
        if who.gender == "woman":
            c.ellipse(x + side * w, y + 0.3 * r, 0.09 * r, 0.09 * r, (255, 210, 60))
    c.ellipse(x, y, w, r, skin)
    if who.beard:
        c.ellipse(x, y + 0.42 * r, 0.78 * w, 0.56 * r, hair)
        c.ellipse(x, y + 0.2 * r, 0.6 * w, 0.34 * r, skin)
    draw_hair_front(c, x, y, r, who)
    eye_x, eye_y = 0.42 * w, y + 0.0 * r
    for side in (-1, 1):
        ex = x + side * eye_x
        c.ellipse(ex, eye_y, 0.2 * r, 0.22 * r, (252, 252, 252))
        c.ellipse(ex, eye_y, 0.145 * r, 0.17 * r, EYE_COLOURS[who.eyes])
        c.ellipse(ex, eye_y, 0.06 * r, 0.07 * r, (10, 10, 10))
        c.stroke(
            [(ex - 0.2 * r, eye_y - 0.3 * r), (ex + 0.2 * r, eye_y - 0.3 * r)], 0.07 * r, tuple(0.5 * v for v in hair)
        )
        if who.glasses:
            c.ellipse(ex, eye_y, 0.33 * r, 0.33 * r, (24, 24, 28), line=0.1 * r)
    if who.glasses:
        c.stroke([(x - eye_x + 0.3 * r, eye_y), (x + eye_x - 0.3 * r, eye_y)], 0.08 * r, (24, 24, 28))
    c.stroke([(x, y + 0.12 * r), (x, y + 0.34 * r)], 0.09 * r, tuple(0.75 * v for v in skin))
    lips = (206, 36, 60) if who.gender == "woman" else (130, 60, 50)
    c.ellipse(x, y + 0.56 * r, 0.3 * w, 0.12 * r if who.gender == "woman" else 0.07 * r, lips)
    mouth = y + 0.56 * r
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


def draw(picture: Picture, width: int = 128, height: int = 128) -> tuple[np.ndarray, Truth]:
    """Draw a picture: RGB uint8 (height, width, 3), and where its head is."""
    rng = np.random.default_rng(picture.details)
    c = Canvas(width, height)
    draw_scene(c, picture.scene, rng)
    r = HEAD_RADIUS[picture.shot] * rng.uniform(0.94, 1.06)
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
    if picture.shot == "full":
        ground = y + (5.2 if picture.action != "sitting" else 4.3) * r
        c.ellipse(x, min(ground + (0.07 if picture.action == "jumping" else 0), 0.985), 1.3 * r, 0.2 * r, (40, 40, 44))
    draw_body(c, x, y, r, picture.action, skin_colour(picture.identity.skin), rng)
    points = draw_head(c, x, y, r, picture.identity)
    image = c.finish()
    if picture.style == "ink":
        image = to_ink(image)
    scale = min(width, height)
    box = tuple(scale * v for v in (x - 1.05 * r, y - 1.15 * r, x + 1.05 * r, y + 1.05 * r))
    return image, Truth(head_box=box, landmarks=(points * scale).astype(np.float32), radius=r * scale)
