"""Weight files under a folder, the way users lay them out."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

DEPTH = 3


def weight_files(folder: Path, suffixes: tuple[str, ...]) -> Iterator[Path]:
    """Files of those endings at most three folders deep, in order; links to folders are not followed."""
    for place, subfolders, files in os.walk(folder):
        here = Path(place)
        deep = len(here.relative_to(folder).parts) >= DEPTH - 1
        subfolders[:] = [] if deep else sorted(each for each in subfolders if not each.startswith("."))
        yield from (here / name for name in sorted(files) if Path(name).suffix.lower() in suffixes)
