"""Shows failures to the user: one sentence, as the error of the request or under the picture."""

from __future__ import annotations

import functools
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gradio as gr

from ..errors import BeyondFacialError
from ..hosts import request
from ..settings import keys_to_labels
from . import cells

PREFIX = "BeyondFacial: "
MARK = "\N{WARNING SIGN}"


def ui_sentence_of(error: BaseException) -> str:
    """The sentence for the UI, which names settings by their labels."""
    return keys_to_labels(sentence_of(error))


def sentence_of(error: BaseException) -> str:
    """The sentence to show; for errors other than BeyondFacialError only the kind; the console shows the rest."""
    if isinstance(error, BeyondFacialError):
        return str(error).removeprefix(PREFIX)
    traceback.print_exception(error)
    return f"internal error ({type(error).__name__}), see the console."


@contextmanager
def fail_on_error(p: Any) -> Iterator[None]:
    """Make the request of `p` fail with the sentence of an exception raised inside; hosts ignore script errors."""
    try:
        yield
    except Exception as error:
        is_api = getattr(p, "is_api", False)  # the page shows the error's class before the sentence
        sentence = sentence_of(error)
        if cells.name_cell(p):  # a plot leaves the cell blank, and the error in the console
            add_comment(p, sentence)
        request.fail(p, f"{PREFIX if is_api else ''}{sentence}")


def report_sampling_errors(p: Any) -> None:
    """Let an error of this cell's sampling be a comment, too: a plot leaves the cell blank. The cell's `p` is a copy
    that nobody uses afterwards, so the wrapper stays on it."""
    original = p.sample

    @functools.wraps(original)
    def sample(*args: Any, **kwargs: Any) -> Any:
        try:
            return original(*args, **kwargs)
        except Exception as error:
            add_comment(p, str(getattr(error, "detail", "") or error))
            raise

    p.sample = sample


@contextmanager
def report_errors(p: Any, processed: Any = None) -> Iterator[None]:
    """Add the sentence of an exception raised inside as a comment; the finished picture is returned nevertheless."""
    try:
        yield
    except Exception as error:
        add_comment(p, sentence_of(error), processed)


def add_comment(p: Any, text: str, processed: Any = None) -> None:
    """Add a warning under the pictures, marked in the UI: to `p`, and to `processed` if the host has made it.

    `p` is always needed, since scripts that join several results use the comments of `p`.
    """
    is_api = getattr(p, "is_api", False)
    cell = cells.name_cell(p)
    text = f"{PREFIX}{f'{cell}: ' if cell else ''}{text.removeprefix(PREFIX)}"
    text = text if is_api else f"{MARK} {keys_to_labels(text)}"
    add_line(p, text, processed)
    if cell and not is_api:  # a plot shows the comments of its first cell alone
        gr.Warning(text)


def add_line(p: Any, text: str, processed: Any = None) -> None:
    """Add a line under the pictures as it is."""
    p.comment(text)
    if processed is not None and text not in processed.comments.splitlines():
        processed.comments = f"{processed.comments}{text}\n"
