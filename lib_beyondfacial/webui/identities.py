"""Saved identities of the web UI, for UI, API and infotext."""

from __future__ import annotations

import functools
import weakref
from pathlib import Path
from typing import Any

from ..faces.aggregate import Identity
from ..faces.analysis import FaceAnalyser
from ..faces.library import Entry, Library, UnknownIdentityError
from . import folders
from .permissions import require_writes
from .previews import to_base64_png


def library() -> Library:
    """The library in the folder set by the flags."""
    return _library_at(folders.identities_dir())


def names() -> list[str]:
    """The names of all saved identities."""
    return library().names()


def entry_of(name: str) -> Entry:
    """The entry of a saved identity; UnknownIdentityError if there is none."""
    if not name:
        raise UnknownIdentityError("No saved identity is chosen; choose one from the list.")
    return library().entry(name)


def load(name: str, analyser: FaceAnalyser) -> Identity:
    """Load a saved identity with the embeddings of this analyser's pack."""
    return library().load(name, analyser)


def save(name: str, identity: Identity, keep_crops: bool = False, overwrite: bool = False) -> None:
    """Save an identity; NotAllowedError if the web UI's flags forbid it."""
    require_writes()
    library().save(name, identity, keep_crops, overwrite)


def rename(name: str, rename_to: str) -> None:
    """Rename an identity; NotAllowedError if the web UI's flags forbid it."""
    require_writes()
    library().rename(name, rename_to)


def delete(name: str) -> None:
    """Delete an identity permanently, if the web UI's flags allow it."""
    require_writes()
    library().delete(name)


def name_of_photos(photo_hash: str) -> str:
    """The name of the saved identity that was made from these photos; "" if there is none."""
    return library().by_hash(photo_hash) or ""


def entry_to_json(entry: Entry) -> dict[str, Any]:
    """The entry in the form of GET /beyondfacial/v1/identities."""
    return {
        "name": entry.name,
        "photo_hash": entry.photo_hash,
        "packs": list(entry.packs),
        "photos": entry.photos,
        "created": entry.created,
        "has_crops": entry.has_crops,
        "thumbnail": _thumbnail(entry),
        "problem": entry.sentence,
    }


_thumbnails: weakref.WeakKeyDictionary[Entry, str] = weakref.WeakKeyDictionary()  # as long as a list remembers them


def _thumbnail(entry: Entry) -> str:
    if entry.thumbnail is None:
        return ""
    if (known := _thumbnails.get(entry)) is None:
        known = _thumbnails[entry] = to_base64_png(entry.thumbnail)
    return known


@functools.lru_cache(maxsize=4)
def _library_at(folder: Path) -> Library:
    """One library a folder, so that all requests share its lock."""
    return Library(folder)
