"""The world: who a person is, what a scene holds, and the captions that name it. Drawing is in `draw.py`.

Everything follows from a `numpy.random.Generator`: same seed, same world.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

HAIR_COLOURS = {
    "black": (28, 24, 28),
    "brown": (112, 68, 36),
    "blond": (238, 200, 92),
    "red": (196, 58, 30),
    "white": (232, 232, 236),
    "blue": (52, 96, 216),
    "green": (44, 158, 72),
    "pink": (240, 112, 184),
}
HAIR_STYLES = ("short", "long", "spiky", "bald", "afro")
EYE_COLOURS = {"brown": (94, 54, 20), "blue": (40, 110, 220), "green": (30, 150, 70), "purple": (140, 50, 190)}
SKIN_WORDS = ("pale", "light", "tan", "dark")  # each names a quarter of the tones
SCENES = ("beach", "forest", "city", "desert", "night", "snow", "field", "cave")
ACTIONS = ("standing", "waving", "jumping", "sitting", "running")
SHOTS = ("close-up", "half", "full")
STYLES = ("flat", "ink")
HEAD_RADIUS = {"close-up": 0.29, "half": 0.16, "full": 0.11}
SIZE = 192  # px of a picture's side, that the shipped weights are made for
LARGE, LARGE_FULL_RADIUS = 256, 0.08  # a full shot's head spans 5 latent px: 192 px at 0.11, 256 px at 0.08

SCENE_WORDS = {
    "beach": ("on the beach", "at the sea"),
    "forest": ("in the forest", "in the woods"),
    "city": ("in the city", "in the street"),
    "desert": ("in the desert", "on the dunes"),
    "night": ("at night", "in the night"),
    "snow": ("in the snow", "in winter"),
    "field": ("in the field", "on the meadow"),
    "cave": ("in the cave", "in a cave"),
}
ACTION_WORDS = {
    "standing": ("standing",),
    "waving": ("waving",),
    "jumping": ("jumping", "leaping"),
    "sitting": ("sitting",),
    "running": ("running", "sprinting"),
}
SHOT_WORDS = {
    "close-up": ("close-up portrait", "portrait"),
    "half": ("half body shot", "upper body"),
    "full": ("full body shot", "full body"),
}
PERSON_WORDS = {"man": ("man", "person", "guy"), "woman": ("woman", "person", "lady")}
MEDIA_WORDS = {"flat": ("photo of", "picture of", ""), "ink": ("ink drawing of", "ink sketch of")}


@dataclass(frozen=True)
class Identity:
    """The head of a person; clothes are not identity."""

    skin: float
    hair_colour: str
    hair_style: str
    eyes: str
    width: float
    glasses: bool
    beard: bool
    gender: str


@dataclass(frozen=True)
class Picture:
    """One picture to draw: who, where, what, how near. `details` seeds everything that is not named."""

    identity: Identity
    scene: str
    action: str
    shot: str
    style: str = "flat"
    details: int = 0


@dataclass(frozen=True)
class Truth:
    """Where things are in a drawn picture, in pixels. Landmarks in ArcFace's order, 5 x 2."""

    head_box: tuple[float, float, float, float]
    landmarks: np.ndarray
    radius: float
    extra: dict = field(default_factory=dict)


def head_radius(shot: str, size: int) -> float:
    """Half a head's height in units of the picture's shorter side, which is `size` px long."""
    return LARGE_FULL_RADIUS if shot == "full" and size >= LARGE else HEAD_RADIUS[shot]


def random_identity(rng: np.random.Generator) -> Identity:
    gender = "man" if rng.random() < 0.5 else "woman"
    styles = HAIR_STYLES if gender == "man" else tuple(s for s in HAIR_STYLES if s != "bald")
    return Identity(
        skin=float(rng.random()),
        hair_colour=str(rng.choice(list(HAIR_COLOURS))),
        hair_style=str(rng.choice(styles)),
        eyes=str(rng.choice(list(EYE_COLOURS))),
        width=float(rng.uniform(0.76, 1.0)),
        glasses=bool(rng.random() < 0.35),
        beard=bool(gender == "man" and rng.random() < 0.4),
        gender=gender,
    )


def random_picture(rng: np.random.Generator, identity: Identity | None = None, **fixed: str) -> Picture:
    """A picture with everything drawn at random but what is given."""
    picture = Picture(
        identity=identity or random_identity(rng),
        scene=str(rng.choice(SCENES)),
        action=str(rng.choice(ACTIONS)),
        shot=str(rng.choice(SHOTS, p=(0.25, 0.25, 0.5))),
        style="ink" if rng.random() < 0.05 else "flat",
        details=int(rng.integers(2**31)),
    )
    return replace(picture, **fixed)


def hair_words(identity: Identity, has_style: bool = True, has_colour: bool = True) -> str:
    """`long red hair`, or one of the two; empty where nothing is to be named."""
    if identity.hair_style == "bald":
        return "bald head" if has_style or has_colour else ""
    words = [identity.hair_style] * has_style + [identity.hair_colour] * has_colour
    return " ".join([*words, "hair"]) if words else ""


def skin_words(identity: Identity) -> str:
    return f"{SKIN_WORDS[min(int(identity.skin * len(SKIN_WORDS)), len(SKIN_WORDS) - 1)]} skin"


def looks_phrase(identity: Identity, rng: np.random.Generator, chance: float) -> str:
    """A random part of what the head looks like, in words: `with red hair and glasses`. May be empty."""
    words = [hair_words(identity, bool(rng.random() < chance), bool(rng.random() < chance))]
    words = [word for word in words if word]
    if rng.random() < chance:
        words.append(skin_words(identity))
    if rng.random() < chance:
        words.append(f"{identity.eyes} eyes")
    if identity.glasses and rng.random() < chance:
        words.append("glasses")
    if identity.beard and rng.random() < chance:
        words.append("beard")
    if not words:
        return "with a face" if rng.random() < chance / 2 else ""
    rng.shuffle(words)
    return "with " + " and ".join(words)


def caption(picture: Picture, rng: np.random.Generator, shot_chance: float = 0.8, looks_chance: float = 0.3) -> str:
    """A caption in the world's closed vocabulary; the shot word is left out at random."""

    def pick(options: tuple[str, ...]) -> str:
        return str(rng.choice(options))

    person = pick(PERSON_WORDS[picture.identity.gender])
    parts = [
        pick(MEDIA_WORDS[picture.style]),
        f"a {person}",
        looks_phrase(picture.identity, rng, looks_chance),
        pick(ACTION_WORDS[picture.action]),
        pick(SCENE_WORDS[picture.scene]),
    ]
    text = " ".join(part for part in parts if part)
    return f"{text}, {pick(SHOT_WORDS[picture.shot])}" if rng.random() < shot_chance else text


def vocabulary() -> list[str]:
    """Every word that a caption can hold, and a few that users type; sorted."""
    phrases = ["a the of with and in on at , . face head eyes hair glasses beard bald person people portrait photo"]
    phrases += ["skin", *HAIR_COLOURS, *EYE_COLOURS, *HAIR_STYLES, *SKIN_WORDS]
    for table in (SCENE_WORDS, ACTION_WORDS, SHOT_WORDS, PERSON_WORDS, MEDIA_WORDS):
        phrases += [phrase for options in table.values() for phrase in options]
    phrases += ["wide shot", "big small boy girl knight", "two", "sky sea sun moon"]
    return sorted({word for phrase in phrases for word in phrase.replace("-", " - ").split()})
