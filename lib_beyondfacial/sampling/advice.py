"""Warnings about prompts before sampling: words that cannot refer to the person."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..errors import BeyondFacialError
from ..settings import Settings
from .gender import gender_warning
from .words import PERSON_WORDS, words_of

PLACEHOLDER = re.compile(r"\{\s*(\w+)\s*\}")
# Words that show a person, although they are not among PERSON_WORDS, which the probe reads.
ALSO_PERSONS = frozenset({
    "adult", "baby", "barista", "boxer", "bust", "captain", "chef", "child", "children", "clown", "cop",
    "couple", "cowboy", "cowgirl", "detective", "doctor", "elf", "emperor", "empress", "engineer", "face",
    "family", "farmer", "firefighter", "firefighters", "fisherman", "friend", "friends", "grandfather",
    "grandmother", "guard", "he", "her", "herself", "him", "himself", "his", "husband", "judge", "kids",
    "lawyer", "mechanic", "musician", "ninja", "nurse", "officer", "painter", "persons", "pilot", "player",
    "police", "policeman", "policewoman", "portrait", "priest", "professor", "sailor", "samurai", "scientist",
    "selfie", "she", "someone", "somebody", "student", "surfer", "teacher", "teen", "teenager", "toddler",
    "viking", "waiter", "waitress", "wife", "worker", "writer",
})  # fmt: skip


SEVERAL = frozenset({
    "boys", "children", "couple", "family", "firefighters", "friends", "gals", "gentlemen", "girls", "guys", "kids",
    "ladies", "males", "females", "men", "people", "persons", "police", "women",
})  # fmt: skip


def advise(settings: Settings, gender: str | None, prompts: Sequence[str], name: str = "") -> list[str]:
    """One sentence for each word in the settings or prompts that has no effect or a wrong one.

    gender: of the photos, if the face pack gives it. prompts: all of the request. name: of one of several persons.
    """
    warned = [gender_warning(gender, prompt, name) for prompt in prompts if settings.gender_alignment == "warn"]
    given = [*placeholder_advice(settings), *subject_advice(settings, prompts)]
    return [*filter(None, dict.fromkeys(warned)), *(f"BeyondFacial: {sentence}" for sentence in given)]


def placeholder_advice(settings: Settings) -> list[str]:
    unknown = [found[0] for found in PLACEHOLDER.finditer(settings.id_prompt) if found[0] != "{prompt}"]
    return [
        f'"id_prompt" holds {word}, which stands for nothing and was drawn as a word; only {{prompt}} stands for the '
        "prompt."
        for word in dict.fromkeys(unknown)
    ]


def subject_advice(settings: Settings, prompts: Sequence[str]) -> list[str]:
    """Warnings if no word of the prompt refers to the person, neither by "subject" nor as a person word."""
    spoken = [{word.text for word in words_of(f"{prompt} {settings.id_prompt}")} for prompt in prompts]
    subject = list(dict.fromkeys(word.text for word in words_of(settings.subject)))
    if settings.subject and not subject:
        return [
            f'"subject" ("{settings.subject[:60]}") holds no word; name a word of the prompt that means the person.'
        ]
    missing = [word for word in subject if not all(word in words for words in spoken)]
    if missing:
        quoted = ", ".join(f'"{word}"' for word in missing)
        return [f'The prompt has no {quoted}, which "subject" names; use words of the prompt that mean the person.']
    nameless = [words for words in spoken if not words & (PERSON_WORDS | ALSO_PERSONS)]
    if subject or not nameless:
        return []
    shown_text = " ".join(prompts[spoken.index(nameless[0])].split())[:40]
    return [
        f'The prompt ("{shown_text}") names no person that is known here, so a head may not be made; say "a man" or '
        '"a woman", or name its word for the person in "subject".'
    ]


def persons_advice(settings: Settings, prompts: Sequence[str]) -> list[str]:
    """Warnings about several persons: a prompt whose words mean one, and a start identity, which has no place."""
    persons, warnings = len(settings.persons), []
    for prompt in prompts if persons > 1 else ():
        named = [word.text for word in words_of(prompt) if word.text in PERSON_WORDS | ALSO_PERSONS]
        if len(named) == 1 and named[0] not in SEVERAL:
            warnings.append(
                f'BeyondFacial: {persons} persons are given, and the prompt names one ("{named[0]}"); say who all of '
                'them are, as in "a man and a woman" or "two men".'
            )
    if persons > 1 and settings.idap_strength > 0:
        warnings.append('BeyondFacial: "idap_strength" acts for a single person only, so the start stays the host\'s.')
    return warnings


def refuse_subjects(settings: Settings, prompts: Sequence[str]) -> None:
    """BeyondFacialError where one of several persons has a subject that a prompt does not hold."""
    for number, person in enumerate(settings.persons, 1):
        for prompt in prompts:
            missing = person.words - {word.text for word in words_of(f"{prompt} {settings.id_prompt}")}
            if missing:
                raise BeyondFacialError(
                    f'Person {number} of "persons": the prompt has no "{min(missing)}", which "subject" names; use '
                    "words of the prompt that mean this person."
                )
