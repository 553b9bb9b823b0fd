"""How a failure reaches the user: one sentence, in the answer of the request or under the picture."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..errors import BeyondFacialError
from ..hosts import request
from ..settings import keys_to_labels

PREFIX = "BeyondFacial: "


def ui_sentence_of(error: BaseException) -> str:
    """The sentence as the page shows it, with the labels that stand there."""
    return keys_to_labels(sentence_of(error))


def sentence_of(error: BaseException) -> str:
    """The sentence to show; for anything but a BeyondFacialError it names only the kind, the console has the rest."""
    if isinstance(error, BeyondFacialError):
        return str(error).removeprefix(PREFIX)
    traceback.print_exception(error)
    return f"internal error ({type(error).__name__}), see the console."


@contextmanager
def fail_on_error(p: Any) -> Iterator[None]:
    """Whatever is raised inside makes the request of `p` fail with its sentence: hosts swallow script errors."""
    try:
        yield
    except Exception as error:
        is_api = getattr(p, "is_api", False)  # the page shows the error's class before the sentence
        request.fail(p, f"{PREFIX if is_api else ''}{sentence_of(error)}")


@contextmanager
def report_errors(p: Any, processed: Any = None) -> Iterator[None]:
    """Whatever is raised inside is said beside the picture, which is finished by now and goes out all the same."""
    try:
        yield
    except Exception as error:
        add_comment(p, sentence_of(error), processed)


def add_comment(p: Any, text: str, processed: Any = None) -> None:
    """Say `text` under the pictures; once the host has made `processed`, its comments are what the page shows.

    Scripts that join several such results make another one, of the comments on `p`.
    """
    text = text if text.startswith(PREFIX) else PREFIX + text
    text = text if getattr(p, "is_api", False) else keys_to_labels(text)
    p.comment(text)
    if processed is not None and text not in processed.comments.splitlines():
        processed.comments = f"{processed.comments}{text}\n"
