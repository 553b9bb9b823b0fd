"""What the head probe asks of a host's text encoder, the same on every host: words, each encoded by itself."""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import Tensor

from ..method.close_look import NEAR_PROMPT

HEAD, PERSON = "head", "person"
HEAD_WORDS = ("face", "hair", "eyes")
# What the head words are judged against: words of no part of a person. dollhouse: with scenery among them the head is
# found in 93% of the pictures, with articles and prepositions alone in a third.
REFERENCE_WORDS = ("the", "in", "at", "of", "a", "photo", "shot", "body", "forest", "city", "beach", "night", "snow")
PERSON_WORDS = frozenset({
    "person", "man", "woman", "boy", "girl", "guy", "lady", "child", "kid", "people", "human", "knight",
    "king", "queen", "prince", "princess", "warrior", "soldier", "wizard", "witch", "monk", "nun", "pirate",
    "hero", "heroine", "astronaut", "dancer", "athlete", "runner", "singer", "actor", "actress", "model",
    "bride", "groom", "father", "mother",
})  # fmt: skip


GENERIC_WORDS = {
    "male": ("man", "men", "boy", "boys", "guy", "guys", "male", "gentleman"),
    "female": ("woman", "women", "girl", "girls", "gal", "gals", "female", "lady"),
}
AND_WEIGHT = re.compile(r"\s*:\s*[-+]?(?:\d+\.?|\d*\.\d+)\s*$")


def encode(p: Any, texts: list[str], size: tuple[int, int] | None = None) -> Any:
    """The host's own text encoding at the run's clip skip: a tensor (B, T, C), or SDXL's dict of it.

    Args:
        size: (height, width) of what is drawn, which SDXL is told; the picture's.
    """
    from modules import devices, prompt_parser

    conditioning = getattr(prompt_parser, "SdConditioning", None)
    height, width = size or (p.height, p.width)
    asked = conditioning(texts, width=width, height=height) if conditioning else texts
    with torch.no_grad(), devices.autocast():
        return p.sd_model.get_learned_conditioning(asked)


def crossattn(cond: Any) -> Tensor:
    return cond["crossattn"] if isinstance(cond, dict) else cond


def probe_contexts(p: Any, subject: str) -> tuple[dict[str, Tensor], Tensor]:
    """The text encoder's output at the head words, at the prompt's person words (or the user's `subject`), and at the
    reference words: each word encoded by itself, so that only its meaning differs."""
    prompt = " ".join(getattr(p, "prompts", None) or [p.prompt])
    words = re.findall(r"[^\W\d_]+", subject or prompt)
    person = [w for w in dict.fromkeys(w.lower() for w in words) if subject or w in PERSON_WORDS]
    groups = {HEAD: list(HEAD_WORDS), PERSON: person}
    # One token a word: the one after the start token; longer words are told by their first piece.
    asked = {group: own for group, own in groups.items() if own} | {"": list(REFERENCE_WORDS)}
    encoded = crossattn(encode(p, [word for own in asked.values() for word in own]))[:, 1].detach()
    parts = dict(zip(asked, encoded.split([len(own) for own in asked.values()]), strict=True))
    return parts, parts.pop("")


def identity_prompts(settings: Any, gender: str | None, prompts: list[str]) -> list[str] | None:
    """The identity line's own prompts: the template with each image's prompt in it, its generic person words the
    photo's where gender_alignment says so. None: they are the semantic line's."""
    template = settings.id_prompt or "{prompt}"
    own = [template.replace("{prompt}", prompt) for prompt in prompts]
    if settings.gender_alignment == "follow photo" and gender:
        own = [follow_gender(prompt, gender) for prompt in own]
    return own if own != prompts else None


def near_prompts(p: Any, prompts: list[str]) -> list[str]:
    """The closer look's prompts: as the prompt's editing ends, AND parts as one, a close-up by name."""
    from modules import prompt_parser

    scheduled = getattr(prompt_parser, "get_learned_conditioning_prompt_schedules", None)

    def near_prompt(prompt: str) -> str:
        parts = [AND_WEIGHT.sub("", part).strip() for part in re.split(r"\bAND\b", prompt)]
        if scheduled:
            parts = [schedule[-1][1] for schedule in scheduled(parts, p.steps)]
        return NEAR_PROMPT.replace("{prompt}", ", ".join(filter(None, parts)))

    return [near_prompt(prompt) for prompt in prompts]


def told_gender(prompt: str) -> str | None:
    """The gender that a prompt's generic person words tell: "male", "female"; None where none does, or both do."""
    words = set(re.findall(r"[a-z]+", prompt.lower()))
    told = [gender for gender, own in GENERIC_WORDS.items() if words & set(own)]
    return told[0] if len(told) == 1 else None


def follow_gender(prompt: str, gender: str) -> str:
    """The prompt with the other gender's generic person words in this one's; others (king, nurse, bride) stay."""
    theirs, ours = GENERIC_WORDS["female" if gender == "male" else "male"], GENERIC_WORDS[gender]
    table = dict(zip(theirs, ours, strict=True))

    def put(match: re.Match) -> str:
        word, own = match[0], table[match[0].lower()]
        return own.upper() if word.isupper() else own.capitalize() if word[0].isupper() else own

    return re.sub(rf"(?i)\b(?:{'|'.join(table)})\b", put, prompt)


def gender_warning(settings: Any, gender: str | None, prompt: str) -> str | None:
    """What is to be said where the photo's gender and the prompt's disagree; None where there is nothing to say."""
    told = told_gender(prompt)
    if settings.gender_alignment != "warn" or not gender or not told or told == gender:
        return None
    return (
        f"BeyondFacial: the face pack sees a {gender} face in the photos, the prompt's words say {told}; change the "
        'prompt, or set "gender_alignment" to "follow photo" or "off".'
    )
