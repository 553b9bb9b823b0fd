"""Compares the photo's gender with the prompt's generic person words (setting `gender_alignment`)."""

from __future__ import annotations

from .words import GENERIC_WORDS, replace_words, words_of


def gender_in_prompt(prompt: str) -> str | None:
    """The gender that a prompt's generic person words name, "male" or "female"; None for neither or both."""
    words = {word.text for word in words_of(prompt)}
    named = [gender for gender, generic in GENERIC_WORDS.items() if words & set(generic)]
    return named[0] if len(named) == 1 else None


def follow_gender(prompt: str, gender: str) -> str:
    """Replace the prompt's generic person words (man, woman, boy, girl) by those of a gender; others (king) are kept.

    A prompt that names both genders is not changed, because it may be about two people.
    """
    if gender_in_prompt(prompt) in (None, gender):
        return prompt
    other = "female" if gender == "male" else "male"
    return replace_words(prompt, dict(zip(GENERIC_WORDS[other], GENERIC_WORDS[gender], strict=True)))


def gender_warning(gender: str | None, prompt: str, name: str = "") -> str | None:
    """A warning if the photo's gender and the prompt's differ; None if they do not.

    name: of one of several persons.
    """
    named = gender_in_prompt(prompt)
    if not gender or not named or named == gender:
        return None
    photos = f"the photos of {name}" if name else "the photos"
    return (
        f"BeyondFacial: the face pack sees a {gender} face in {photos}, the prompt's words say {named}; change the "
        'prompt, or set "gender_alignment" to "follow photo" or "off".'
    )
