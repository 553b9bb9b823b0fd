"""The photo's gender against the prompt's generic person words (setting `gender_alignment`)."""

from __future__ import annotations

from .words import GENERIC_WORDS, replace_words, words_of


def gender_in_prompt(prompt: str) -> str | None:
    """The gender that a prompt's generic person words name: "male", "female"; None where none does, or both do."""
    words = {word.text for word in words_of(prompt)}
    named = [gender for gender, generic in GENERIC_WORDS.items() if words & set(generic)]
    return named[0] if len(named) == 1 else None


def follow_gender(prompt: str, gender: str) -> str:
    """The prompt with the other gender's generic person words in this one's; others (king, nurse, bride) stay.

    A prompt that names both stays as it is: its words may mean two people.
    """
    if gender_in_prompt(prompt) in (None, gender):
        return prompt
    other = "female" if gender == "male" else "male"
    return replace_words(prompt, dict(zip(GENERIC_WORDS[other], GENERIC_WORDS[gender], strict=True)))


def gender_warning(gender: str | None, prompt: str) -> str | None:
    """The warning where the photo's gender and the prompt's disagree; None where there is none."""
    named = gender_in_prompt(prompt)
    if not gender or not named or named == gender:
        return None
    return (
        f"BeyondFacial: the face pack sees a {gender} face in the photos, the prompt's words say {named}; change the "
        'prompt, or set "gender_alignment" to "follow photo" or "off".'
    )
