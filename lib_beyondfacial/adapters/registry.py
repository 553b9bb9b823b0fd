"""Adapter files by name (never by path): searched in the users' folders, and loaded once."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..common import SHORT_HASH, hash_file
from ..errors import BeyondFacialError, nearest_name, printable
from .checkpoints import AUTO, AdapterSpec, describe
from .clip_vision import unload_features
from .files import Weights, load_adapter_file, peek_adapter_file
from .places import weight_files

FOLDERS = ("ipadapter", "ip-adapter", "instantid", "pulid", "photomaker", "ControlNet")
EXTENSION = "extensions/sd-webui-controlnet/models"  # beside the models folder
SUFFIXES = (".safetensors", ".bin", ".pt", ".pth")
MIXED_FOLDERS = ("controlnet", "models")  # folders with mostly other models: only files named like adapters count
NAMED_LIKE_ADAPTER = re.compile(r"ip[-_]?adapter|face[-_]?id|instant[-_]?id|pulid|photomaker", re.IGNORECASE)
NAMED_LIKE_OTHERS = re.compile(  # files beside adapters that are none: CLIP vision models, InstantID's IdentityNet
    r"image[-_]?encoder|clip[-_](vision|vit|h\b|g\b)|controlnetmodel|diffusion_pytorch_model", re.IGNORECASE
)


@dataclass(frozen=True, eq=False)
class LoadedAdapter:
    """An adapter file in memory; short_hash is the first 10 hex digits of the file's SHA-256."""

    name: str
    path: Path
    spec: AdapterSpec
    weights: Weights
    short_hash: str


@dataclass(frozen=True)
class AdapterCard:
    """The list entry of an adapter file: its spec (spec.facts for users), or the sentence why it cannot be used."""

    name: str
    spec: AdapterSpec | None
    sentence: str = ""


def adapter_dirs(models_dir: Path) -> list[Path]:
    """The existing folders for adapters, in a models folder and beside it."""
    models_dir = Path(models_dir)
    places = [*(models_dir / name for name in FOLDERS), models_dir.parent / EXTENSION]
    return [folder for folder in places if folder.is_dir()]


def list_adapters(dirs: Iterable[Path]) -> dict[str, Path]:
    """Adapter files by name, sorted: the file's name without folder and ending; with ending if two were equal
    otherwise.

    If two folders have the same file name, the first wins. No file is opened.
    """
    found: dict[str, Path] = {}
    for folder in dirs:
        for path in _adapter_files(Path(folder)):
            found.setdefault(path.name, path)
    listing: dict[str, Path] = {}
    for file_name, path in found.items():
        listing[path.stem if path.stem not in listing else file_name] = path
    return dict(sorted(listing.items(), key=lambda item: item[0].lower()))


def choose_name(name: str, listing: Mapping[str, Path], family: str = AUTO) -> str:
    """The name in the listing of a name or file name; of the only usable adapter for "". Raises BeyondFacialError
    listing the known names."""
    if not listing:
        raise BeyondFacialError(
            "No identity adapter was found; put an IP-Adapter FaceID or InstantID file into models/ipadapter."
        )
    if name in listing:
        return name
    by_file_name = {path.name: known for known, path in listing.items()}
    if name in by_file_name:
        return by_file_name[name]
    if name:
        known = ", ".join(f'"{each}"' for each in listing)
        raise BeyondFacialError(
            f'There is no adapter "{printable(name)}"; the nearest is "{nearest_name(name, listing)}", '
            f"and the adapters found are {known}."
        )
    usable = [each for each in listing if len(listing) == 1 or peek_adapter(each, listing, family).spec is not None]
    if len(usable) == 1:
        return usable[0]
    known = ", ".join(f'"{each}"' for each in usable or listing)
    raise BeyondFacialError(f'There are several adapters; set "adapter" to one of {known}.')


def get_adapter(name: str, listing: Mapping[str, Path], family: str = AUTO) -> LoadedAdapter:
    """Load an adapter by its name in the listing, or its file name; "" means the only usable one.

    family: the user's choice for files whose shapes fit two families (Settings.adapter_family). The adapter stays in
    memory until its file changes. Raises BeyondFacialError listing the known names.
    """
    name = choose_name(name, listing, family)
    return _load(name, listing[name], *_stamp(name, listing[name]), family)


def peek_adapter(name: str, listing: Mapping[str, Path], family: str = AUTO) -> AdapterCard:
    """What an adapter is, by its name, without loading it: for lists. Remembered until the file changes."""
    name = choose_name(name, listing, family)
    try:
        return _peek(name, listing[name], *_stamp(name, listing[name]), family)
    except BeyondFacialError as error:
        return AdapterCard(name, None, str(error))


def unload_adapters() -> None:
    """Free the adapters and CLIP features in memory."""
    _load.cache_clear()
    _read.cache_clear()
    unload_features()


@functools.lru_cache(maxsize=2)
def _load(name: str, path: Path, mtime_ns: int, size: int, family: str) -> LoadedAdapter:
    if (card := _peek(name, path, mtime_ns, size, family)).spec is None:  # checked before gigabytes are read
        raise BeyondFacialError(card.sentence)
    weights, sha256 = _read(path, mtime_ns, size)
    spec = describe(weights, name, family, _name_hints(path), lambda: sha256)
    return LoadedAdapter(name, path, spec, weights, sha256[:SHORT_HASH])


@functools.lru_cache(maxsize=2)
def _read(path: Path, _mtime_ns: int, _size: int) -> tuple[Weights, str]:
    """Read a file. Cached apart from _load: a file that is loaded under two families is read once."""
    return load_adapter_file(path), _hash(path)


@functools.lru_cache(maxsize=64)
def _peek(name: str, path: Path, _mtime_ns: int, _size: int, family: str) -> AdapterCard:
    try:
        spec = describe(peek_adapter_file(path), name, family, _name_hints(path), lambda: _hash(path))
    except BeyondFacialError as error:
        return AdapterCard(name, None, str(error))
    return AdapterCard(name, spec)


def _hash(path: Path) -> str:
    try:
        return hash_file(path)
    except OSError as error:
        raise BeyondFacialError(f'The adapter file "{path.name}" is gone; put it back or choose another.') from error


def _stamp(name: str, path: Path) -> tuple[int, int]:
    """A key that changes if the file changes."""
    try:
        stat = path.stat()
    except OSError as error:
        raise BeyondFacialError(f'The file of the adapter "{name}" is gone; put it back or choose another.') from error
    return stat.st_mtime_ns, stat.st_size


def _name_hints(path: Path) -> tuple[str, str]:
    """The names that may show a file's family: its own, then its folder's ("instantid/ip-adapter.bin")."""
    return path.stem, path.parent.name


def _adapter_files(folder: Path) -> Iterator[Path]:
    is_mixed = folder.name.lower() in MIXED_FOLDERS
    for path in weight_files(folder, SUFFIXES):
        place = str(path.relative_to(folder))
        if not NAMED_LIKE_OTHERS.search(place) and (NAMED_LIKE_ADAPTER.search(place) or not is_mixed):
            yield path
