"""Prompts as text: the probe's words, the identity line's prompt, the refinement's prompt."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Sequence

from ..method.head_refinement import REFINE_PROMPT
from .close_up import close_up_prompt
from .gender import follow_gender
from .plan import IdentityLine
from .words import PERSON_WORDS, words_of

HEAD_WORDS = ("face", "hair", "eyes")
# The head words are compared with these words, which are no part of a person. Measured in Dollhouse: with scenery
# among them the head is found in 93% of the pictures, with articles and prepositions alone in a third.
REFERENCE_WORDS = ("the", "in", "at", "of", "a", "photo", "shot", "body", "forest", "city", "beach", "night", "snow")
SIDES = {"left": -1, "right": 1}
SOON = 5  # words within which a side is of the person before it
AND_PART = re.compile(r"\bAND\b")
AND_WEIGHT = re.compile(r"\s*:\s*[-+]?(?:\d+\.?|\d*\.\d+)\s*$")


def subject_words(subject: str, prompts: Sequence[str]) -> list[str]:
    """The words for the person, each once: the user's `subject`, else the person words of the prompts."""
    words = dict.fromkeys(word.text for word in words_of(subject or " ".join(prompts)))
    return [word for word in words if subject or word in PERSON_WORDS]


def order_in_prompt(subjects: Sequence[str], prompt: str) -> list[int]:
    """By person, the rank from the left, 0 and up, that the prompt's wording suggests.

    "left" or "right" within five words after a person's words counts first, then the order in which the prompt names
    the persons, last those whom it does not name.
    """
    words = [word.text for word in words_of(prompt)]
    ends = [ends_of([word.text for word in words_of(subject)], words) for subject in subjects]
    named = {i for of_person in ends for i in of_person}

    def key(person: int) -> tuple[int, int, int]:
        places = ends[person]
        for i in places:
            behind = itertools.takewhile(lambda j: j not in named, range(i + 1, min(i + 1 + SOON, len(words))))
            side = next((SIDES[words[j]] for j in behind if words[j] in SIDES), 0)
            if side:
                return side, i, person
        return 0, places[0] if places else len(words), person

    order = sorted(range(len(subjects)), key=key)
    return [order.index(person) for person in range(len(subjects))]


def ends_of(phrase: Sequence[str], words: Sequence[str]) -> list[int]:
    """Where a phrase ends among the words; where it never stands as a whole, the places of its last word."""
    whole = [i for i in range(len(phrase) - 1, len(words)) if words[i + 1 - len(phrase) : i + 1] == list(phrase)]
    return (whole or [i for i, word in enumerate(words) if word == phrase[-1]]) if phrase else []


def line_prompts(line: IdentityLine, prompts: Sequence[str]) -> list[str] | None:
    """The line's own prompt for each picture; None if they equal the semantic line's."""
    changed = []
    for image, prompt in enumerate(prompts):
        text, gender = line.prompt.replace("{prompt}", prompt), line.person_of(image).gender
        changed.append(follow_gender(text, gender) if line.follows_gender and gender else text)
    return changed if changed != list(prompts) else None


def refine_prompts(
    prompts: Sequence[str], at_end: Callable[[Sequence[str]], list[str]], others: Sequence[str] = ()
) -> list[str]:
    """The head refinement's prompts: after prompt editing, AND parts joined, of a close-up of one person.

    at_end: Host.prompts_at_end. others: subjects of the other persons.
    """
    refined = []
    for prompt in prompts:
        parts = at_end([AND_WEIGHT.sub("", part).strip() for part in AND_PART.split(prompt)])
        refined.append(REFINE_PROMPT.replace("{prompt}", close_up_prompt(", ".join(filter(None, parts)), others)))
    return refined
