"""Splits prompts into words, for the modules that read subject words, gender words, or give advice."""

from __future__ import annotations

import re
from dataclasses import dataclass

EXTRA_NETWORK = re.compile(r"<\w+:[^<>]*>")  # "<lora:name:1>": a tag for the host, no word of the prompt
LETTERS = re.compile(r"[^\W\d_]+")

GENERIC_WORDS = {
    "male": ("man", "men", "boy", "boys", "guy", "guys", "male", "males", "gentleman", "gentlemen"),
    "female": ("woman", "women", "girl", "girls", "gal", "gals", "female", "females", "lady", "ladies"),
}
PERSON_WORDS = frozenset({
    "person", "child", "kid", "people", "human", "knight",
    "king", "queen", "prince", "princess", "warrior", "soldier", "wizard", "witch", "monk", "nun", "pirate",
    "hero", "heroine", "astronaut", "dancer", "athlete", "runner", "singer", "actor", "actress", "model",
    "bride", "groom", "father", "mother",
}).union(*GENERIC_WORDS.values())  # fmt: skip


@dataclass(frozen=True)
class Word:
    """A word in lower case, and its position in the text."""

    text: str
    start: int
    end: int


def words_of(text: str) -> list[Word]:
    """All runs of letters, in order, without digits and signs: "1girl" gives "girl"."""
    blanked = EXTRA_NETWORK.sub(lambda tag: " " * len(tag[0]), text)
    return [Word(found[0].lower(), *found.span()) for found in LETTERS.finditer(blanked)]


def replace_words(text: str, table: dict[str, str]) -> str:
    """Replace words by a table (keys in lower case); capitals are kept, other words stay."""
    for word in reversed(words_of(text)):
        if word.text in table:
            before, new = text[word.start : word.end], table[word.text]
            new = new.upper() if before.isupper() else new.capitalize() if before[0].isupper() else new
            text = text[: word.start] + new + text[word.end :]
    return text
