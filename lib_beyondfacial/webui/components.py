"""gradio's own components, made alike: an elem_id on each, nothing remembered by the host, 3.41 and 4.40 alike."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterable
from typing import Any

import gradio as gr

from ..errors import BeyondFacialError
from ..settings import NONE, Field, keys_to_labels
from .failures import ui_sentence_of

ERROR_CLASS = "beyondfacial-error"
MARK = "\N{WARNING SIGN}"
STYLE = f"<style>.{ERROR_CLASS} {{color: #b91c1c}} .dark .{ERROR_CLASS} {{color: #f87171}}</style>"
REFRESH = "\N{CLOCKWISE OPEN CIRCLE ARROW}"  # hosts make a button of class "tool" as small as its one sign


def component(kind: type, tab: str, name: str, **options: Any) -> Any:
    """A component of ours, with its elem_id."""
    return no_ui_config(kind(elem_id=f"beyondfacial_{tab}_{name}", **options))


def no_ui_config(made: Any) -> Any:
    """Keep the host from writing a component's value into its ui-config.json, by label, for good."""
    made.do_not_save_to_config = True
    return made


def field_component(tab: str, field: Field) -> Any:
    """The component of one field, by its kind."""
    common = {"label": field.label}
    if field.kind == "photos":
        return component(gr.File, tab, field.key, file_count="multiple", file_types=["image"], **common)
    common["info"] = field.help
    if field.kind == "bool":
        return component(gr.Checkbox, tab, field.key, value=field.default, **common)
    if field.kind == "choice":
        return component(gr.Radio, tab, field.key, choices=list(field.choices), value=field.default, **common)
    if field.kind == "text":
        return component(gr.Textbox, tab, field.key, value=field.default, **common)
    limits = {"minimum": field.minimum, "maximum": field.maximum, "step": field.step}
    return component(gr.Slider, tab, field.key, value=field.default, **limits, **common)


def listing(tab: str, field: Field, list_names: Callable[[], Iterable[str]], none_found: str) -> Any:
    """A dropdown of names with a button that reads the folders again; a name that is not listed may be typed."""
    names, sentence = read_names(list_names, none_found)
    with component(gr.Row, tab, f"row_{field.key}"):
        dropdown = component(
            gr.Dropdown, tab, field.key,
            choices=names, value="", label=field.label, info=field.help, allow_custom_value=True, scale=8,
        )  # fmt: skip
        refresh = component(
            gr.Button, tab, f"refresh_{field.key}", value=REFRESH, scale=0, min_width=44, elem_classes=["tool"]
        )
    missing = component(gr.HTML, tab, f"missing_{field.key}", value=html.escape(sentence), visible=bool(sentence))

    def clear(value: str | None) -> Any:
        return gr.update() if chosen_name(value) == value else gr.update(value="")

    dropdown.change(fn=clear, inputs=[dropdown], outputs=[dropdown])

    def read_again() -> tuple[Any, Any]:
        names, sentence = read_names(list_names, none_found)
        return gr.update(choices=names), gr.update(value=html.escape(sentence), visible=bool(sentence))

    refresh.click(fn=read_again, inputs=[], outputs=[dropdown, missing])
    return dropdown


def read_names(list_names: Callable[[], Iterable[str]], none_found: str) -> tuple[list[str], str]:
    """The names to choose from (NONE first: choose for me), and a sentence if there are none.

    gradio 3 cannot choose an empty text: Enter in a cleared field takes the first choice that is not, be it a name.
    """
    try:
        names = sorted(list_names(), key=str.casefold)
    except (OSError, BeyondFacialError) as error:
        return [NONE], ui_sentence_of(error)
    return [NONE, *names], "" if names else none_found


def chosen_name(value: str | None) -> str:
    """What a list's value means: a name, or "" for none."""
    return "" if value in (None, NONE) else str(value)


def error_html(sentence: str) -> str:
    """A sentence as HTML: with a mark, and red in light and dark themes (gradio's own colour of errors is black)."""
    return f'{STYLE}<span class="{ERROR_CLASS}">{MARK} {html.escape(keys_to_labels(sentence))}</span>'


def exception_html(error: Exception) -> str:
    """An exception as HTML for the page."""
    return error_html(ui_sentence_of(error))
