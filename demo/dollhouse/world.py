"""The world: who a person is, what a scene holds, and the captions that name it. Drawing is in `draw.py`.

Everything follows from a `numpy.random.Generator`: same seed, same world.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from demo.dollhouse.extras import (
    ACCESSORIES,
    ACCESSORY_WORDS,
    EXPRESSION_WORDS,
    EXPRESSIONS,
    GROUP_WORDS,
    MODIFIER_WORDS,
    NONE,
    OBJECT_WORDS,
    OBJECTS,
    PLAIN_SHARE,
    POSITION_WORDS,
    choose,
    choose_modifier,
)

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
class Person:
    """A person in a picture: who it is, and what the picture adds to them (`extras.py`)."""

    identity: Identity
    expression: str = "neutral"
    accessory: str = "none"
    item: str = "none"


@dataclass(frozen=True)
class Picture:
    """One picture to draw: who, where, what, how near. `details` seeds everything that is not named.

    With a `second` person, `identity` is the one on the left.
    """

    identity: Identity
    scene: str
    action: str
    shot: str
    style: str = "flat"
    details: int = 0
    expression: str = "neutral"
    accessory: str = "none"
    item: str = "none"
    modifier: str = "none"
    second: Person | None = None

    @property
    def people(self) -> tuple[Person, ...]:
        """From the left."""
        first = Person(self.identity, self.expression, self.accessory, self.item)
        return (first,) if self.second is None else (first, self.second)


@dataclass(frozen=True)
class Truth:
    """Where things are in a drawn picture, in pixels. Landmarks in ArcFace's order, 5 x 2; `second` is the other
    person's head."""

    head_box: tuple[float, float, float, float]
    landmarks: np.ndarray
    radius: float
    extra: dict = field(default_factory=dict)
    second: Truth | None = None

    @property
    def heads(self) -> tuple[Truth, ...]:
        """Of everybody, from the left."""
        return (self,) if self.second is None else (self, self.second)


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


def with_extras(picture: Picture, rng: np.random.Generator, two: float = 0.0) -> Picture:
    """The picture with things added at random, and with a second person in the share `two`. Hands, and so things
    held, are outside close-ups; two people hold one thing at most."""
    is_pair = rng.random() < two
    people = [picture.identity, random_identity(rng)][: 1 + is_pair]
    if rng.random() < PLAIN_SHARE:
        return replace(picture, second=Person(people[1])) if is_pair else picture
    added = [
        Person(identity, choose(rng, EXPRESSIONS, NONE["expression"]), choose(rng, ACCESSORIES, NONE["accessory"]))
        for identity in people
    ]
    if picture.shot != "close-up":
        holder = int(rng.integers(len(added)))
        added[holder] = replace(added[holder], item=choose(rng, OBJECTS, NONE["item"]))
    first = {k: getattr(added[0], k) for k in ("expression", "accessory", "item")}
    second = added[1] if is_pair else None
    return replace(picture, **first, modifier=choose_modifier(rng, picture.scene), second=second)


def hair_words(identity: Identity, has_style: bool = True, has_colour: bool = True) -> str:
    """`long red hair`, or one of the two; empty where nothing is to be named."""
    if identity.hair_style == "bald":
        return "bald head" if has_style or has_colour else ""
    words = [identity.hair_style] * has_style + [identity.hair_colour] * has_colour
    return " ".join([*words, "hair"]) if words else ""


def skin_words(identity: Identity) -> str:
    return f"{SKIN_WORDS[min(int(identity.skin * len(SKIN_WORDS)), len(SKIN_WORDS) - 1)]} skin"


def looks_phrase(identity: Identity, rng: np.random.Generator, chance: float, expression: str = "neutral") -> str:
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
    if expression == "open mouth":
        words.append(expression)
    if not words:
        return "with a face" if rng.random() < chance / 2 else ""
    rng.shuffle(words)
    return "with " + " and ".join(words)


def pick(rng: np.random.Generator, options: tuple[str, ...]) -> str:
    """One of the wordings; where there is no choice, nothing is drawn."""
    return str(rng.choice(options)) if len(options) > 1 else options[0]


def joined(*parts: str) -> str:
    return " ".join(part for part in parts if part)


def person_phrase(person: Person, word: str, rng: np.random.Generator, looks_chance: float, position: str = "") -> str:
    """`a smiling man with red hair wearing a hat on the left holding a ball`, of the person word `word`."""
    looks = looks_phrase(person.identity, rng, looks_chance, person.expression)
    mood, worn = pick(rng, EXPRESSION_WORDS[person.expression]), pick(rng, ACCESSORY_WORDS[person.accessory])
    return joined("a", mood, word, looks, worn, position, pick(rng, OBJECT_WORDS[person.item]))


def people_phrase(people: tuple[Person, ...], rng: np.random.Generator, looks_chance: float) -> str:
    """Two persons in words: together, where neither has anything to be told of alone, or one after the other; from
    the left, or in any order where positions are named."""
    genders = tuple(person.identity.gender for person in people)
    if all(person == Person(person.identity) for person in people) and rng.random() < 0.5:
        return pick(rng, GROUP_WORDS[genders])
    positions, order = ("", ""), [0, 1]
    if rng.random() < 0.5:
        positions, order = POSITION_WORDS, list(rng.permutation(2))
    phrases = [
        person_phrase(people[i], pick(rng, PERSON_WORDS[genders[i]]), rng, looks_chance, positions[i]) for i in order
    ]
    return " and ".join(phrases)


def caption(picture: Picture, rng: np.random.Generator, shot_chance: float = 0.8, looks_chance: float = 0.3) -> str:
    """A caption in the world's closed vocabulary; the shot word is left out at random."""
    people, word = picture.people, pick(rng, PERSON_WORDS[picture.identity.gender])
    medium = pick(rng, MEDIA_WORDS[picture.style])
    if picture.second is None:
        subject = person_phrase(people[0], word, rng, looks_chance)
    else:
        subject = people_phrase(people, rng, looks_chance)
    action, scene = pick(rng, ACTION_WORDS[picture.action]), pick(rng, SCENE_WORDS[picture.scene])
    text = joined(medium, subject, action, scene, pick(rng, MODIFIER_WORDS[picture.modifier]))
    return f"{text}, {pick(rng, SHOT_WORDS[picture.shot])}" if rng.random() < shot_chance else text


def vocabulary() -> list[str]:
    """Every word that a caption can hold, and a few that users type; sorted."""
    phrases = ["a the of with and in on at , . face head eyes hair glasses beard bald person people portrait photo"]
    phrases += ["skin", *HAIR_COLOURS, *EYE_COLOURS, *HAIR_STYLES, *SKIN_WORDS]
    extras = (EXPRESSION_WORDS, ACCESSORY_WORDS, OBJECT_WORDS, MODIFIER_WORDS, GROUP_WORDS)
    for table in (SCENE_WORDS, ACTION_WORDS, SHOT_WORDS, PERSON_WORDS, MEDIA_WORDS, *extras):
        phrases += [phrase for options in table.values() for phrase in options]
    phrases += ["wide shot", "big small boy girl knight", "two", "sky sea sun moon"]
    phrases += [
        *POSITION_WORDS,
        *EXPRESSIONS,
        *OBJECTS,
        "left right middle next to beside both couple friends boys girls",
    ]
    phrases += ["an her his mouth expression serious crying laughing", "hats caps balloons umbrellas balls red cloudy"]
    return sorted({word for phrase in phrases for word in phrase.replace("-", " - ").split()})
