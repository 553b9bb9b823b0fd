"""The one error whose text users read, and what its sentences quote."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class BeyondFacialError(ValueError):
    """A request that cannot be served; ``str(error)`` is one sentence naming the thing and what to do.

    Raised wherever a value of the user's enters (settings, photos, adapter files, the host's model) and caught
    once, in scripts/beyondfacial.py, which makes the request fail with that sentence. Nothing else is shown to
    users, so the sentence holds no folder of the machine and no part of a photo.
    """


def printable(text: str) -> str:
    """The first 60 characters, lone surrogates replaced: JSON may hold them, but no answer can carry them."""
    return text[:60].encode("utf-8", "replace").decode()


def nearest_name(name: str, known: Iterable[str]) -> str:
    """The known name most like `name`, printable; `known` must not be empty."""
    return printable(difflib.get_close_matches(name[:60], list(known), n=1, cutoff=0)[0])
