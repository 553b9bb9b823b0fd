"""Presets of the method's parameters: built in, and the user's own in a file of ours (never the host's ui-config)."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import BeyondFacialError
from ..faces.names import check_name
from ..faces.plain_files import write_plain
from ..settings import BY_KEY, METHOD_DEFAULTS, PRESETS, preset_values
from . import folders
from .permissions import require_writes

CUSTOM = "Custom"
MAX_FILE = 1_000_000  # bytes
FILE = "presets.json in models/beyondfacial"
_saving = threading.Lock()  # two pages may save at once


def presets_file() -> Path:
    """Beside the saved identities."""
    return folders.identities_dir().parent / "presets.json"


def own_presets() -> dict[str, dict[str, Any]]:
    """The user's that can be used, by name: what each changes. BeyondFacialError where the file is no such list."""
    return {name: changes for name, changes in read().items() if is_valid(changes)}


def read() -> dict[str, dict[str, Any]]:
    """The whole file, also what somebody has written into it by hand."""
    try:
        with presets_file().open("rb") as file:
            found = json.loads(file.read(MAX_FILE))
        return {str(name): {str(key): value for key, value in found[name].items()} for name in found}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise BeyondFacialError(f"Your presets ({FILE}) cannot be read; mend the file or delete it.") from error


def is_valid(changes: Mapping[str, Any]) -> bool:
    try:
        preset_values(changes)
    except BeyondFacialError:
        return False
    return True


def all_presets() -> dict[str, dict[str, Any]]:
    """Built-in ones first; one of the user's that has a built-in name is not shown."""
    return {**PRESETS, **{name: value for name, value in own_presets().items() if name not in PRESETS}}


def find_preset(name: str) -> dict[str, Any]:
    """All values of a preset."""
    known = all_presets()
    if name not in known:
        raise BeyondFacialError(f'There is no preset "{name[:60]}"; choose one of the list.')
    return preset_values(known[name])


def changes_of(values: Mapping[str, Any]) -> dict[str, Any]:
    """What differs from the defaults."""
    return {key: value for key, value in values.items() if not is_same(value, METHOD_DEFAULTS[key])}


def name_of(values: Mapping[str, Any]) -> str:
    """The preset that has just these values; CUSTOM where none has."""
    for name, changes in all_presets().items():
        wanted = METHOD_DEFAULTS | changes
        if all(is_same(values[key], wanted[key]) for key in METHOD_DEFAULTS):
            return name
    return CUSTOM


def is_same(one: Any, other: Any) -> bool:
    """Sliders give whole numbers where we mean 1.0."""
    if isinstance(one, bool) or isinstance(other, bool) or isinstance(one, str) or isinstance(other, str):
        return one == other
    return one is None or math.isclose(one, other, abs_tol=1e-6)


def in_words(changes: Mapping[str, Any]) -> str:
    """What a preset changes, by the labels of the page."""
    phrases = [f"{BY_KEY[key].label} {_word(value)}" for key, value in changes.items()]
    return f"Changed from Default: {', '.join(phrases)}." if phrases else ""


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return value if isinstance(value, str) else f"{value:g}"


class ExistsError(BeyondFacialError):
    """There is a preset of that name."""


def save_preset(name: str, values: Mapping[str, Any], replaces: bool = False) -> str:
    """Keep what the values change under the name; the name as it is kept. ExistsError where another would be lost.

    replaces: take the place of the user's own of that name.
    """
    require_writes()
    name = check_preset_name(name)
    with _saving:
        users = read()
        if name in users and not replaces:
            raise ExistsError(f'There is a preset "{name}" already; press once more to replace it.')
        write({**users, name: changes_of(preset_values(values))})
    return name


def delete_preset(name: str) -> None:
    """Remove one of the user's own."""
    require_writes()
    with _saving:
        users = read()
        if name not in users:
            raise BeyondFacialError(f'There is no preset "{name[:60]}" of your own; type the name of one.')
        del users[name]
        write(users)


def check_preset_name(name: str) -> str:
    name = check_name(name.strip())
    if name in PRESETS or name == CUSTOM:
        raise BeyondFacialError(f'"{name}" is a preset that comes with this extension; choose another name.')
    return name


def write(users: Mapping[str, Mapping[str, Any]]) -> None:
    """All or nothing."""
    path, text = presets_file(), json.dumps(users, ensure_ascii=False, indent=1)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_plain(path, text.encode())
    except OSError as error:
        raise BeyondFacialError(f"Your presets ({FILE}) cannot be written ({error.strerror}).") from error
