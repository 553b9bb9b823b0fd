"""The photo's gender against the prompt's generic person words (setting `gender_alignment`)."""

from __future__ import annotations

import re

GENERIC_WORDS = {
    "male": ("man", "men", "boy", "boys", "guy", "guys", "male", "gentleman"),
    "female": ("woman", "women", "girl", "girls", "gal", "gals", "female", "lady"),
}


def gender_in_prompt(prompt: str) -> str | None:
    """The gender that a prompt's generic person words name: "male", "female"; None where none does, or both do."""
    words = set(re.findall(r"[a-z]+", prompt.lower()))
    named = [gender for gender, generic in GENERIC_WORDS.items() if words & set(generic)]
    return named[0] if len(named) == 1 else None


def follow_gender(prompt: str, gender: str) -> str:
    """The prompt with the other gender's generic person words in this one's; others (king, nurse, bride) stay."""
    table = dict(zip(GENERIC_WORDS["female" if gender == "male" else "male"], GENERIC_WORDS[gender], strict=True))

    def replace(match: re.Match) -> str:
        word, other = match[0], table[match[0].lower()]
        return other.upper() if word.isupper() else other.capitalize() if word[0].isupper() else other

    return re.sub(rf"(?i)\b(?:{'|'.join(table)})\b", replace, prompt)


def gender_warning(gender: str | None, prompt: str) -> str | None:
    """The warning where the photo's gender and the prompt's disagree; None where there is none."""
    named = gender_in_prompt(prompt)
    if not gender or not named or named == gender:
        return None
    return (
        f"BeyondFacial: the face pack sees a {gender} face in the photos, the prompt's words say {named}; change the "
        'prompt, or set "gender_alignment" to "follow photo" or "off".'
    )
