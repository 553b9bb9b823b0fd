"""Saved identities on the page: choose one, save the photos given as one, rename, delete."""

from __future__ import annotations

import html
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gradio as gr

from ..errors import BeyondFacialError
from ..faces.names import check_name
from ..settings import BY_KEY
from . import face_check, identities, person
from .components import NONE, chosen_name, component, error_html, exception_html, listing
from .permissions import require_writes

DELETE = "Delete chosen"
NONE_CHOSEN = "None chosen: the photos above are used."


@dataclass
class Manager:
    """The components around the dropdown of saved identities."""

    chosen: Any
    card: Any
    name: Any
    keep_crops: Any
    overwrite: Any
    save: Any
    rename: Any
    delete: Any
    message: Any

    def connect(
        self, check_values: list[Any], references: Any, gallery: Any, status: Any, status_text: Callable[..., str]
    ) -> None:
        """Tie the components to their actions; `look` are those of face_check.INPUTS."""

        def choose(chosen: str | None, uploads: Any) -> tuple[Any, ...]:
            """A saved identity takes the place of photos; one that is not there leaves them."""
            chosen = chosen_name(chosen)
            card, thumbnail = card_text(chosen)
            delete = gr.update(value=DELETE)
            if thumbnail is None:
                shown = gr.update() if uploads else gr.update(value=[])
                return card, gr.update(), shown, delete, status_text(len(uploads or ()), "")
            photos = gr.update(value=None) if uploads else gr.update()
            return card, photos, gr.update(value=[(thumbnail, chosen)]), delete, status_text(0, chosen)

        self.chosen.change(
            fn=choose,
            inputs=[self.chosen, references],
            outputs=[self.card, references, gallery, self.delete, status],
        )
        self.save.click(
            fn=save_photos,
            inputs=[self.name, self.keep_crops, self.overwrite, *check_values],
            outputs=[self.chosen, self.name, self.overwrite, self.message],
        )
        self.rename.click(
            fn=rename_chosen, inputs=[self.chosen, self.name], outputs=[self.chosen, self.name, self.message]
        )
        self.delete.click(
            fn=delete_chosen, inputs=[self.chosen, self.delete], outputs=[self.chosen, self.delete, self.message]
        )


def build(tab: str) -> tuple[Any, Manager]:
    """The dropdown of saved identities and, folded away, what changes them."""
    chosen = listing(tab, BY_KEY["identity"], identities.names, "")
    card = component(gr.HTML, tab, "identity_card", value=NONE_CHOSEN)
    with component(gr.Accordion, tab, "manage", label="Save, rename or delete an identity", open=False):
        name = component(gr.Textbox, tab, "identity_name", value="", label="Name to save or rename to", max_lines=1)
        with component(gr.Row, tab, "row_identity_flags"):
            keep_crops = component(
                gr.Checkbox, tab, "keep_crops", value=False, label="Keep the face crops",
                info="Small cut-outs of the face, so that another face pack or FaceID-Plus can use it later.",
            )  # fmt: skip
            overwrite = component(
                gr.Checkbox, tab, "overwrite", value=False, label="Replace",
                info="If there is a saved identity of that name.",
            )  # fmt: skip
        with component(gr.Row, tab, "row_identity_buttons"):
            save = component(gr.Button, tab, "save_identity", value="Save photos", size="sm")
            rename = component(gr.Button, tab, "rename_identity", value="Rename chosen", size="sm")
            delete = component(gr.Button, tab, "delete_identity", value=DELETE, size="sm")
        message = component(gr.HTML, tab, "identity_message", value="")
    return chosen, Manager(chosen, card, name, keep_crops, overwrite, save, rename, delete, message)


def card_text(name: str) -> tuple[str, Any]:
    """What is saved under the name, as HTML, and its thumbnail; None where it cannot be used."""
    if not name:
        return NONE_CHOSEN, None
    try:
        entry = identities.entry_of(name)
    except Exception as error:
        return exception_html(error), None
    if entry.sentence:
        return error_html(entry.sentence), None
    text = (
        f"From {entry.photos} photo{'' if entry.photos == 1 else 's'}",
        f"saved {entry.created[:10]}",
        f"face pack {', '.join(entry.packs)}",
        f"face crops {'kept' if entry.has_crops else 'not kept'}.",
    )
    return html.escape("; ".join(text)), entry.thumbnail


def save_photos(name: str, keep_crops: bool, overwrite: bool, *check_values: Any) -> tuple[Any, Any, Any, str]:
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
        return gr.update(), gr.update(), gr.update(), exception_html(error)
    count = len(identity.names)
    text = f'Saved as "{name}" from {count} photo{"" if count == 1 else "s"}; it can be chosen above.'
    lines = [html.escape(text), *map(error_html, warnings)]
    return _choices(), gr.update(value=""), gr.update(value=False), "<br>".join(lines)


def rename_chosen(chosen: str | None, name: str) -> tuple[Any, Any, str]:
    """Give the chosen identity another name."""
    try:
        require_writes()
        identities.entry_of(chosen_name(chosen))
        name = check_name(name.strip())
        identities.rename(chosen_name(chosen), name)
    except Exception as error:
        return gr.update(), gr.update(), exception_html(error)
    return _choices(value=name), gr.update(value=""), html.escape(f'"{chosen}" is now "{name}".')


def delete_chosen(chosen: str | None, label: str) -> tuple[Any, Any, str]:
    """The first click asks, by the button's own label; the second deletes."""
    question = f'Really delete "{chosen}"?'
    try:
        require_writes()
        identities.entry_of(chosen_name(chosen))
        if label != question:
            return gr.update(), gr.update(value=question), "Click again to delete it for good."
        identities.delete(chosen_name(chosen))
    except Exception as error:
        return gr.update(), gr.update(value=DELETE), exception_html(error)
    return _choices(value=""), gr.update(value=DELETE), html.escape(f'"{chosen}" is deleted.')


def _choices(**value: str) -> Any:
    return gr.update(choices=[NONE, *identities.names()], **value)
