"""Saved identities in the UI: choose, save the photos as a new one, rename, delete."""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import Any

import gradio as gr

from ..errors import BeyondFacialError
from ..faces.names import check_name
from ..settings import BY_KEY, NONE
from . import face_check, identities, person
from .cards import Card, choices_html
from .components import chosen_name, component, error_html, exception_html, listing
from .permissions import require_writes
from .photos_ui import Photos, show_photos, show_saved

DELETE = "Delete chosen"
SHOWN = 24  # saved identities shown as cards; the list has them all


@dataclass
class Manager:
    """The components around the dropdown of saved identities."""

    chosen: Any
    refresh: Any
    saved: Any
    open: Any
    row: Any
    name: Any
    keep_crops: Any
    overwrite: Any
    save: Any
    rename: Any
    delete: Any
    close: Any
    message: Any

    def connect(self, check_values: list[Any], photos: Photos) -> None:
        """Tie the components to their actions; check_values: the components of face_check.INPUTS."""
        self.chosen.change(
            fn=choose,
            inputs=[self.chosen, photos.references],
            outputs=[photos.shown, photos.references, self.delete, self.saved],
        )
        self.save.click(
            fn=save_photos,
            inputs=[self.name, self.keep_crops, self.overwrite, *check_values],
            outputs=[self.chosen, self.name, self.overwrite, self.saved, self.message],
        )
        self.rename.click(
            fn=rename_chosen,
            inputs=[self.chosen, self.name],
            outputs=[self.chosen, self.name, self.saved, self.message],
        )
        self.delete.click(
            fn=delete_chosen,
            inputs=[self.chosen, self.delete],
            outputs=[self.chosen, self.delete, self.saved, self.message],
        )
        self.refresh.click(fn=saved_cards, inputs=[self.chosen], outputs=[self.saved], show_progress="hidden")
        for button, is_open in ((self.open, True), (self.close, False)):
            button.click(
                fn=lambda is_open=is_open: (gr.update(visible=is_open), ""),
                inputs=[],
                outputs=[self.row, self.message],
                show_progress="hidden",
            )


def build_list(tab: str) -> tuple[Any, Any, Any]:
    """The dropdown of saved identities, its refresh button, and the button that opens what changes them."""
    chosen, refresh = listing(tab, BY_KEY["identity"], identities.names)
    opener = component(gr.Button, tab, "manage", value="Save, rename, delete", size="sm")
    return chosen, refresh, opener


def build_rest(tab: str, chosen: Any, refresh: Any, opener: Any) -> Manager:
    """The saved identities as cards and, hidden at first, what changes them."""
    saved = component(gr.HTML, tab, "saved", value="")
    with component(gr.Column, tab, "manager", visible=False) as row:
        with component(gr.Row, tab, "row_identity_name"):
            name = component(
                gr.Textbox, tab, "identity_name", value="", label="Name", max_lines=1, min_width=120,
                info="To save the photos as, or to rename the chosen identity to.",
            )  # fmt: skip
            keep_crops = component(
                gr.Checkbox, tab, "keep_crops", value=False, label="Keep the face crops", min_width=120,
                info="So that another face pack or FaceID-Plus can use it later.",
            )  # fmt: skip
            overwrite = component(
                gr.Checkbox, tab, "overwrite", value=False, label="Replace", min_width=80,
                info="A saved one of that name.",
            )  # fmt: skip
        with component(gr.Row, tab, "row_identity_buttons"):
            save = component(gr.Button, tab, "save_identity", value="Save photos", size="sm", min_width=80)
            rename = component(gr.Button, tab, "rename_identity", value="Rename chosen", size="sm", min_width=80)
            delete = component(gr.Button, tab, "delete_identity", value=DELETE, size="sm", min_width=80)
            close = component(gr.Button, tab, "close_manager", value="Close", size="sm", min_width=60)
        message = component(gr.HTML, tab, "identity_message", value="")
    return Manager(
        chosen, refresh, saved, opener, row, name, keep_crops, overwrite, save, rename, delete, close, message
    )


def choose(chosen: str | None, uploads: Any) -> tuple[Any, ...]:
    """A saved identity takes the place of photos; one that is not there leaves them."""
    name, delete = chosen_name(chosen), gr.update(value=DELETE)
    if not name:
        shown = gr.update() if uploads else show_photos(())
        return shown, gr.update(), delete, saved_cards(NONE)
    if uploads and (problem := problem_of(name)):
        return show_photos(uploads, problem), gr.update(), delete, saved_cards(NONE)
    return show_saved(name), gr.update(value=None) if uploads else gr.update(), delete, saved_cards(chosen)


def problem_of(name: str) -> str:
    """Why a saved identity cannot be used; "" where it can."""
    try:
        return identities.entry_of(name).sentence
    except BeyondFacialError as error:
        return str(error)


def saved_cards(chosen: str | None) -> str:
    """The first of the saved identities to choose from, by their thumbnails."""
    cards = []
    try:
        for name in identities.names()[:SHOWN]:
            entry = identities.entry_of(name)
            if entry.thumbnail is not None and not entry.sentence:
                cards.append(Card(entry.thumbnail, name, f"{name}, saved {entry.created[:10]}"))
    except (OSError, BeyondFacialError):  # the list tells of it
        pass
    return choices_html(cards, chosen_name(chosen))


def save_photos(name: str, keep_crops: bool, overwrite: bool, *check_values: Any) -> tuple[Any, ...]:
    """Save the photos given under the name. They stay in use."""
    try:
        require_writes()
        name = check_name(name.strip())
        settings = face_check.settings_of(*check_values)
        if not settings.references:
            raise BeyondFacialError("There are no photos to save; give at least one.")
        identity, warnings = person.identify(settings, is_api=False)
        identities.save(name, identity, keep_crops, overwrite)
    except Exception as error:
        return *(gr.update(),) * 4, exception_html(error)
    count = len(identity.names)
    text = f'Saved as "{name}" from {count} photo{"" if count == 1 else "s"}; it can be chosen from now on.'
    lines = [html.escape(text), *map(error_html, warnings)]
    return _choices(), gr.update(value=""), gr.update(value=False), saved_cards(NONE), "<br>".join(lines)


def rename_chosen(chosen: str | None, name: str) -> tuple[Any, ...]:
    """Give the chosen identity another name."""
    try:
        require_writes()
        identities.entry_of(chosen_name(chosen))
        name = check_name(name.strip())
        identities.rename(chosen_name(chosen), name)
    except Exception as error:
        return *(gr.update(),) * 3, exception_html(error)
    return _choices(value=name), gr.update(value=""), saved_cards(name), html.escape(f'"{chosen}" is now "{name}".')


def delete_chosen(chosen: str | None, label: str) -> tuple[Any, ...]:
    """The first click asks, by the button's own label; the second deletes."""
    question = f'Really delete "{chosen}"?'
    try:
        require_writes()
        identities.entry_of(chosen_name(chosen))
        if label != question:
            return gr.update(), gr.update(value=question), gr.update(), "Click again to delete it for good."
        identities.delete(chosen_name(chosen))
    except Exception as error:
        return gr.update(), gr.update(value=DELETE), gr.update(), exception_html(error)
    return _choices(value=NONE), gr.update(value=DELETE), saved_cards(NONE), html.escape(f'"{chosen}" is deleted.')


def _choices(**value: str) -> Any:
    return gr.update(choices=[NONE, *identities.names()], **value)
