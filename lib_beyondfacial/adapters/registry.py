"""Adapter files by name: found where users keep them, loaded once, never addressed by a path."""

from __future__ import annotations

import difflib
import functools
import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..errors import BeyondFacialError
from .checkpoints import AdapterSpec, Weights, describe, load_adapter_file

FOLDERS = ("ipadapter", "ip-adapter", "instantid", "pulid", "photomaker", "ControlNet")
SUFFIXES = (".safetensors", ".bin", ".pt")
MIXED_FOLDER = "controlnet"  # holds mostly other models: there a file must be named like an adapter
NAMED_LIKE_ADAPTER = re.compile(r"ip[-_]?adapter|face[-_]?id|instant[-_]?id|pulid|photomaker", re.IGNORECASE)
DEPTH = 3
HASH_CHUNK = 1 << 20


@dataclass(frozen=True, eq=False)
class LoadedAdapter:
    """An adapter file in memory; short_hash is the first 10 hex digits of the file's SHA-256."""

    name: str
    path: Path
    spec: AdapterSpec
    weights: Weights
    short_hash: str


def adapter_dirs(models_dir: Path) -> list[Path]:
    """The folders inside a models folder where adapters may lie (those that exist)."""
    return [folder for folder in (Path(models_dir) / name for name in FOLDERS) if folder.is_dir()]


def list_adapters(dirs: Iterable[Path]) -> dict[str, Path]:
    """Adapter files by name, sorted: the file's name without folder and ending; with its ending where two would clash.

    Where two folders hold the same file name, the first wins. Nothing is opened.
    """
    found: dict[str, Path] = {}
    for folder in dirs:
        for path in _weight_files(Path(folder)):
            found.setdefault(path.name, path)
    listing: dict[str, Path] = {}
    for file_name, path in found.items():
        listing[path.stem if path.stem not in listing else file_name] = path
    return dict(sorted(listing.items(), key=lambda item: item[0].lower()))


def get_adapter(name: str, listing: Mapping[str, Path]) -> LoadedAdapter:
    """Load an adapter by its name in the listing (its file name will do, too); "" means the only one there is.

    Kept in memory until the file changes. Raises BeyondFacialError listing the known names.
    """
    name = _choose(name, listing)
    path = listing[name]
    try:
        stat = path.stat()
    except OSError as error:
        raise BeyondFacialError(f'The file of the adapter "{name}" is gone; put it back or choose another.') from error
    return _load(name, path, stat.st_mtime_ns, stat.st_size)


def unload_adapters() -> None:
    """Free the adapters kept in memory."""
    _load.cache_clear()


@functools.lru_cache(maxsize=2)
def _load(name: str, path: Path, _mtime_ns: int, _size: int) -> LoadedAdapter:
    weights = load_adapter_file(path)
    spec = describe(weights, name)
    return LoadedAdapter(name, path, spec, weights, hash_file(path))


def hash_file(path: Path) -> str:
    """First 10 hex digits of the file's SHA-256."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(HASH_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()[:10]


def _choose(name: str, listing: Mapping[str, Path]) -> str:
    if not listing:
        raise BeyondFacialError(
            "No identity adapter was found; put an IP-Adapter FaceID file into the folder models/ipadapter."
        )
    if name in listing:
        return name
    by_file_name = {path.name: known for known, path in listing.items()}
    if name in by_file_name:
        return by_file_name[name]
    known = ", ".join(f'"{each}"' for each in listing)
    if name:
        near = difflib.get_close_matches(name, list(listing), n=1, cutoff=0)[0]
        raise BeyondFacialError(
            f'There is no adapter "{name[:60]}"; the nearest is "{near}", and the adapters found are {known}.'
        )
    if len(listing) > 1:
        raise BeyondFacialError(f'There are several adapters; set "adapter" to one of {known}.')
    return next(iter(listing))


def _weight_files(folder: Path) -> Iterator[Path]:
    """Weight files at most three folders deep, in order; links to folders are not followed."""
    is_mixed = folder.name.lower() == MIXED_FOLDER
    for place, subfolders, files in os.walk(folder):
        here = Path(place)
        deep = len(here.relative_to(folder).parts) >= DEPTH - 1
        subfolders[:] = [] if deep else sorted(each for each in subfolders if not each.startswith("."))
        for file_name in sorted(files):
            path = here / file_name
            named_like = NAMED_LIKE_ADAPTER.search(str(path.relative_to(folder)))
            if path.suffix.lower() in SUFFIXES and (named_like or not is_mixed):
                yield path
