"""The accordion, from top to bottom: photos, face check, saved identities, adapter, sliders, the two folds.

One component per field of settings.FIELDS is handed to the host, in that order. gradio 3.41 and 4.40 alike.
"""

from __future__ import annotations

import functools
import html
from dataclasses import dataclass
from typing import Any

import gradio as gr
from PIL import Image

from ..errors import BeyondFacialError
from ..faces import photos
from ..settings import BY_KEY, FIELDS, FOLDS, PRESETS, Field, preset_values
from . import face_check, folders, identities_ui, listings
from .components import chosen_name, component, error_html, field_component, listing, no_ui_config
from .failures import sentence_of
from .infotext import PASTED_FIELDS, paste_key

try:
    from modules.ui_components import InputAccordion
except ImportError:
    InputAccordion = None

ROWS = (
    ("weight", "idap_strength"),
    ("start", "stop"),
    ("mask_strength", "mask_softness"),
    ("refine_head", "show_mask"),
)
LISTED = {
    "adapter": (folders.adapters_by_name, listings.NO_ADAPTER),
    "face_pack": (folders.packs_by_name, listings.NO_PACK),
}
THUMBNAIL = 256
THUMBNAIL_PIXELS = 1_000_000  # of a photo that is only shown
CONSENT = "Use only photos of people who agreed to it."


@dataclass
class ScriptUI:
    """What a script's ui() hands to the host: components in FIELDS' order and the tables for pasting infotexts."""

    components: list[Any]
    infotext_fields: list[tuple[Any, Any]]
    paste_field_names: list[str]


def build(is_img2img: bool) -> ScriptUI:
    """Build the accordion in the surrounding gradio context. Re-entrant: hosts call it again for API defaults."""
    tab = "img2img" if is_img2img else "txt2img"
    made: dict[str, Any] = {}
    accordion = _open_accordion(tab, made)
    with accordion:
        made["references"] = field_component(tab, BY_KEY["references"])
        with component(gr.Row, tab, "row_status", equal_height=False):
            status = component(gr.HTML, tab, "status", value=status_text(0, ""))
            check = component(gr.Button, tab, "check", value="Check faces", scale=0, min_width=140, size="sm")
        gallery = component(gr.Gallery, tab, "previews", label="Person in use", columns=6, height=160)
        checked = component(gr.HTML, tab, "checked", value=face_check.HINT)
        made["identity"], manager = identities_ui.build(tab)
        made["adapter"] = _component(tab, BY_KEY["adapter"])
        described = component(gr.HTML, tab, "described", value=listings.adapter_text("", "auto"))
        for row in ROWS:
            with component(gr.Row, tab, f"row_{row[0]}"):
                made |= {key: field_component(tab, BY_KEY[key]) for key in row}
        with component(gr.Row, tab, "row_presets"):
            presets = [
                component(gr.Button, tab, f"preset_{n}", value=name, size="sm") for n, name in enumerate(PRESETS)
            ]
        for fold in FOLDS:
            with component(gr.Accordion, tab, fold, label=fold.capitalize(), open=False):
                made |= {field.key: _component(tab, field) for field in FIELDS if field.section == fold}
    no_ui_config(getattr(made["enabled"], "accordion", accordion))

    check_inputs = [made[key] for key in face_check.INPUTS]
    made["references"].change(
        fn=show_photos,
        inputs=[made["references"], made["identity"]],
        outputs=[gallery, status, checked, made["identity"]],
    )
    check.click(fn=face_check.show, inputs=[*check_inputs, made["identity"]], outputs=[gallery, checked])
    manager.connect(check_inputs, made["references"], gallery, status, status_text)
    # Leaving the field counts, too: the answers to what is typed may come in another order.
    for event in (made["adapter"].change, made["adapter"].blur, made["adapter_family"].change):
        event(fn=listings.adapter_text, inputs=[made["adapter"], made["adapter_family"]], outputs=[described])
    for button, name in zip(presets, PRESETS, strict=True):
        values = preset_values(name)
        button.click(functools.partial(preset_updates, name), inputs=[], outputs=[made[key] for key in values])
    keys = [(made[field.key], paste_key(field)) for field in PASTED_FIELDS]
    return ScriptUI([made[field.key] for field in FIELDS], keys, [str(key) for _, key in keys])


def preset_updates(name: str) -> list[Any]:
    """A preset's values for the components of preset_values(name), in that order."""
    return [gr.update(value=value) for value in preset_values(name).values()]


def show_photos(uploads: Any, identity: str | None) -> tuple[Any, str, str, Any]:
    """Thumbnails of the uploads, and one line on them: what cannot be read as a photo is named at once.

    Photos given take the place of a saved identity, and of what was checked before.
    """
    identity = chosen_name(identity)
    if not uploads:
        shown = gr.update() if identity else gr.update(value=[])
        return shown, status_text(0, identity), face_check.HINT, gr.update()
    thumbnails, bad = [], []
    for upload in uploads:
        try:
            photo = photos.decode_upload(upload, pixels=THUMBNAIL_PIXELS)
            thumbnails.append((_thumbnail(photo), photo.name))
        except BeyondFacialError as error:
            bad.append(sentence_of(error))
    status = status_text(len(thumbnails), "", bad)
    return gr.update(value=thumbnails), status, face_check.HINT, gr.update(value="")


def status_text(count: int, identity: str, problems: list[str] | None = None) -> str:
    """Who is in use, as HTML; the page's script reads `data-beyondfacial` into the accordion's title."""
    person = (
        f"{count} photo{'' if count == 1 else 's'}" if count else f'saved identity "{identity}"' if identity else ""
    )
    shown_name = html.escape(identity if identity and not count else person, quote=True)
    line = html.escape(f"{person[:1].upper()}{person[1:]}." if person else "No photo yet.")
    lines = [
        f'<span data-beyondfacial="{shown_name}">{line}</span>',
        *map(error_html, problems or ()),
        html.escape(CONSENT),
    ]
    return "<br>".join(lines)


def _thumbnail(photo: photos.Photo) -> Any:
    image = Image.fromarray(photo.image)
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    return image


def _component(tab: str, field: Field) -> Any:
    return listing(tab, field, *LISTED[field.key]) if field.key in LISTED else field_component(tab, field)


def _open_accordion(tab: str, made: dict[str, Any]) -> Any:
    """The host's accordion that is a checkbox too; else a plain one with a checkbox in it."""
    field = BY_KEY["enabled"]
    if InputAccordion is not None:
        made["enabled"] = no_ui_config(InputAccordion(False, label=field.label, elem_id=f"beyondfacial_{tab}"))
        return made["enabled"]
    accordion = no_ui_config(gr.Accordion(field.label, open=False, elem_id=f"beyondfacial_{tab}"))
    with accordion:
        made["enabled"] = component(gr.Checkbox, tab, "enabled", value=False, label="Enable")
    return accordion
