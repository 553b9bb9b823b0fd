"""Two persons in one picture: the fixed pairs of prompts and persons that every way to draw two is measured on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from bench.pairs import SPLITS, Pair, Slot, make_wording, reference_photo, to_base64
from demo.dollhouse.extras import GROUP_WORDS, POSITION_WORDS
from demo.dollhouse.world import (
    ACTION_WORDS,
    MEDIA_WORDS,
    SCENE_WORDS,
    SHOT_WORDS,
    Identity,
    Person,
    Picture,
    joined,
    random_identity,
)

# By words, by position, one photo where two people are asked for; and that with the requests that first showed the
# other person with the same face.
ASSIGN = {"subject": 1, "position": 2, "one": 3, "requests": 4}
SEEDS, REQUEST = (7, 8, 9, 12), "photo of two men running in the city, full body shot"
WORDS = {"man": ("man", "guy"), "woman": ("woman", "lady")}


@dataclass(frozen=True, eq=False)
class PeoplePair(Pair):
    """Two persons in one scene. `picture` has them from the left, as the prompt says it.

    one, other: what each would be alone, in the order of the request. subjects: the prompt's words for each.
    """

    one: Pair | None = None
    other: Pair | None = None
    subjects: tuple[str, str] = ("", "")
    assign: str = "subject"

    wide: ClassVar[float] = 1.5  # two full shots have room, and the UNet has seen 288 x 192

    @property
    def singles(self) -> tuple[Pair, Pair]:
        assert self.one is not None
        assert self.other is not None
        return self.one, self.other

    @property
    def people(self) -> tuple[Identity, ...]:
        return tuple(each.person for each in self.singles)

    @property
    def first_is_left(self) -> bool:
        """Whether the request's first person is the left one by the prompt, or by position."""
        return self.picture.identity is self.singles[0].person

    @property
    def group(self) -> str:
        return " ".join((self.word, *self.subjects))

    def slots(self, photos: int = 1, strangers: int = 0, tells_gender: bool = False) -> list[Slot]:
        """Both persons, by subject words or by position; or the first one alone."""
        if self.assign == "one":
            return self.singles[0].slots()
        places = (1, 2) if self.assign == "position" else (0, 0)
        return [
            Slot((each.reference,), subject, place)
            for each, subject, place in zip(self.singles, self.subjects, places, strict=True)
        ]


class Request(PeoplePair):
    """One of four requests with a fixed prompt and seed, twice as wide as high."""

    wide: ClassVar[float] = 2.0


def make_requests(split: str) -> list[PeoplePair]:
    rng, pairs = np.random.default_rng((SPLITS[split], ASSIGN["requests"])), []
    for index, seed in enumerate(SEEDS):
        one, other = (alone(index, random_person(rng, "man"), "city", "running", seed + k, rng) for k in range(2))
        picture = Picture(one.person, "city", "running", "full", second=Person(other.person))
        about = (index, "two men", picture, REQUEST, seed, one.photo, one.reference)
        pairs.append(Request(*about, one, other, ("", ""), "one"))
    return pairs


def random_person(rng: np.random.Generator, gender: str) -> Identity:
    while True:
        person = random_identity(rng)
        if person.gender == gender:
            return person


def make_people(n: int, split: str, assign: str) -> list[PeoplePair]:
    """The first n pairs of a split, always the same.

    "subject": a man and a woman, in either order, in half of the prompts with positions; "position" and "one": two men
    or two women; "requests": the fixed ones, at most four.
    """
    if assign == "requests":
        return make_requests(split)[:n]
    rng, pairs = np.random.default_rng((SPLITS[split], ASSIGN[assign])), []
    wording = make_wording(split, rng)
    for index in range(n):
        first, second = (str(word) for word in rng.permutation(["man", "woman"]))
        genders = (first, second) if assign == "subject" else (first, first)
        scene, action = str(rng.choice(list(SCENE_WORDS))), str(rng.choice(list(ACTION_WORDS)))
        people = [random_person(rng, gender) for gender in genders]
        words = [wording(WORDS[gender]) for gender in genders]
        flips = assign == "subject" and bool(rng.random() < 0.25)
        places = list(POSITION_WORDS[::-1] if flips else POSITION_WORDS)
        if not flips and rng.random() < 2 / 3:
            places = ["", ""]
        subject = " and ".join(joined("a", *each) for each in zip(words, places, strict=True))
        if assign != "subject":
            subject = wording(GROUP_WORDS[genders][:2])
        doing, where = wording(ACTION_WORDS[action]), wording(SCENE_WORDS[scene])
        medium, shot = wording(MEDIA_WORDS["flat"]), wording(SHOT_WORDS["full"])
        prompt, seed = f"{joined(medium, subject, doing, where)}, {shot}", int(rng.integers(2**31))
        singles = [alone(index, person, scene, action, seed + k, rng) for k, person in enumerate(people)]
        left, right = people[::-1] if flips else people
        picture = Picture(left, scene, action, "full", second=Person(right))
        subjects = (words[0], words[1]) if assign == "subject" else ("", "")
        group = "two" if assign == "subject" else subject
        about = (index, group, picture, prompt, seed, singles[0].photo, singles[0].reference)
        pairs.append(PeoplePair(*about, *singles, subjects, assign))
    return pairs


def alone(index: int, person: Identity, scene: str, action: str, seed: int, rng: np.random.Generator) -> Pair:
    """One of the two as a pair of its own, which the judge's ceiling is drawn from."""
    photo = reference_photo(person, rng)
    return Pair(index, "", Picture(person, scene, action, "full"), "", seed, photo, to_base64(photo))
