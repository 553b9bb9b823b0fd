"""Finds weight files in a folder and its subfolders."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

DEPTH = 3


def weight_files(folder: Path, suffixes: tuple[str, ...]) -> Iterator[Path]:
    """Files with these endings at most three folders deep, in order.

    Links are followed; each folder is visited once, so that a link to a parent folder does not cause a loop. Pipes,
    sockets and broken links are left out, because opening one may block forever.
    """
    visited: set[tuple[int, int] | str] = set()
    for place, subfolders, files in os.walk(folder, followlinks=True):
        location = Path(place)
        try:
            found = location.stat()
        except OSError:
            continue
        identity = (found.st_dev, found.st_ino) if found.st_ino else str(location.resolve())  # st_ino may be 0
        is_known, deep = identity in visited, len(location.relative_to(folder).parts) >= DEPTH - 1
        visited.add(identity)
        subfolders[:] = [] if deep or is_known else sorted(each for each in subfolders if not each.startswith("."))
        names = () if is_known else (name for name in sorted(files) if Path(name).suffix.lower() in suffixes)
        yield from (location / name for name in names if not name.startswith("._") and _is_regular(location / name))


def _is_regular(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return False
