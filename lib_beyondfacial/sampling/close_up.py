"""A prompt for one head's close-up: without the words that frame a whole body, and of one person alone.

Left in, they are drawn: a crop of a head then shows a whole person, or two of them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

FRAMES = (
    "full body", "full length", "whole body", "upper body", "half body", "lower body", "head to toe", "cowboy",
    "long", "wide", "extreme wide", "wide angle", "medium", "establishing",
)  # fmt: skip
SHOTS = "shot|view|portrait|photo|picture"
ONE_OF = {
    "men": "man", "women": "woman", "people": "person", "persons": "person", "guys": "guy", "ladies": "lady",
    "boys": "boy", "girls": "girl", "friends": "friend", "kids": "kid", "children": "child",
}  # fmt: skip
_frames = [re.escape(frame).replace(r"\ ", "[ -]") for frame in sorted(FRAMES, key=len, reverse=True)]
_bodies = [frame for frame in _frames if "[ -]" in frame and "wide" not in frame]  # enough without "shot"
_tag = r"<[^<>]*>"
FRAME = re.compile(
    rf"{_tag}|\b(?:(?:{'|'.join(_frames)})[ -](?:{SHOTS})|{'|'.join(_bodies)})\b(?P<frame>)", re.IGNORECASE
)
GROUP = re.compile(rf"{_tag}|\b(?:two|three|four|[234]) (?P<many>{'|'.join(ONE_OF)})\b", re.IGNORECASE)
TAGGED = re.compile(rf"{_tag}|\b[234](?P<many>boys|girls)\b", re.IGNORECASE)
DESCRIBED = "with|wearing|holding|who|whose|on the|dressed"
NOTHING_LEFT = re.compile(r"\(\s*(?::\s*[\d.]+\s*)?\)|\[\s*\]")


def close_up_prompt(prompt: str, others: Sequence[str] = ()) -> str:
    """The prompt without a whole body's frame, and with one person in a group's place; <tags> stay as they are.

    A prompt that has neither comes back as it is.

    Args:
        others: subjects of the other persons. "a man and a woman" loses them; one who is described stays.
    """
    for subject in filter(None, others):
        other = rf"\b(?:an?|the) {re.escape(subject)}\b"
        prompt = re.sub(
            rf" and {other}(?! (?:{DESCRIBED})\b)|{other} and (?=an? |the )", "", prompt, flags=re.IGNORECASE
        )
    one = GROUP.sub(lambda found: f"a {singular(found)}" if found["many"] else found[0], prompt)
    one = TAGGED.sub(lambda found: f"1{singular(found)}" if found["many"] else found[0], one)
    framed = FRAME.sub(lambda found: found[0] if found["frame"] is None else "", one)
    if framed == one:
        return one
    while (emptied := NOTHING_LEFT.sub("", framed)) != framed:  # brackets in brackets
        framed = emptied
    parts = [part.strip() for part in framed.split(",")]
    return ", ".join(part for part in parts if part)


def singular(found: re.Match[str]) -> str:
    return ONE_OF[found["many"].lower()]
