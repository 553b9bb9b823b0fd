"""The person's photos on the page: dropped one after the other, shown as cards, checked, taken out again.

The list itself is a File component that nobody sees; a second one is where photos are dropped, and is empty again at
once. One HTML shows who is in use. Its data attributes are for javascript/beyondfacial.js: the accordion's title, the
key of the list that is shown, and whether it is to be checked.
"""

from __future__ import annotations

import html
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from ..errors import BeyondFacialError
from ..faces import photos
from ..faces.checks import PhotoCheck, draw_check
from ..faces.reports import in_words
from ..settings import BY_KEY, MAX_REFERENCES
from . import face_check, host_settings, identities
from .cards import Card, action_button, cards_html
from .components import HIDDEN_CLASS, chosen_name, component, error_html, exception_html, field_component
from .failures import sentence_of

THUMBNAIL_PIXELS = 1_000_000  # of a photo that is only shown
NOBODY = "Nobody yet: drop photos of one person, who agreed to it, or choose a saved identity."
USE = "Use the picture shown as a photo"
STOPS = "remove it, or nothing can be generated."


@dataclass
class Photos:
    """The components: the list, the zone, what is shown, the script's lines, the button of the check."""

    references: Any
    zone: Any
    shown: Any
    action: Any
    check: Any


def build_zone(tab: str) -> tuple[Any, Any]:
    """The hidden list of photos, and the zone that they are dropped on."""
    references = field_component(tab, BY_KEY["references"])
    zone = component(
        gr.File, tab, "add_photos", label=f"Photos of one person (1 to {MAX_REFERENCES})", file_count="multiple",
        file_types=["image"], height=114, interactive=True, elem_classes=["beyondfacial-drop"],
    )  # fmt: skip
    return references, zone


def build_shown(tab: str, references: Any, zone: Any) -> Photos:
    """Who is in use, and what its buttons do: the check is pressed by the page's script, too."""
    shown = component(gr.HTML, tab, "photos", value=panel("", NOBODY))
    check = component(gr.Button, tab, "check", value="Check faces", elem_classes=[HIDDEN_CLASS])
    action = component(gr.Textbox, tab, "action", value="", show_label=False, elem_classes=[HIDDEN_CLASS])
    return Photos(references, zone, shown, action, check)


def append(new: Any, given: Any, identity: str | None) -> tuple[Any, ...]:
    """What was dropped, behind what was there; it takes the place of a saved identity.

    Returns the list, the empty zone, what is shown, and the identity.
    """
    paths = list(dict.fromkeys(map(path_of, [*(given or ()), *(new or ())])))
    extra = len(paths) - MAX_REFERENCES
    problem = f"{MAX_REFERENCES} photos are the most; left out: {extra}." if extra > 0 else ""
    paths = paths[:MAX_REFERENCES]
    none = gr.update(value=BY_KEY["identity"].empty) if chosen_name(identity) else gr.update()
    return gr.update(value=paths), gr.update(value=None), show_photos(paths, problem), none


def remove(line: str, given: Any) -> tuple[Any, Any]:
    """What an action "remove KEY 0 2" leaves: the list, and what is shown. One about another list does nothing."""
    key, *places = line.split()[1:]
    paths = [path_of(each) for each in given or ()]
    if key != key_of(paths):
        return gr.update(), gr.update()
    paths = [path for i, path in enumerate(paths) if str(i) not in places]
    return gr.update(value=paths or None), show_photos(paths)


def path_of(upload: Any) -> str:
    """Where gradio has put an upload: gradio 3 hands over a file, gradio 4 its path."""
    return str(getattr(upload, "name", upload))


def key_of(uploads: Sequence[Any]) -> str:
    """Tells lists of photos apart; "" for none."""
    return f"{zlib.crc32(chr(0).join(map(path_of, uploads)).encode()):08x}" if uploads else ""


def show_photos(uploads: Sequence[Any], problem: str = "") -> str:
    """The photos as they are, unchecked; what cannot be read as one is named at once.

    With a problem they are not checked by themselves: the check's answer would take its place.
    """
    if not uploads:
        return panel("", NOBODY)
    cards, lines = unchecked_cards(uploads)
    bad = [error_html(problem)] if problem else []
    person, key = count_of(len(uploads) - len(lines)), key_of(uploads)
    return panel(person, "", cards, [*bad, *lines], key, checks_itself=not problem)


def check(*values: Any) -> str:
    """Who is in use, with what a run would make of each photo.

    Args:
        values: of face_check.INPUTS, and behind them the saved identity: without photos it is what is shown.
    """
    uploads, key = values[0] or (), key_of(values[0] or ())
    try:
        settings = face_check.settings_of(*values[: len(face_check.INPUTS)])
        saved = chosen_name(*values[len(face_check.INPUTS) :] or ("",))
        if not uploads:
            return show_saved(saved)
        readable, refused, bad = read_uploads(settings.references)
        if not readable:
            return panel("", "", list(refused.values()), bad, key, is_checked=True)
        checked = face_check.run_check(settings, list(readable.values()))
    except Exception as error:
        cards, lines = unchecked_cards(uploads)
        lines = [*lines, exception_html(error)]
        return panel(count_of(len(uploads)), "", cards, lines, key, is_checked=True)
    marked = list(zip(checked.photos, checked.checks, readable, strict=True))
    cards_at = {i: card_of(photo, each, checked.pack, f"remove {key} {i}") for photo, each, i in marked} | refused
    cards = [cards_at[i] for i in range(len(uploads))]
    used = sum(each.used for each in checked.checks)
    unusable = [str(i) for i, card in enumerate(cards) if not card.is_used]
    lines = [*bad, *problem_lines(checked)]
    if unusable and used:
        text = "Remove the one that cannot be used" if len(unusable) == 1 else f"Remove the {len(unusable)} unusable"
        lines.append(action_button(text, f"remove {key} {' '.join(unusable)}"))
    return panel(count_of(len(marked)), total(used, len(uploads)), cards, lines, key, is_checked=True)


def unchecked_cards(uploads: Sequence[Any]) -> tuple[list[Card], list[str]]:
    """A card for each photo, and a line of HTML for each that cannot be read."""
    key = key_of(uploads)
    readable, cards, lines = read_uploads(uploads, THUMBNAIL_PIXELS)
    for i, photo in readable.items():
        cards[i] = Card(photo.image, photo.name, remove=f"remove {key} {i}")
    return [cards[i] for i in range(len(uploads))], lines


def read_uploads(
    uploads: Sequence[Any], pixels: int = 0
) -> tuple[dict[int, photos.Photo], dict[int, Card], list[str]]:
    """By their places in the list the photos that can be read, and cards of the others, with a line of HTML for each.

    pixels: to which each is shrunk; 0: as much as a run keeps.
    """
    readable, refused, lines, key = {}, {}, [], key_of(uploads)
    for i, upload in enumerate(uploads):
        try:
            readable[i] = photos.decode_upload(upload, pixels=pixels or photos.pixels_each(len(uploads)))
        except BeyondFacialError as error:
            name = Path(str(getattr(upload, "orig_name", None) or path_of(upload))).name
            refused[i] = Card(None, f"{name}: cannot be read", is_used=False, remove=f"remove {key} {i}")
            sentence = sentence_of(error).removesuffix(".")
            cause = sentence.rpartition("; ")[0] or sentence
            lines.append(error_html(f"{cause}; {STOPS}"))
    return readable, refused, lines


def card_of(photo: photos.Photo, each: PhotoCheck, pack: str, remove: str) -> Card:
    """A checked photo: words in the caption, numbers in the tooltip."""
    facts = [f"{len(each.faces)} face{'' if len(each.faces) == 1 else 's'}"]
    facts += [f"detection score {face.score:.2f}" for face in each.faces if face.chosen]
    if each.agreement is not None:
        facts.append(f"agreement with the others {each.agreement:.2f}")
    if each.faces:
        facts.append(f"found at {each.detector_size} px{' with a border' if each.padded else ''}")
    shown_text = f"{each.name}: {verdict(each, pack)}"
    return Card(draw_check(photo, each), shown_text, f"{shown_text} ({', '.join(facts)})", each.used, remove)


def verdict(each: PhotoCheck, pack: str) -> str:
    """What becomes of a photo, in a few words."""
    if not each.used:
        return "not used" if each.faces else "no face found"
    if each.agreement is None:
        return "can be used"
    return {"same person": "fits the others well", "": "fits the others"}.get(
        in_words(each.agreement, pack), "fits the others a little"
    )


def problem_lines(checked: face_check.FaceCheck) -> list[str]:
    """Why photos cannot be used, as errors; what is only to be known, as it is."""
    notes = {each.note for each in checked.checks if each.note}
    sentences = dict.fromkeys(each for each in (checked.problem, *checked.warnings) if each)
    return [html.escape(each) if each in notes else error_html(each) for each in sentences]


def show_saved(name: str, problem: str = "") -> str:
    """The saved identity in place of photos, which were checked when it was saved."""
    if not name:
        return panel("", NOBODY, lines=[error_html(problem)] if problem else [])
    try:
        entry = identities.entry_of(name)
        if entry.sentence:
            return panel("", "", lines=[error_html(entry.sentence)])
    except Exception as error:
        return panel("", "", lines=[exception_html(error)])
    text = (
        f"From {entry.photos} photo{'' if entry.photos == 1 else 's'}",
        f"saved {entry.created[:10]}",
        f"face pack {', '.join(entry.packs)}",
        f"face crops {'kept' if entry.has_crops else 'not kept'}.",
    )
    cards = [] if entry.thumbnail is None else [Card(entry.thumbnail, name, remove="choose ")]
    return panel(name, f'Saved identity "{name}". {"; ".join(text)}', cards)


def panel(  # noqa: PLR0913
    person: str,
    text: str,
    cards: Sequence[Card] = (),
    lines: Sequence[str] = (),
    key: str = "",
    is_checked: bool = False,
    checks_itself: bool = True,
) -> str:
    """What the HTML shows. person: for the accordion's title; lines: of HTML, below the cards."""
    is_wanted = bool(key) and checks_itself and host_settings.checks_by_itself()
    state = "checked" if is_checked else "wanted" if is_wanted else ""
    attributes = f'data-beyondfacial="{html.escape(person, quote=True)}" data-key="{key}" data-check="{state}"'
    quiet = '<span class="beyondfacial-quiet">' + html.escape(text) + "</span>" if not cards else html.escape(text)
    again = action_button("Check again" if is_checked else "Check faces", "check") if key else ""
    use = f'<span class="beyondfacial-use" hidden>{action_button(USE, "use")}</span>'  # shown where there is a picture
    shown_text = "<br>".join(filter(None, (f"{quiet} {again} {use}", *lines)))
    return f'<div class="beyondfacial-panel" {attributes}>{cards_html(cards)}{shown_text}</div>'


def count_of(number: int) -> str:
    return f"{number} photo{'' if number == 1 else 's'}" if number else ""


def total(used: int, of: int) -> str:
    if used == of:
        return "The photo can be used." if of == 1 else f"All {of} photos can be used."
    return f"{used} of {of} photos can be used." if used else ""
