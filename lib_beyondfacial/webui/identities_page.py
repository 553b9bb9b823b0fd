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
from .components import complaint, listing, own, said
from .permissions import require_writes
from .previews import to_data_url

DELETE = "Delete the chosen one"


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

    def connect(self, references: Any, look: list[Any], status: Any, status_text: Callable[..., str]) -> None:
        """Tie the buttons to their actions; `look` are the components of face_check.INPUTS."""

        def choose(chosen: str | None, uploads: Any) -> tuple[Any, Any, Any, str]:
            """A saved identity takes the place of photos; one that is not there leaves them."""
            card, is_there = card_text(chosen or "")
            takes_over = is_there and bool(uploads)
            count = 0 if takes_over else len(uploads or ())
            photos = gr.update(value=None) if takes_over else gr.update()
            return card, photos, gr.update(value=DELETE), status_text(count, chosen or "")

        self.chosen.change(
            fn=choose, inputs=[self.chosen, references], outputs=[self.card, references, self.delete, status]
        )
        self.save.click(
            fn=save_photos,
            inputs=[self.name, self.keep_crops, self.overwrite, *look],
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
    card = own(gr.HTML, tab, "identity_card", value="")
    with own(gr.Accordion, tab, "manage", label="Save, rename or delete an identity", open=False):
        name = own(gr.Textbox, tab, "identity_name", value="", label="Name to save or rename to", max_lines=1)
        with own(gr.Row, tab, "row_identity_flags"):
            keep_crops = own(
                gr.Checkbox, tab, "keep_crops", value=False, label="Keep the face crops",
                info="Small cut-outs of the face, so that another face pack or FaceID-Plus can use it later.",
            )  # fmt: skip
            overwrite = own(
                gr.Checkbox, tab, "overwrite", value=False, label="Replace",
                info="If there is a saved identity of that name.",
            )  # fmt: skip
        with own(gr.Row, tab, "row_identity_buttons"):
            save = own(gr.Button, tab, "save_identity", value="Save the photos above")
            rename = own(gr.Button, tab, "rename_identity", value="Rename the chosen one")
            delete = own(gr.Button, tab, "delete_identity", value=DELETE)
        message = own(gr.HTML, tab, "identity_message", value="")
    return chosen, Manager(chosen, card, name, keep_crops, overwrite, save, rename, delete, message)


def card_text(name: str) -> tuple[str, bool]:
    """What is saved under the name, as HTML, and whether it is there."""
    if not name:
        return "", False
    try:
        entry = identities.entry_of(name)
    except Exception as error:
        return said(error), False
    if entry.sentence or entry.thumbnail is None:
        return complaint(entry.sentence), True
    crops = "face crops kept" if entry.has_crops else "no face crops"
    told = (
        f"{entry.photos} photo{'' if entry.photos == 1 else 's'}",
        f"saved {entry.created[:10]}",
        f"face pack {', '.join(entry.packs)}",
        crops,
    )
    picture = to_data_url(entry.thumbnail)
    image = f'<img src="{picture}" alt="" width="64" height="64" style="border-radius: 8px; margin: 0">'
    words = f"<b>{html.escape(entry.name)}</b><br>{html.escape('; '.join(told))}"
    return f'<div style="display: flex; gap: 12px; align-items: center">{image}<div>{words}</div></div>', True


def save_photos(name: str, keep_crops: bool, overwrite: bool, *look: Any) -> tuple[Any, Any, Any, str]:
    """Save the photos given under the name, and choose it."""
    try:
        require_writes()
        name = check_name(name.strip())
        settings = face_check.settings_of(*look)
        if not settings.references:
            raise BeyondFacialError("There are no photos to save; give at least one.")
        identity, warnings = person.identify(settings, is_api=False)
        identities.save(name, identity, keep_crops, overwrite)
    except Exception as error:
        return gr.update(), gr.update(), gr.update(), said(error)
    count = len(identity.names)
    told = f'Saved as "{name}" from {count} photo{"" if count == 1 else "s"}, and chosen.'
    lines = [html.escape(told), *map(complaint, warnings)]
    return _choices(name), gr.update(value=""), gr.update(value=False), "<br>".join(lines)


def rename_chosen(chosen: str | None, name: str) -> tuple[Any, Any, str]:
    """Give the chosen identity another name."""
    try:
        require_writes()
        identities.entry_of(chosen or "")
        name = check_name(name.strip())
        identities.rename(chosen or "", name)
    except Exception as error:
        return gr.update(), gr.update(), said(error)
    return _choices(name), gr.update(value=""), html.escape(f'"{chosen}" is now "{name}".')


def delete_chosen(chosen: str | None, label: str) -> tuple[Any, Any, str]:
    """The first click asks, by the button's own label; the second deletes."""
    question = f'Really delete "{chosen}"?'
    try:
        require_writes()
        identities.entry_of(chosen or "")
        if label != question:
            return gr.update(), gr.update(value=question), "Click again to delete it for good."
        identities.delete(chosen or "")
    except Exception as error:
        return gr.update(), gr.update(value=DELETE), said(error)
    return _choices(""), gr.update(value=DELETE), html.escape(f'"{chosen}" is deleted.')


def _choices(value: str) -> Any:
    return gr.update(choices=["", *identities.names()], value=value)
