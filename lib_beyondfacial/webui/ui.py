"""The accordion: one component per field of settings.FIELDS, in that order, on gradio 3.41 and 4.40 alike."""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import Any

import gradio as gr
from PIL import Image

from ..errors import BeyondFacialError
from ..faces import photos
from ..settings import BY_KEY, FIELDS, Field
from . import folders
from .failures import sentence_of
from .infotext import PASTED_FIELDS, paste_key

try:
    from modules.ui_components import InputAccordion
except ImportError:
    InputAccordion = None

LISTED = {"adapter": folders.adapters_by_name, "face_pack": folders.packs_by_name}
ROWS = (("weight", "idap_strength"), ("start", "stop"), ("mask_strength", "mask_softness"), ("show_mask",))
THUMBNAIL = 256
CONSENT = "Use only photos of people who agreed to it."


@dataclass
class Page:
    """What a script's ui() hands to the host: components in FIELDS' order and the tables for pasting infotexts."""

    components: list[Any]
    infotext_fields: list[tuple[Any, Any]]
    paste_field_names: list[str]


def build(is_img2img: bool) -> Page:
    """Build the accordion in the surrounding gradio context. Re-entrant: hosts call it again for API defaults."""
    tab = "img2img" if is_img2img else "txt2img"
    made: dict[str, Any] = {}
    accordion = _open_accordion(tab, made)
    with accordion:
        made["references"] = _component(tab, BY_KEY["references"])
        gallery = _own(gr.Gallery, tab, "previews", label="Photos given", columns=6, height=160, visible=False)
        status = _own(gr.HTML, tab, "status", value=_status_text(None))
        made["identity"] = _component(tab, BY_KEY["identity"])
        made["adapter"] = _listing(tab, BY_KEY["adapter"])
        for row in ROWS:
            with _own(gr.Row, tab, f"row_{row[0]}"):
                made |= {key: _component(tab, BY_KEY[key]) for key in row}
        with _own(gr.Accordion, tab, "advanced", label="Advanced", open=False):
            for field in FIELDS:
                if field.advanced:
                    made[field.key] = _listing(tab, field) if field.key in LISTED else _component(tab, field)
    _forgettable(getattr(made["enabled"], "accordion", accordion))
    made["references"].change(fn=look_at_photos, inputs=[made["references"]], outputs=[gallery, status])
    keys = [(made[field.key], paste_key(field)) for field in PASTED_FIELDS]
    return Page([made[field.key] for field in FIELDS], keys, [str(key) for _, key in keys])


def look_at_photos(uploads: Any) -> tuple[Any, str]:
    """Thumbnails of the uploads, and one line on them: what cannot be read as a photo is named at once."""
    thumbnails, bad = [], []
    for upload in uploads or ():
        try:
            photo = photos.decode_upload(upload)
            thumbnails.append((_thumbnail(photo), photo.name))
        except BeyondFacialError as error:
            bad.append(sentence_of(error))
    return gr.update(value=thumbnails, visible=bool(thumbnails)), _status_text(len(thumbnails), bad)


def names_of(key: str) -> tuple[list[str], str]:
    """The names to choose from for a listed field ("" first: choose for me), and a sentence if there are none."""
    try:
        names = sorted(LISTED[key]())
    except (OSError, BeyondFacialError) as error:
        return [""], sentence_of(error)
    return ["", *names], "" if names else f"None found for {BY_KEY[key].label.lower()}."


def _thumbnail(photo: photos.Photo) -> Any:
    image = Image.fromarray(photo.image)
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    return image


def _status_text(count: int | None, problems: list[str] | None = None) -> str:
    lines = [f"{count} photo{'' if count == 1 else 's'}." if count else "No photo yet.", *(problems or ()), CONSENT]
    return "<br>".join(html.escape(line) for line in lines)


def _open_accordion(tab: str, made: dict[str, Any]) -> Any:
    """The host's accordion that is a checkbox too; else a plain one with a checkbox in it."""
    field = BY_KEY["enabled"]
    if InputAccordion is not None:
        made["enabled"] = _forgettable(InputAccordion(False, label=field.label, elem_id=f"beyondfacial_{tab}"))
        return made["enabled"]
    accordion = _forgettable(gr.Accordion(field.label, open=False, elem_id=f"beyondfacial_{tab}"))
    with accordion:
        made["enabled"] = _own(gr.Checkbox, tab, "enabled", value=False, label="Enable")
    return accordion


def _listing(tab: str, field: Field) -> Any:
    """A dropdown of names with a button that reads the folders again; a name that is not listed may be typed."""
    names, sentence = names_of(field.key)
    with _own(gr.Row, tab, f"row_{field.key}", equal_height=False):
        dropdown = _own(
            gr.Dropdown, tab, field.key,
            choices=names, value="", label=field.label, info=field.help, allow_custom_value=True, scale=8,
        )  # fmt: skip
        refresh = _own(gr.Button, tab, f"refresh_{field.key}", value="Refresh", scale=1)
    missing = _own(gr.HTML, tab, f"missing_{field.key}", value=html.escape(sentence))

    def read_again() -> tuple[Any, str]:
        names, sentence = names_of(field.key)
        return gr.update(choices=names), html.escape(sentence)

    refresh.click(fn=read_again, inputs=[], outputs=[dropdown, missing])
    return dropdown


def _component(tab: str, field: Field) -> Any:
    common = {"label": field.label}
    if field.kind == "photos":
        return _own(gr.File, tab, field.key, file_count="multiple", file_types=["image"], **common)
    common["info"] = field.help
    if field.kind == "bool":
        return _own(gr.Checkbox, tab, field.key, value=field.default, **common)
    if field.kind == "choice":
        return _own(gr.Radio, tab, field.key, choices=list(field.choices), value=field.default, **common)
    if field.kind == "text":
        return _own(gr.Textbox, tab, field.key, value=field.default, **common)
    limits = {"minimum": field.minimum, "maximum": field.maximum, "step": field.step}
    return _own(gr.Slider, tab, field.key, value=field.default, **limits, **common)


def _own(kind: type, tab: str, name: str, **options: Any) -> Any:
    return _forgettable(kind(elem_id=f"beyondfacial_{tab}_{name}", **options))


def _forgettable(component: Any) -> Any:
    """Keep the host from writing the component's value into its ui-config.json, by label, for good."""
    component.do_not_save_to_config = True
    return component
