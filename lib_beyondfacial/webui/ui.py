"""The accordion, from top to bottom: what is missing, the person, the adapter, likeness, presets, the folds.

One component per field of settings.UI_FIELDS is handed to the host, in that order. gradio 3.41 and 4.40 alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from ..settings import BY_KEY, FOLDS, PAGE_FIELDS, PAGE_PERSON_FIELDS, UI_FIELDS, Field
from . import folders, identities, identities_ui, listings, persons_ui, presets_ui, setup_ui
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
    """What a script's ui() gives to the host: components in PAGE_FIELDS' order, and the tables for infotexts."""

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
        persons = persons_ui.build(tab, made)
        pasted = component(gr.HTML, tab, "pasted", value="")
        made["adapter"], _ = listing(tab, BY_KEY["adapter"], listings.adapter_names)
        described = component(gr.HTML, tab, "described", value=listings.adapter_text("", "auto"))
        made |= _build_fields(tab, [field for field in UI_FIELDS if field.section == "main"])
        preset = presets_ui.build(tab)
        for fold, title in FOLDS.items():
            with component(gr.Accordion, tab, fold, label=title, open=False, elem_classes=["beyondfacial-fold"]):
                made |= _build_fields(tab, [field for field in UI_FIELDS if field.section == fold])
                if fold == "mask":
                    made |= _build_fields(tab, [field for field in UI_FIELDS if field.section == "compare"])
                if fold == "face":
                    made |= _build_fields(tab, [field for field in PAGE_PERSON_FIELDS if field.key not in made])
    no_ui_config(getattr(made["enabled"], "accordion", accordion))

    for each in persons:
        each.connect(made)
        each.photos.zone.upload(fn=lambda: "", inputs=[], outputs=[pasted])
    _connect_setup(made, setup, described, persons)
    presets_ui.connect(made, preset)
    keys = [(made[field.key], paste_key(field)) for field in PASTED_FIELDS]
    names = [str(key) for _, key in keys]
    return ScriptUI([made[field.key] for field in PAGE_FIELDS], [*keys, (pasted, missing_person)], names)


def _build_setup(tab: str) -> tuple[Any, Any, Any]:
    """What is missing, with a button to look again; both are hidden when all is there."""
    missing = setup_ui.missing_html()
    with component(gr.Row, tab, "setup", visible=bool(missing), equal_height=False) as row:
        shown = component(gr.HTML, tab, "missing", value=missing)
        again = component(gr.Button, tab, "look_again", value="Look again", scale=0, min_width=110, size="sm")
    return row, shown, again


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


def _connect_setup(
    made: dict[str, Any], setup: tuple[Any, ...], described: Any, persons: list[persons_ui.PersonUI]
) -> None:
    """The page's script presses "Look again" when the accordion is first opened: the server's lists may be older."""
    row, shown, again = setup
    again.click(
        fn=look_again,
        inputs=[made["adapter"], made["adapter_family"], *(each.manager.chosen for each in persons)],
        outputs=[
            *(row, shown, described, made["adapter"], made["face_pack"]),
            *(part for each in persons for part in (each.manager.chosen, each.manager.saved)),
        ],
        show_progress="hidden",
    )
    # Leaving the field counts, too: the answers to what is typed may come in another order.
    for event in (made["adapter"].change, made["adapter"].blur, made["adapter_family"].change):
        event(fn=listings.adapter_text, inputs=[made["adapter"], made["adapter_family"]], outputs=[described])


def look_again(adapter: str | None, family: str | None, *chosen: str | None) -> tuple[Any, ...]:
    """All that depends on files and on the loaded model, read again; chosen: the saved identity of each person."""
    missing = setup_ui.missing_html()
    names = gr.update(choices=read_names(BY_KEY["identity"], identities.names))
    return (
        gr.update(visible=bool(missing)),
        missing,
        listings.adapter_text(adapter, family),
        *(gr.update(choices=read_names(BY_KEY[key], LISTED[key])) for key in ("adapter", "face_pack")),
        *(part for each in chosen for part in (names, identities_ui.saved_cards(each))),
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
