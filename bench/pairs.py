"""Who is asked for, where and doing what: the fixed pairs that every method is measured on."""

from __future__ import annotations

import base64
from dataclasses import dataclass

import cv2
import numpy as np

from demo.dollhouse.draw import draw
from demo.dollhouse.world import (
    ACTION_WORDS,
    PERSON_WORDS,
    SCENE_WORDS,
    Identity,
    Picture,
    random_identity,
    random_picture,
)

SPLITS = {"tuning": 7001, "heldout": 9001}  # two seeds, two crowds: no tuning run has seen the second


@dataclass(frozen=True, eq=False)
class Pair:
    """One person in one scene: the prompt, the seed, and the reference photo as the API takes it."""

    person: Identity
    scene: str
    action: str
    prompt: str
    seed: int
    photo: np.ndarray
    reference: str


def reference_photo(person: Identity, rng: np.random.Generator, size: int = 256) -> np.ndarray:
    """A close-up of the person in some other scene, RGB uint8."""
    picture: Picture = random_picture(rng, person, shot="close-up", style="flat")
    return draw(picture, size, size)[0]


def to_base64(photo: np.ndarray) -> str:
    return base64.b64encode(cv2.imencode(".png", photo[..., ::-1])[1].tobytes()).decode()


def make_pairs(n: int, split: str = "tuning") -> list[Pair]:
    """The first n pairs of a split, always the same: full-shot prompts, the person word by the person's gender."""
    rng = np.random.default_rng(SPLITS[split])
    pairs = []
    for _ in range(n):
        person = random_identity(rng)
        scene, action = str(rng.choice(list(SCENE_WORDS))), str(rng.choice(list(ACTION_WORDS)))
        word = PERSON_WORDS[person.gender][0]
        prompt = f"photo of a {word} {ACTION_WORDS[action][0]} {SCENE_WORDS[scene][0]}, full body shot"
        seed, photo = int(rng.integers(2**31)), reference_photo(person, rng)
        pairs.append(Pair(person, scene, action, prompt, seed, photo, to_base64(photo)))
    return pairs
