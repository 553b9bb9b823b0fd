"""Shows failures to the user: one sentence, as the error of the request or under the picture."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..errors import BeyondFacialError
from ..hosts import request
from ..settings import keys_to_labels

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
        is_api = getattr(p, "is_api", False)  # the UI shows the error's class before the sentence
        request.fail(p, f"{PREFIX if is_api else ''}{sentence_of(error)}")


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
    text = text if text.startswith(PREFIX) else PREFIX + text
    add_line(p, text if getattr(p, "is_api", False) else f"{MARK} {keys_to_labels(text)}", processed)


def add_line(p: Any, text: str, processed: Any = None) -> None:
    """Add a line under the pictures as it is."""
    p.comment(text)
    if processed is not None and text not in processed.comments.splitlines():
        processed.comments = f"{processed.comments}{text}\n"
