"""Names of saved identities: what may be a file's name on every system, and nothing else."""

from __future__ import annotations

import unicodedata

from ..errors import BeyondFacialError

MAX_NAME = 64
MAX_NAME_BYTES = 200  # file systems stop at 255, the ending included
JOINERS = "\u200c\u200d"  # between letters, Persian and Indic scripts are misspelt without them
FORBIDDEN = set('<>:"/\\|?*')
WINDOWS_DEVICES = {"con", "prn", "aux", "nul", "conin$", "conout$", "clock$"} | {
    f"{device}{number}" for device in ("com", "lpt") for number in "0123456789¹²³"
}


def check_name(name: str) -> str:
    """The name, in one of Unicode's equal spellings (NFC), its spaces of all kinds as plain ones; BeyondFacialError
    where it cannot be a file's name.

    Otherwise refused, never mended: what is saved must be found again under the name that was given.
    """
    shown = "".join(letter if letter.isprintable() else "?" for letter in str(name)[:MAX_NAME])
    reason = _fault(_spelt(name)) if isinstance(name, str) else "it is no text"
    if reason:
        raise BeyondFacialError(
            f'"{shown}" cannot be the name of an identity: {reason}; use up to {MAX_NAME} letters, digits and spaces.'
        )
    return _spelt(name)


def is_name(name: str) -> bool:
    """Whether check_name would take it as it is."""
    return not _fault(name) and _spelt(name) == name


def same_name(name: str) -> str:
    """Equal for names that some file system, or a reader, takes for one."""
    folded = unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
    return "".join(letter for letter in folded if letter not in JOINERS)


def _spelt(name: str) -> str:
    """Keyboards write other spaces than the plain one: Japanese ones U+3000, Macs U+00A0."""
    return "".join(" " if unicodedata.category(c) == "Zs" else c for c in unicodedata.normalize("NFC", name))


def _joins_letters(name: str, i: int) -> bool:
    """Whether a joiner stands between letters, or marks on them."""
    beside = (name[i - 1 : i], name[i + 1 : i + 2])
    return name[i] in JOINERS and all(each and unicodedata.category(each)[0] in "LM" for each in beside)


def _fault(name: str) -> str:
    """Why not, or ""."""
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
