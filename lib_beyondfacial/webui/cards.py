"""Pictures as cards of HTML, with buttons that the page's script hands to Python as one line of text (an action)."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

SIDE = 320  # px of a card's picture, the longer side


@dataclass(frozen=True, eq=False)
class Card:
    """One picture: its caption (text, not HTML), what a tooltip tells, and whether it is in use (None: not known).

    image: None for a file that cannot be read. remove: the action of its cross, "" for none.
    """

    image: Any
    caption: str
    tooltip: str = ""
    is_used: bool | None = None
    remove: str = ""


def cards_html(cards: Sequence[Card]) -> str:
    """The cards, four a row."""
    return f'<div class="beyondfacial-cards">{"".join(map(_card, cards))}</div>' if cards else ""


def _card(card: Card) -> str:
    marks = {True: ("good", "\N{CHECK MARK}"), False: ("error", "\N{BALLOT X}")}
    kind, mark = marks.get(card.is_used, ("", "")) if card.is_used is not None else ("", "")
    caption = html.escape(f"{mark} {card.caption}".strip())
    text = f'<span class="beyondfacial-{kind}">{caption}</span>' if kind else caption
    cross = ""
    if card.remove:
        name = html.escape(f"Remove {card.caption}", quote=True)
        cross = (
            f'<button type="button" class="beyondfacial-remove" {action(card.remove)} '
            f'aria-label="{name}" title="Remove">\N{MULTIPLICATION SIGN}</button>'
        )
    tooltip = html.escape(card.tooltip or card.caption, quote=True)
    picture = '<div class="beyondfacial-no-picture">?</div>'
    if card.image is not None:
        picture = f'<img src="{data_url(card.image)}" alt="{html.escape(card.caption, quote=True)}">'
    return (
        f'<figure class="beyondfacial-card" title="{tooltip}">{picture}{cross}<figcaption>{text}</figcaption></figure>'
    )


def choices_html(cards: Sequence[Card], chosen: str) -> str:
    """Small cards to choose a saved identity from, by its caption."""
    buttons = [
        f'<button type="button" class="beyondfacial-card" {action(f"choose {card.caption}")} '
        f'aria-pressed="{str(card.caption == chosen).lower()}" title="{html.escape(card.tooltip, quote=True)}">'
        f'<img src="{data_url(card.image)}" alt=""><span>{html.escape(card.caption)}</span></button>'
        for card in cards
    ]
    if not buttons:
        return ""
    heading = '<div class="beyondfacial-panel beyondfacial-quiet">Saved identities; press one to use it.</div>'
    return f'{heading}<div class="beyondfacial-cards beyondfacial-saved">{"".join(buttons)}</div>'


def action_button(text: str, line: str) -> str:
    """A button inside HTML."""
    return f'<button type="button" class="beyondfacial-action" {action(line)}>{html.escape(text)}</button>'


def action(line: str) -> str:
    """The attribute that makes an element a button for the page's script."""
    return f'data-beyondfacial-action="{html.escape(line, quote=True)}"'


def data_url(picture: Any) -> str:
    """A picture (PIL, or RGB uint8) as a small JPEG inside the page."""
    image = Image.fromarray(picture) if isinstance(picture, np.ndarray) else picture.copy()
    image.thumbnail((SIDE, SIDE))
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
