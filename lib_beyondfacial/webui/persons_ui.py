"""Who is to be in the picture: a tab for the person, and one for a second person.

Each tab has photos beside saved identities, and below what is in use. The names of the second tab's components begin
with PLACE; what the page asks about the first person alone stands where the settings are.
"""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import Any

import gradio as gr

from ..settings import BY_KEY, FOLDS, OF_SECOND, PAGE_PERSON_FIELDS
from . import face_check, identities_ui, photos_ui
from .components import component, field_component

SECOND = (
    'Leave this tab empty for one person. For two, name both in the prompt ("a man and a woman"); if they are mixed '
    f'up, give each its subject words or position (the first person\'s are in the fold "{FOLDS["face"]}").'
)


@dataclass
class PersonUI:
    """One person's components; prefix: of their keys in the page's table."""

    prefix: str
    photos: photos_ui.Photos
    manager: identities_ui.Manager

    def connect(self, made: dict[str, Any]) -> None:
        """Tie the components to their actions; made: the page's components by key."""
        identity, photos = made[f"{self.prefix}identity"], self.photos
        check_inputs = [made[self.prefix + key if key == "references" else key] for key in face_check.INPUTS]
        photos.zone.upload(
            fn=photos_ui.append,
            inputs=[photos.zone, photos.references, identity],
            outputs=[photos.references, photos.zone, photos.shown, identity],
        )
        photos.action.change(
            fn=act,
            inputs=[photos.action, photos.references],
            outputs=[photos.references, photos.shown, identity],
            show_progress="hidden",
        )
        photos.check.click(fn=photos_ui.check, inputs=[*check_inputs, identity], outputs=[photos.shown])
        self.manager.connect(check_inputs, photos)


def build(tab: str, made: dict[str, Any]) -> list[PersonUI]:
    """Both tabs; their components that are settings are added to `made` by key."""
    with component(gr.Tabs, tab, "persons"):
        with component(gr.Tab, tab, "tab_first", label="Person"):
            first = build_person(tab, "", made)
        with component(gr.Tab, tab, "tab_second", label="Second person"):
            place = f"{tab}_{OF_SECOND.strip('_')}"
            with component(gr.Column, place, "all", elem_classes=["beyondfacial-person"]):
                second = build_person(place, OF_SECOND, made)
                build_second(tab, made)
    return [first, second]


def build_person(place: str, prefix: str, made: dict[str, Any]) -> PersonUI:
    """Who one person is. place: of the elements' ids, the tab's name for the first person."""
    with component(gr.Row, place, "person", equal_height=False):
        with component(gr.Column, place, "column_photos", scale=3, min_width=220):
            references, zone = photos_ui.build_zone(place)
        with component(gr.Column, place, "column_identity", scale=3, min_width=220):
            identity, refresh, opener = identities_ui.build_list(place)
    made |= {f"{prefix}references": references, f"{prefix}identity": identity}
    manager = identities_ui.build_rest(place, identity, refresh, opener)
    return PersonUI(prefix, photos_ui.build_shown(place, references, zone), manager)


def build_second(tab: str, made: dict[str, Any]) -> None:
    """What else there is to say of the second person."""
    component(
        gr.HTML,
        tab,
        "second_note",
        value=f'<div class="beyondfacial-panel beyondfacial-quiet">{html.escape(SECOND)}</div>',
    )
    fields = [field for field in PAGE_PERSON_FIELDS if field.key.startswith(OF_SECOND) and field.key not in made]
    for pair in (fields[:2], fields[2:]):
        with component(gr.Row, tab, f"row_{pair[0].key}"):
            made |= {field.key: field_component(tab, field) for field in pair}


def act(line: str | None, uploads: Any) -> tuple[Any, Any, Any]:
    """What the page's script hands over: a card's button was pressed. Behind "#" stands what makes each line new."""
    text = (line or "").rsplit(" #", 1)[0]
    if text.startswith("choose"):
        name = text.removeprefix("choose").strip()
        return gr.update(), gr.update(), gr.update(value=name or BY_KEY["identity"].empty)
    if text.startswith("remove "):
        return *photos_ui.remove(text, uploads), gr.update()
    return gr.update(), gr.update(), gr.update()
