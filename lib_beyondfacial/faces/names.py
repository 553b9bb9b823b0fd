"""Names of saved identities: what may be a file's name on every system, and nothing else."""

from __future__ import annotations

import unicodedata

from ..errors import BeyondFacialError

MAX_NAME = 64
MAX_NAME_BYTES = 200  # file systems stop at 255, the ending included
FORBIDDEN = set('<>:"/\\|?*')
WINDOWS_DEVICES = {"con", "prn", "aux", "nul", "conin$", "conout$", "clock$"} | {
    f"{device}{number}" for device in ("com", "lpt") for number in "0123456789¹²³"
}


def check_name(name: str) -> str:
    """The name, in one of Unicode's equal spellings (NFC); BeyondFacialError where it cannot be a file's name.

    Refused, never mended: what is saved must be found again under the name that was given.
    """
    shown = "".join(letter if letter.isprintable() else "?" for letter in str(name)[:MAX_NAME])
    reason = _fault(name) if isinstance(name, str) else "it is no text"
    if reason:
        raise BeyondFacialError(
            f'"{shown}" cannot be the name of an identity: {reason}; use up to {MAX_NAME} letters, digits and spaces.'
        )
    return unicodedata.normalize("NFC", name)


def is_name(name: str) -> bool:
    """Whether check_name would take it as it is."""
    return not _fault(name) and unicodedata.normalize("NFC", name) == name


def same_name(name: str) -> str:
    """Equal for names that some file system takes for one."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _fault(name: str) -> str:
    """Why not, or ""."""
    size = len(unicodedata.normalize("NFC", name).encode("utf-8", "replace"))
    faults = {
        "it is empty": not name,
        "it is too long": len(name) > MAX_NAME or size > MAX_NAME_BYTES,
        'it holds one of < > : " / \\ | ? *': any(letter in FORBIDDEN for letter in name),
        "it holds control characters": any(unicodedata.category(c)[0] in "CZ" and c != " " for c in name),
        "it begins or ends with a dot or a space": name.strip(". ") != name,
        "Windows keeps it for a device": name.split(".", maxsplit=1)[0].strip().casefold() in WINDOWS_DEVICES,
    }
    return next((fault for fault, is_there in faults.items() if is_there), "")
