"""The dropdown of presets, what the chosen one changes, and the row in which one of the user's own is saved."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Any

import gradio as gr

from ..errors import BeyondFacialError
from ..settings import METHOD_DEFAULTS, PRESETS, MethodParameters
from ..settings.cost import cost_in_words
from . import presets
from .components import component, error_html, exception_html

SAVE, REPLACE = "Save these values", "Replace it"


def build(tab: str) -> tuple[Any, ...]:
    """The dropdown, its note, the button that opens the row, the row, the name, and the row's three buttons."""
    with component(gr.Row, tab, "row_preset"):
        chosen = component(
            gr.Dropdown, tab, "preset", choices=preset_names(), value=next(iter(PRESETS)), label="Preset",
            scale=8, min_width=120,
        )  # fmt: skip
        open_row = component(
            gr.Button, tab, "own_preset", value="Save, delete", scale=0, min_width=110, size="sm",
            elem_classes=["beyondfacial-beside"],
        )  # fmt: skip
    note = component(gr.HTML, tab, "preset_note", value=note_html({}))
    with component(gr.Row, tab, "row_own_preset", visible=False) as row:
        name = component(
            gr.Textbox, tab, "preset_name", value="", label="Name of your preset", max_lines=1, scale=4, min_width=120
        )
        save = component(gr.Button, tab, "save_preset", value=SAVE, size="sm", min_width=80)
        delete = component(gr.Button, tab, "delete_preset", value="Delete it", size="sm", min_width=80)
        close = component(gr.Button, tab, "close_preset", value="Close", size="sm", min_width=60)
    return chosen, note, open_row, row, name, save, delete, close


def connect(made: Mapping[str, Any], parts: tuple[Any, ...]) -> None:
    """made: the page's components by setting."""
    chosen, note, open_row, row, name, save, delete, close = parts
    values = [made[key] for key in METHOD_DEFAULTS]
    chosen.input(fn=apply, inputs=[chosen], outputs=[*values, note])
    for each in values:
        each.change(fn=recognise, inputs=values, outputs=[chosen, note], show_progress="hidden", queue=False)
    open_row.click(fn=open_with, inputs=[chosen], outputs=[row, name], show_progress="hidden")
    close.click(fn=lambda: gr.update(visible=False), inputs=[], outputs=[row], show_progress="hidden")
    save.click(fn=save_values, inputs=[name, save, *values], outputs=[chosen, note, row, save])
    name.change(fn=lambda: gr.update(value=SAVE), inputs=[], outputs=[save], show_progress="hidden", queue=False)
    delete.click(fn=delete_named, inputs=[name, *values], outputs=[chosen, note, row])


def preset_names() -> list[str]:
    try:
        return [*presets.all_presets(), presets.CUSTOM]
    except BeyondFacialError:
        return [*PRESETS, presets.CUSTOM]


def note_html(changes: Mapping[str, Any]) -> str:
    costs = cost_in_words(MethodParameters(**{**METHOD_DEFAULTS, **changes}))
    text = html.escape(f"{presets.in_words(changes)} {costs}".strip())
    return f'<div class="beyondfacial-panel beyondfacial-quiet">{text}</div>'


def apply(name: str | None) -> list[Any]:
    """A preset's values for the components, in METHOD_DEFAULTS' order, and what it changes. CUSTOM changes nothing."""
    if name in (None, "", presets.CUSTOM):
        return [gr.update() for _ in range(len(METHOD_DEFAULTS) + 1)]
    try:
        values = presets.find_preset(str(name))
    except Exception as error:
        return [*(gr.update() for _ in METHOD_DEFAULTS), exception_html(error)]
    return [*(gr.update(value=value) for value in values.values()), note_html(presets.changes_of(values))]


def recognise(*given: Any) -> tuple[Any, Any]:
    """After any change: the preset that these values are, and what differs from the defaults."""
    values = dict(zip(METHOD_DEFAULTS, given, strict=True))
    try:
        return gr.update(value=presets.name_of(values)), note_html(presets.changes_of(values))
    except Exception as error:
        return gr.update(value=presets.CUSTOM), exception_html(error)


def open_with(chosen: str | None) -> tuple[Any, Any]:
    """The row, with the name of the preset of one's own that is chosen."""
    is_own = chosen not in PRESETS and chosen != presets.CUSTOM
    return gr.update(visible=True), gr.update(value=chosen if is_own else "")


def save_values(name: str, pressed: str, *given: Any) -> tuple[Any, Any, Any, Any]:
    """pressed: the button's own words, which change where it would replace a preset."""
    values, save = dict(zip(METHOD_DEFAULTS, given, strict=True)), gr.update(value=SAVE)
    try:
        kept = presets.save_preset(name, values, replaces=pressed == REPLACE)
        changes = presets.own_presets()[kept]
    except presets.ExistsError as error:
        return gr.update(), error_html(str(error)), gr.update(), gr.update(value=REPLACE)
    except Exception as error:
        return gr.update(), exception_html(error), gr.update(), save
    return gr.update(choices=preset_names(), value=kept), note_html(changes), gr.update(visible=False), save


def delete_named(name: str, *given: Any) -> tuple[Any, Any, Any]:
    """The values stay as they are."""
    try:
        presets.delete_preset(name.strip())
    except Exception as error:
        return gr.update(), exception_html(error), gr.update()
    chosen, note = recognise(*given)
    return gr.update(choices=preset_names(), value=chosen["value"]), note, gr.update(visible=False)
