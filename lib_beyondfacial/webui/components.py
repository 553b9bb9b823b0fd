"""gradio's own components, made alike: an elem_id on each, nothing remembered by the host, 3.41 and 4.40 alike."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterable
from typing import Any

import gradio as gr

from ..errors import BeyondFacialError
from ..settings import Field, keys_to_labels
from .failures import page_sentence_of

# The first choice of every list. gradio 3 cannot choose an empty text: Enter in a cleared field takes the first choice
# that is not empty, and so another adapter.
NONE = "(none)"
ERROR_CLASS = "beyondfacial-error"
MARK = "\N{WARNING SIGN}"
STYLE = f"<style>.{ERROR_CLASS} {{color: #b91c1c}} .dark .{ERROR_CLASS} {{color: #f87171}}</style>"
REFRESH = "\N{CLOCKWISE OPEN CIRCLE ARROW}"  # hosts make a button of class "tool" as small as its one sign


def own(kind: type, tab: str, name: str, **options: Any) -> Any:
    """A component of ours, with its elem_id."""
    return forgettable(kind(elem_id=f"beyondfacial_{tab}_{name}", **options))


def forgettable(component: Any) -> Any:
    """Keep the host from writing the component's value into its ui-config.json, by label, for good."""
    component.do_not_save_to_config = True
    return component


def field_component(tab: str, field: Field) -> Any:
    """The component of one field, by its kind."""
    common = {"label": field.label}
    if field.kind == "photos":
        return own(gr.File, tab, field.key, file_count="multiple", file_types=["image"], **common)
    common["info"] = field.help
    if field.kind == "bool":
        return own(gr.Checkbox, tab, field.key, value=field.default, **common)
    if field.kind == "choice":
        return own(gr.Radio, tab, field.key, choices=list(field.choices), value=field.default, **common)
    if field.kind == "text":
        return own(gr.Textbox, tab, field.key, value=field.default, **common)
    limits = {"minimum": field.minimum, "maximum": field.maximum, "step": field.step}
    return own(gr.Slider, tab, field.key, value=field.default, **limits, **common)


def listing(tab: str, field: Field, list_names: Callable[[], Iterable[str]], none_found: str) -> Any:
    """A dropdown of names with a button that reads the folders again; a name that is not listed may be typed."""
    names, sentence = read_names(list_names, none_found)
    with own(gr.Row, tab, f"row_{field.key}"):
        dropdown = own(
            gr.Dropdown, tab, field.key,
            choices=names, value="", label=field.label, info=field.help, allow_custom_value=True, scale=8,
        )  # fmt: skip
        refresh = own(
            gr.Button, tab, f"refresh_{field.key}", value=REFRESH, scale=0, min_width=44, elem_classes=["tool"]
        )
    missing = own(gr.HTML, tab, f"missing_{field.key}", value=html.escape(sentence), visible=bool(sentence))

    def clear(value: str | None) -> Any:
        return gr.update() if chosen_name(value) == value else gr.update(value="")

    dropdown.change(fn=clear, inputs=[dropdown], outputs=[dropdown])

    def read_again() -> tuple[Any, Any]:
        names, sentence = read_names(list_names, none_found)
        return gr.update(choices=names), gr.update(value=html.escape(sentence), visible=bool(sentence))

    refresh.click(fn=read_again, inputs=[], outputs=[dropdown, missing])
    return dropdown


def read_names(list_names: Callable[[], Iterable[str]], none_found: str) -> tuple[list[str], str]:
    """The names to choose from (NONE first: choose for me), and a sentence if there are none."""
    try:
        names = sorted(list_names(), key=str.casefold)
    except (OSError, BeyondFacialError) as error:
        return [NONE], page_sentence_of(error)
    return [NONE, *names], "" if names else none_found


def chosen_name(value: str | None) -> str:
    """What a list's value means: a name, or "" for none."""
    return "" if value in (None, NONE) else str(value)


def complaint(sentence: str) -> str:
    """A sentence as HTML: with a mark, and red in light and dark themes (gradio's own colour of errors is black)."""
    return f'{STYLE}<span class="{ERROR_CLASS}">{MARK} {html.escape(keys_to_labels(sentence))}</span>'


def said(error: Exception) -> str:
    """An exception as HTML for the page."""
    return complaint(page_sentence_of(error))
