"""The web UI's saved identities, for page, API and infotext."""

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
    """The library of the folder that the flags name."""
    return _library_at(folders.identities_dir())


def names() -> list[str]:
    """Names of all that are saved."""
    return library().names()


def entry_of(name: str) -> Entry:
    """What is saved under the name; UnknownIdentityError if nothing is."""
    if not name:
        raise UnknownIdentityError("No saved identity is chosen; choose one from the list.")
    return library().entry(name)


def load(name: str, analyser: FaceAnalyser) -> Identity:
    """The saved identity as this analyser's pack sees it."""
    return library().load(name, analyser)


def save(name: str, identity: Identity, keep_crops: bool = False, overwrite: bool = False) -> None:
    """Save under the name, if the web UI's flags allow it."""
    require_writes()
    library().save(name, identity, keep_crops, overwrite)


def rename(name: str, rename_to: str) -> None:
    """Give another name, if the web UI's flags allow it."""
    require_writes()
    library().rename(name, rename_to)


def delete(name: str) -> None:
    """Remove for good, if the web UI's flags allow it."""
    require_writes()
    library().delete(name)


def name_of_photos(photo_hash: str) -> str:
    """The name under which the identity of these photos is saved; "" if it is not."""
    return library().by_hash(photo_hash) or ""


def entry_to_json(entry: Entry) -> dict[str, Any]:
    """As GET /beyondfacial/v1/identities tells it."""
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
    """One for each folder, so that its lock holds for all requests."""
    return Library(folder)
