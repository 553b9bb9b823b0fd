"""Creates gradio components (3.41 and 4.40) with an elem_id and without an entry in the host's ui-config.json."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterable
from typing import Any

import gradio as gr

from ..errors import BeyondFacialError
from ..faces import photos
from ..settings import AUTOMATIC, NONE, Field, keys_to_labels
from ..settings.fields import MOST_BUTTONS
from .failures import MARK, ui_sentence_of

ERROR_CLASS, HIDDEN_CLASS = "beyondfacial-error", "beyondfacial-hidden"  # style.css
REFRESH = "\N{CLOCKWISE OPEN CIRCLE ARROW}"  # hosts make a button of class "tool" as small as its one sign


def component(kind: type, tab: str, name: str, **options: Any) -> Any:
    """Create a component with our elem_id."""
    return no_ui_config(kind(elem_id=f"beyondfacial_{tab}_{name}", **options))


def no_ui_config(made: Any) -> Any:
    """Keep the host from storing a component's value in its ui-config.json, where it would stay permanently."""
    made.do_not_save_to_config = True
    return made


def with_content(files: Any) -> Any:
    """Let a File component hand out uploads with their content: queues of other extensions pickle what the page sends,
    and run it when gradio's temporary files may be gone."""
    preprocess = files.preprocess

    def read(payload: Any) -> Any:
        given = preprocess(payload)
        return [photos.read_upload(each) for each in given] if isinstance(given, list) else given

    files.preprocess = read
    return files


def field_component(tab: str, field: Field) -> Any:
    """The component of one field, by its kind."""
    common: dict[str, Any] = {"label": field.label}
    if field.kind == "photos":
        return with_content(component(gr.File, tab, field.key, file_count="multiple", visible=False, **common))
    common["info"] = field.help
    if field.kind == "bool":
        return component(
            gr.Checkbox, tab, field.key, value=field.default, elem_classes=["beyondfacial-check"], **common
        )
    if field.kind == "choice":
        kind = gr.Radio if len(field.choices) <= MOST_BUTTONS else gr.Dropdown
        return component(kind, tab, field.key, choices=list(field.choices), value=field.default, **common)
    if field.kind == "text":
        lines = {} if field.section == "expert" else {"max_lines": 1}  # there it is a whole prompt
        return component(gr.Textbox, tab, field.key, value=field.default, **lines, **common)
    limits = {"minimum": field.minimum, "maximum": field.maximum, "step": field.step}
    return component(gr.Slider, tab, field.key, value=field.default, **limits, **common)


def listing(tab: str, field: Field, list_names: Callable[[], Iterable[str]]) -> tuple[Any, Any]:
    """A dropdown of names and a button that reads them again; a name that is not listed may be typed."""
    with component(gr.Row, tab, f"row_{field.key}"):
        dropdown = component(
            gr.Dropdown, tab, field.key, choices=read_names(field, list_names), value=field.empty,
            label=field.label, info=field.help, allow_custom_value=True, scale=8, min_width=120,
        )  # fmt: skip
        refresh = component(
            gr.Button, tab, f"refresh_{field.key}", value=REFRESH, scale=0, min_width=44, elem_classes=["tool"]
        )
    refresh.click(fn=lambda: gr.update(choices=read_names(field, list_names)), inputs=[], outputs=[dropdown])
    return dropdown, refresh


def read_names(field: Field, list_names: Callable[[], Iterable[str]]) -> list[str]:
    """The names to choose from, behind the one for an empty choice; what cannot be read is told beside the list.

    NONE is not "" because gradio 3 cannot choose an empty text: Enter in an empty field chooses the first other name.
    """
    try:
        return [field.empty, *list_names()]
    except (OSError, BeyondFacialError):
        return [field.empty]


def chosen_name(value: str | None) -> str:
    """What a list's value means: a name, or "" for none."""
    return "" if value in (None, AUTOMATIC, NONE) else str(value)


def error_html(sentence: str) -> str:
    """A sentence as HTML: with a mark, and red in light and dark themes (gradio's own colour of errors is black)."""
    return f'<span class="{ERROR_CLASS}">{MARK} {html.escape(keys_to_labels(sentence))}</span>'


def warning_html(sentence: str) -> str:
    """A sentence as HTML that asks for something, in the colour of warnings, with their mark."""
    return f'<span class="beyondfacial-warning">{MARK} {html.escape(sentence)}</span>'


def exception_html(error: Exception) -> str:
    """The sentence of an exception, as HTML."""
    return error_html(ui_sentence_of(error))
