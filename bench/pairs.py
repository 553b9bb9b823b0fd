"""Who is asked for, where and doing what: the fixed pairs that every method is measured on."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass

import cv2
import numpy as np

from demo.dollhouse.draw import draw
from demo.dollhouse.world import (
    ACTION_WORDS,
    MEDIA_WORDS,
    PERSON_WORDS,
    SCENE_WORDS,
    SHOT_WORDS,
    Identity,
    Picture,
    random_identity,
    random_picture,
)

SPLITS = {"tuning": 7001, "heldout": 9001}  # two seeds, two crowds: no tuning run has seen the second


@dataclass(frozen=True, eq=False)
class Pair:
    """One person in one scene: the prompt, the seed, and the reference photo as the API takes it.

    index: its number in the split; word: the prompt's person word.
    """

    index: int
    word: str
    person: Identity
    scene: str
    action: str
    prompt: str
    seed: int
    photo: np.ndarray
    reference: str

    @property
    def gender(self) -> str:
        """As face packs say it."""
        return {"man": "male", "woman": "female"}[self.person.gender]

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
        more = [reference_photo(self.person, rng) for _ in range(photos - 1)]
        others = [reference_photo(random_identity(rng), rng) for _ in range(strangers)]
        return (self.reference, *map(to_base64, more + others))


def reference_photo(person: Identity, rng: np.random.Generator, size: int = 256) -> np.ndarray:
    """A close-up of the person in some other scene, RGB uint8."""
    picture: Picture = random_picture(rng, person, shot="close-up", style="flat")
    return draw(picture, size, size)[0]


def to_base64(photo: np.ndarray) -> str:
    return base64.b64encode(cv2.imencode(".png", photo[..., ::-1])[1].tobytes()).decode()


def make_pairs(n: int, split: str = "tuning") -> list[Pair]:
    """The first n pairs of a split, always the same: full-shot prompts, the person word by the person's gender.

    Tuning has each notion's first wording, held-out the others where there are any.
    """
    rng = np.random.default_rng(SPLITS[split])

    def wording(options: tuple[str, ...]) -> str:
        if split == "tuning":
            return options[0]
        others = [words for words in options[1:] if words]
        return str(rng.choice(others)) if others else options[0]

    pairs = []
    for index in range(n):
        person = random_identity(rng)
        scene, action = str(rng.choice(list(SCENE_WORDS))), str(rng.choice(list(ACTION_WORDS)))
        word, medium = wording(PERSON_WORDS[person.gender]), wording(MEDIA_WORDS["flat"])
        doing, where = wording(ACTION_WORDS[action]), wording(SCENE_WORDS[scene])
        prompt = f"{medium} a {word} {doing} {where}, {wording(SHOT_WORDS['full'])}"
        seed, photo = int(rng.integers(2**31)), reference_photo(person, rng)
        pairs.append(Pair(index, word, person, scene, action, prompt, seed, photo, to_base64(photo)))
    return pairs


def make_batches(pairs: list[Pair], size: int) -> list[list[Pair]]:
    """Pairs in batches of one person word each: the probe reads a batch's person words all together."""
    words: dict[str, list[Pair]] = {}
    for pair in pairs:
        words.setdefault(pair.word, []).append(pair)
    batches = [group[i : i + size] for group in words.values() for i in range(0, len(group), size)]
    return sorted(batches, key=lambda batch: batch[0].index)
