"""The accordion, from top to bottom: what is missing, the person, the adapter, likeness, presets, the folds.

One component per field of settings.UI_FIELDS is handed to the host, in that order. gradio 3.41 and 4.40 alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from ..settings import BY_KEY, FOLDS, UI_FIELDS, Field
from . import face_check, folders, identities, identities_ui, listings, photos_ui, presets_ui, setup_ui
from .components import component, field_component, listing, no_ui_config, read_names
from .infotext import PASTED_FIELDS, missing_person, paste_key

try:
    from modules.ui_components import InputAccordion
except ImportError:
    InputAccordion = None

LISTED = {"adapter": listings.adapter_names, "face_pack": folders.packs_by_name}
PAIRS = (("weight", "refine_head"), ("start", "stop"), ("mask_strength", "mask_softness"))  # side by side


@dataclass
class ScriptUI:
    """What a script's ui() gives to the host: components in UI_FIELDS' order, and the tables for pasting infotexts."""

    components: list[Any]
    infotext_fields: list[tuple[Any, Any]]
    paste_field_names: list[str]


def build(is_img2img: bool) -> ScriptUI:
    """Build the accordion in the present gradio context; hosts call it again for the API's defaults."""
    tab = "img2img" if is_img2img else "txt2img"
    made: dict[str, Any] = {}
    accordion = _open_accordion(tab, made)
    with accordion:
        setup = _build_setup(tab)
        photos, manager = _build_person(tab, made)
        pasted = component(gr.HTML, tab, "pasted", value="")
        photos.zone.upload(fn=lambda: "", inputs=[], outputs=[pasted])
        made["adapter"], _ = listing(tab, BY_KEY["adapter"], listings.adapter_names)
        described = component(gr.HTML, tab, "described", value=listings.adapter_text("", "auto"))
        made |= _build_fields(tab, [field for field in UI_FIELDS if field.section == "main"])
        preset = presets_ui.build(tab)
        for fold, title in FOLDS.items():
            with component(gr.Accordion, tab, fold, label=title, open=False):
                made |= _build_fields(tab, [field for field in UI_FIELDS if field.section == fold])
    no_ui_config(getattr(made["enabled"], "accordion", accordion))

    _connect_person(made, photos, manager)
    _connect_setup(made, setup, described, manager)
    presets_ui.connect(made, preset)
    keys = [(made[field.key], paste_key(field)) for field in PASTED_FIELDS]
    names = [str(key) for _, key in keys]
    return ScriptUI([made[field.key] for field in UI_FIELDS], [*keys, (pasted, missing_person)], names)


def _build_setup(tab: str) -> tuple[Any, Any, Any]:
    """What is missing, with a button to look again; both are hidden when all is there."""
    missing = setup_ui.missing_html()
    with component(gr.Row, tab, "setup", visible=bool(missing), equal_height=False) as row:
        shown = component(gr.HTML, tab, "missing", value=missing)
        again = component(gr.Button, tab, "look_again", value="Look again", scale=0, min_width=110, size="sm")
    return row, shown, again


def _build_person(tab: str, made: dict[str, Any]) -> tuple[photos_ui.Photos, identities_ui.Manager]:
    """Who it is: photos beside saved identities, and below what is in use."""
    with component(gr.Row, tab, "person", equal_height=False):
        with component(gr.Column, tab, "column_photos", scale=3, min_width=220):
            references, zone = photos_ui.build_zone(tab)
        with component(gr.Column, tab, "column_identity", scale=3, min_width=220):
            made["identity"], refresh, opener = identities_ui.build_list(tab)
    made["references"] = references
    manager = identities_ui.build_rest(tab, made["identity"], refresh, opener)
    return photos_ui.build_shown(tab, references, zone), manager


def _build_fields(tab: str, fields: list[Field]) -> dict[str, Any]:
    """The components of some fields, those of PAIRS side by side."""
    made: dict[str, Any] = {}
    for field in fields:
        pair = next((pair for pair in PAIRS if field.key in pair), ())
        if pair and field.key == pair[0]:
            with component(gr.Row, tab, f"row_{field.key}"):
                made |= {key: field_component(tab, BY_KEY[key]) for key in pair}
        elif not pair:
            is_listed = field.key in LISTED
            made[field.key] = listing(tab, field, LISTED[field.key])[0] if is_listed else field_component(tab, field)
    return made


def _connect_person(made: dict[str, Any], photos: photos_ui.Photos, manager: identities_ui.Manager) -> None:
    check_inputs = [made[key] for key in face_check.INPUTS]
    photos.zone.upload(
        fn=photos_ui.append,
        inputs=[photos.zone, photos.references, made["identity"]],
        outputs=[photos.references, photos.zone, photos.shown, made["identity"]],
    )
    photos.action.change(
        fn=act,
        inputs=[photos.action, photos.references],
        outputs=[photos.references, photos.shown, made["identity"]],
        show_progress="hidden",
    )
    photos.check.click(fn=photos_ui.check, inputs=[*check_inputs, made["identity"]], outputs=[photos.shown])
    manager.connect(check_inputs, photos)


def act(line: str | None, uploads: Any) -> tuple[Any, Any, Any]:
    """What the page's script hands over: a card's button was pressed. Behind "#" stands what makes each line new."""
    text = (line or "").rsplit(" #", 1)[0]
    if text.startswith("choose"):
        name = text.removeprefix("choose").strip()
        return gr.update(), gr.update(), gr.update(value=name or BY_KEY["identity"].empty)
    if text.startswith("remove "):
        return *photos_ui.remove(text, uploads), gr.update()
    return gr.update(), gr.update(), gr.update()


def _connect_setup(
    made: dict[str, Any], setup: tuple[Any, ...], described: Any, manager: identities_ui.Manager
) -> None:
    """The page's script presses "Look again" when the accordion is first opened: the server's lists may be older."""
    row, shown, again = setup
    again.click(
        fn=look_again,
        inputs=[made["adapter"], made["adapter_family"], made["identity"]],
        outputs=[row, shown, described, made["adapter"], made["face_pack"], made["identity"], manager.saved],
        show_progress="hidden",
    )
    # Leaving the field counts, too: the answers to what is typed may come in another order.
    for event in (made["adapter"].change, made["adapter"].blur, made["adapter_family"].change):
        event(fn=listings.adapter_text, inputs=[made["adapter"], made["adapter_family"]], outputs=[described])


def look_again(adapter: str | None, family: str | None, identity: str | None) -> tuple[Any, ...]:
    """All that depends on files and on the loaded model, read again."""
    missing = setup_ui.missing_html()
    lists = {**LISTED, "identity": identities.names}
    return (
        gr.update(visible=bool(missing)),
        missing,
        listings.adapter_text(adapter, family),
        *(gr.update(choices=read_names(BY_KEY[key], lists[key])) for key in ("adapter", "face_pack", "identity")),
        identities_ui.saved_cards(identity),
    )


def _open_accordion(tab: str, made: dict[str, Any]) -> Any:
    """The host's accordion with a checkbox in its title; if the host has none, an accordion with a checkbox inside."""
    field = BY_KEY["enabled"]
    if InputAccordion is not None:
        made["enabled"] = no_ui_config(InputAccordion(False, label=field.label, elem_id=f"beyondfacial_{tab}"))
        return made["enabled"]
    accordion = no_ui_config(gr.Accordion(field.label, open=False, elem_id=f"beyondfacial_{tab}"))
    with accordion:
        made["enabled"] = component(gr.Checkbox, tab, "enabled", value=False, label="Enable")
    return accordion
