"""Who is asked for, where and doing what: the fixed pairs that every method is measured on."""

from __future__ import annotations

import base64
import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, TypeVar

import cv2
import numpy as np

from demo.dollhouse.draw import draw
from demo.dollhouse.extras import (
    ACCESSORIES,
    ACCESSORY_WORDS,
    EXPRESSION_WORDS,
    EXPRESSIONS,
    MODIFIER_WORDS,
    OBJECT_WORDS,
)
from demo.dollhouse.world import (
    ACTION_WORDS,
    MEDIA_WORDS,
    PERSON_WORDS,
    SCENE_WORDS,
    SHOT_WORDS,
    Identity,
    Picture,
    joined,
    random_identity,
    random_picture,
    with_extras,
)

AnyPair = TypeVar("AnyPair", bound="Pair")
SPLITS = {"tuning": 7001, "heldout": 9001}  # two seeds, two crowds: no tuning run has seen the second


@dataclass(frozen=True)
class Slot:
    """One person of a request: the photos, as the API takes them, the prompt's words for the person (""; all person
    words), and the position from the left (0: by the words). gender: as a face pack tells it, where it is to be
    known."""

    references: tuple[str, ...]
    subject: str = ""
    position: int = 0
    gender: str | None = None


@dataclass(frozen=True, eq=False)
class Pair:
    """One person in one scene: the prompt, the seed, and the reference photo as the API takes it.

    index: its number in the split; word: the prompt's person word. picture: what the prompt asks for. wide: by how
    much the picture is wider than high.
    """

    index: int
    word: str
    picture: Picture
    prompt: str
    seed: int
    photo: np.ndarray
    reference: str
    wide: ClassVar[float] = 1.0

    @property
    def person(self) -> Identity:
        return self.picture.identity

    @property
    def people(self) -> tuple[Identity, ...]:
        """The persons whose photos there are."""
        return (self.person,)

    @property
    def group(self) -> str:
        """Pairs of one group can be made in one batch: the probe reads a batch's person words all together."""
        return self.word

    @property
    def gender(self) -> str:
        """As face packs say it."""
        return {"man": "male", "woman": "female"}[self.person.gender]

    def asks(self, kind: str) -> bool:
        """Whether the prompt asks for something of this kind: an "expression", "accessory", "item" or "modifier"."""
        return getattr(self.picture, kind) not in (EXPRESSIONS[0], ACCESSORIES[0])

    def slots(self, photos: int = 1, strangers: int = 0, tells_gender: bool = False) -> list[Slot]:
        """What a request is given: the one person."""
        return [Slot(self.references(photos, strangers), gender=self.gender if tells_gender else None)]

    def prompt_of(self, medium: str = "", other_gender: bool = False) -> str:
        """The prompt, of another medium where one is named, or with the other gender's person word."""
        prompt = self.prompt
        if medium:
            prompt = re.sub(rf"^({'|'.join(filter(None, MEDIA_WORDS['flat']))})", medium, prompt)
        if other_gender:
            other = {"man": "woman", "woman": "man"}[self.person.gender]
            prompt = prompt.replace(f" {self.word} ", f" {other} ", 1)
        return prompt

    def references(self, photos: int = 1, strangers: int = 0) -> tuple[str, ...]:
        """The reference photo, more of the same person, and after them somebody else's."""
        rng = np.random.default_rng((self.seed, 5))
        more = self.more_photos(photos - 1, rng)
        others = [reference_photo(random_identity(rng), rng) for _ in range(strangers)]
        return (self.reference, *map(to_base64, more + others))

    def more_photos(self, count: int, rng: np.random.Generator | None = None) -> list[np.ndarray]:
        """Photos of the person besides the reference; the first of them is never given to a request of one photo."""
        rng = rng or np.random.default_rng((self.seed, 5))
        return [reference_photo(self.person, rng) for _ in range(count)]


def reference_photo(person: Identity, rng: np.random.Generator, size: int = 256) -> np.ndarray:
    """A close-up of the person in some other scene, RGB uint8."""
    picture: Picture = random_picture(rng, person, shot="close-up", style="flat")
    return draw(picture, size, size)[0]


def to_base64(photo: np.ndarray) -> str:
    return base64.b64encode(cv2.imencode(".png", photo[..., ::-1])[1].tobytes()).decode()


def make_wording(split: str, rng: np.random.Generator) -> Callable[[tuple[str, ...]], str]:
    """Tuning has each notion's first wording, held-out the others where there are any."""

    def wording(options: tuple[str, ...]) -> str:
        if split == "tuning":
            return options[0]
        others = [words for words in options[1:] if words]
        return str(rng.choice(others)) if others else options[0]

    return wording


def make_pairs(n: int, split: str = "tuning", asks: str = "") -> list[Pair]:
    """The first n pairs of a split, always the same; asks: of those alone that ask for something of this kind."""
    return list(itertools.islice((pair for pair in every_pair(split) if not asks or pair.asks(asks)), n))


def every_pair(split: str) -> Iterator[Pair]:
    """All pairs of a split, without an end: full-shot prompts, the person word by the person's gender; two in three
    ask for something more (an expression, something worn or held, night or rain)."""
    rng = np.random.default_rng(SPLITS[split])
    wording = make_wording(split, rng)
    for index in itertools.count():
        person = random_identity(rng)
        scene, action = str(rng.choice(list(SCENE_WORDS))), str(rng.choice(list(ACTION_WORDS)))
        word, medium = wording(PERSON_WORDS[person.gender]), wording(MEDIA_WORDS["flat"])
        doing, where, shot = wording(ACTION_WORDS[action]), wording(SCENE_WORDS[scene]), wording(SHOT_WORDS["full"])
        seed, photo = int(rng.integers(2**31)), reference_photo(person, rng)
        more = np.random.default_rng((seed, 7))
        picture = with_extras(Picture(person, scene, action, "full"), more)
        subject = describe_person(picture, word, make_wording(split, more))
        around = make_wording(split, more)(MODIFIER_WORDS[picture.modifier])
        prompt = f"{joined(medium, subject, doing, where, around)}, {shot}"
        yield Pair(index, word, picture, prompt, seed, photo, to_base64(photo))


def describe_person(picture: Picture, word: str, wording: Callable[[tuple[str, ...]], str]) -> str:
    """`a happy lady with open mouth wearing a hat holding a ball`: as the world's captions have it, without looks."""
    mood, worn = wording(EXPRESSION_WORDS[picture.expression]), wording(ACCESSORY_WORDS[picture.accessory])
    mouth = f"with {picture.expression}" if picture.expression == "open mouth" else ""
    return joined("a", mood, word, mouth, worn, wording(OBJECT_WORDS[picture.item]))


def make_batches(pairs: Sequence[AnyPair], size: int) -> list[list[AnyPair]]:
    """Pairs in batches of one group each."""
    groups: dict[str, list[AnyPair]] = {}
    for pair in pairs:
        groups.setdefault(pair.group, []).append(pair)
    batches = [group[i : i + size] for group in groups.values() for i in range(0, len(group), size)]
    return sorted(batches, key=lambda batch: batch[0].index)
