"""The one error whose text is shown to users, and functions that make user input safe to quote in it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable


class BeyondFacialError(ValueError):
    """A request that cannot be served; ``str(error)`` is one sentence that names the cause and what to do.

    It is raised where a value of the user enters (settings, photos, adapter files, the host's model). The request
    then fails with this sentence, and users see nothing else. The sentence must not contain a folder of the machine
    or any part of a photo; the constructor removes everything that looks like base64.
    """

    def __init__(self, sentence: str = ""):
        super().__init__(without_base64(sentence))


# A data URL, how base64 of a JPEG, PNG, GIF, WebP, BMP or TIFF begins, and any long run of its signs.
BASE64 = re.compile(
    r"data:[\w/+.-]*;base64,[\w+/=-]*|(?:/9j/|_9j_|iVBORw0KGgo|R0lGOD|UklGR|SUkqA|TU0AK)[\w+/=-]{4,}|[A-Za-z0-9+/]{40,}=*"
)


def without_base64(text: str) -> str:
    """The text without what looks like the bytes of a photo."""
    return BASE64.sub("(base64)", text)


def printable(text: str) -> str:
    """The first 60 characters, lone surrogates replaced: JSON may hold them, but no answer can carry them."""
    return text[:60].encode("utf-8", "replace").decode()


def nearest_name(name: str, known: Iterable[str]) -> str:
    """The known name most like `name`, printable; `known` must not be empty."""
    return printable(difflib.get_close_matches(name[:60], list(known), n=1, cutoff=0)[0])
