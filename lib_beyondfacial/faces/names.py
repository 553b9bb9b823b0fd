"""Names of saved identities: only names that are valid file names on every system."""

from __future__ import annotations

import unicodedata

from ..errors import BeyondFacialError

MAX_NAME = 64
MAX_NAME_BYTES = 200  # bytes; file systems allow 255 with the ending
JOINERS = "\u200c\u200d"  # Persian and Indic scripts need them between letters
FORBIDDEN = set('<>:"/\\|?*')
WINDOWS_DEVICES = {"con", "prn", "aux", "nul", "conin$", "conout$", "clock$"} | {
    f"{device}{number}" for device in ("com", "lpt") for number in "0123456789¹²³"
}


def check_name(name: str) -> str:
    """The name in Unicode's form NFC, with plain spaces only; BeyondFacialError if it cannot be a file name.

    Nothing else is changed, so that a saved identity is found again under the name that the user gave.
    """
    shown = "".join(letter if letter.isprintable() else "?" for letter in str(name)[:MAX_NAME])
    reason = _fault(_spelt(name)) if isinstance(name, str) else "it is no text"
    if reason:
        raise BeyondFacialError(
            f'"{shown}" cannot be the name of an identity: {reason}; use up to {MAX_NAME} letters, digits and spaces.'
        )
    return _spelt(name)


def is_name(name: str) -> bool:
    """Whether check_name accepts it without a change."""
    return not _fault(name) and _spelt(name) == name


def same_name(name: str) -> str:
    """A key that is equal for names that a file system or a reader may confuse."""
    folded = unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
    return "".join(letter for letter in folded if letter not in JOINERS)


def _spelt(name: str) -> str:
    """NFC with plain spaces: Japanese keyboards write U+3000, Macs U+00A0."""
    return "".join(" " if unicodedata.category(c) == "Zs" else c for c in unicodedata.normalize("NFC", name))


def _joins_letters(name: str, i: int) -> bool:
    """Whether each joiner is between letters or combining marks."""
    beside = (name[i - 1 : i], name[i + 1 : i + 2])
    return name[i] in JOINERS and all(each and unicodedata.category(each)[0] in "LM" for each in beside)


def _fault(name: str) -> str:
    """Why the name is not allowed, or ""."""
    size = len(name.encode("utf-8", "replace"))
    faults = {
        "it is empty": not name,
        "it is too long": len(name) > MAX_NAME or size > MAX_NAME_BYTES,
        'it holds one of < > : " / \\ | ? *': any(letter in FORBIDDEN for letter in name),
        "it holds control characters": any(
            unicodedata.category(c)[0] in "CZ" and c != " " and not _joins_letters(name, i) for i, c in enumerate(name)
        ),
        "it begins or ends with a dot or a space": name.strip(". ") != name,
        "Windows keeps it for a device": name.split(".", maxsplit=1)[0].strip().casefold() in WINDOWS_DEVICES,
    }
    return next((fault for fault, is_there in faults.items() if is_there), "")
