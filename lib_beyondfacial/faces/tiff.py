"""Reads the first directory of a TIFF file, or of EXIF data, with limits, before Pillow reads it.

Without limits, Pillow copies data as often as entries point to it, and libtiff allocates a tile as large as the file
says, whatever the size of the picture.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

MAX_ENTRIES = 1000
MAX_PARTS = 70_000  # strips or tiles
MAX_DECODED = 120_000_000  # bytes: 25 megapixels in 8-bit RGBA or 32-bit grey, and incomplete tiles at the edges
WIDTH, HEIGHT, BITS, COMPRESSION, SAMPLES, ROWS, ORIENTATION = 256, 257, 258, 259, 277, 278, 274
STRIPS, STRIP_BYTES, TILE_WIDTH, TILE_HEIGHT, TILES, TILE_BYTES = 273, 279, 322, 323, 324, 325
OLD_JPEG, JPEG = 6, 7
SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
DAMAGED = (struct.error, OverflowError)  # an offset behind the end, or above 2^63
INTEGERS = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}


class TiffError(ValueError):
    """A damaged directory, or a picture that is too costly; the text is the end of the sentence "a TIFF ..."."""


@dataclass(frozen=True)
class Parts:
    """The strips or tiles as (start, size) in bytes; whether they are JPEGs; EXIF's orientation."""

    places: tuple[tuple[int, int], ...]
    is_jpeg: bool
    orientation: int


@dataclass(frozen=True)
class Entry:
    """One entry of a directory: type, number and position of its values."""

    kind: int
    count: int
    at: int


def orientation_of(data: bytes) -> int:
    """EXIF's orientation, 1 to 8; 1 if it is missing or damaged (the picture may still be fine)."""
    try:
        return _orientation(data, _directory(data))
    except (TiffError, *DAMAGED):
        return 1


def part_sizes(data: bytes) -> Parts:
    """The strips or tiles of a TIFF's first picture; TiffError if decoding them costs more than a photo may."""
    try:
        directory = _directory(data)
        starts = _numbers(data, directory, TILES if TILES in directory else STRIPS)
        sizes = _numbers(data, directory, TILE_BYTES if TILES in directory else STRIP_BYTES)
        decoded = _decoded_size(data, directory)
        compression = _number(data, directory, COMPRESSION, 1)
        orientation = _orientation(data, directory)
    except DAMAGED as error:
        raise TiffError("that is cut off") from error
    if decoded > MAX_DECODED:
        raise TiffError("whose tiles or strips hold far more than 25 megapixels")
    if sum(sizes) > len(data):
        raise TiffError("whose tiles or strips overlap")
    if compression == OLD_JPEG:
        raise TiffError("in the JPEG compression of 1992")
    return Parts(tuple(zip(starts, sizes, strict=False)), compression == JPEG, orientation)


def _decoded_size(data: bytes, directory: dict[int, Entry]) -> int:
    """Bytes of all decoded tiles or strips together."""
    width, height = (_number(data, directory, tag, 0) for tag in (WIDTH, HEIGHT))
    across, down = width, _number(data, directory, ROWS, height)
    if TILES in directory:
        across, down = (_number(data, directory, tag, 0) for tag in (TILE_WIDTH, TILE_HEIGHT))
    if not (width and height and across and down):
        raise TiffError("without a size")
    down = min(down, height) if TILES not in directory else down
    bits = max(_numbers(data, directory, BITS), default=1) * _number(data, directory, SAMPLES, 1)
    return -(-width // across) * across * -(-height // down) * down * bits // 8


def _orientation(data: bytes, directory: dict[int, Entry]) -> int:
    value = _number(data, directory, ORIENTATION, 1)
    return value if 1 <= value <= 8 else 1


def _number(data: bytes, directory: dict[int, Entry], tag: int, default: int) -> int:
    return next(iter(_numbers(data, directory, tag)), default)


def _numbers(data: bytes, directory: dict[int, Entry], tag: int) -> tuple[int, ...]:
    entry = directory.get(tag)
    if entry is None or entry.kind not in INTEGERS:
        return ()
    if entry.count > MAX_PARTS:
        raise TiffError("in far too many parts")
    return struct.unpack_from(f"{_order(data)}{entry.count}{INTEGERS[entry.kind]}", data, entry.at)


def _order(data: bytes) -> str:
    return "<" if data[:2] == b"II" else ">"


def _directory(data: bytes) -> dict[int, Entry]:
    """The first directory's entries by tag; TiffError if they are larger than the file together."""
    entries = list(_entries(data, _order(data)))
    if sum(SIZES.get(entry.kind, 1) * entry.count for _, entry in entries) > len(data):
        raise TiffError("whose directory overlaps or is cut off")
    return dict(entries)


def _entries(data: bytes, order: str) -> Iterator[tuple[int, Entry]]:
    is_big = data[2:4] in (b"+\0", b"\0+")
    place, number, form, inline = ("Q", "Q", f"{order}HHQ", 8) if is_big else ("I", "H", f"{order}HHI", 4)
    (start,) = struct.unpack_from(order + place, data, 8 if is_big else 4)
    (count,) = struct.unpack_from(order + number, data, start)
    if count > MAX_ENTRIES:
        raise TiffError("with far too many entries")
    at, step = start + struct.calcsize(order + number), struct.calcsize(form) + inline
    for entry_at in range(at, at + count * step, step):
        tag, kind, values = struct.unpack_from(form, data, entry_at)
        where = entry_at + struct.calcsize(form)
        if SIZES.get(kind, 1) * values > inline:
            (where,) = struct.unpack_from(order + place, data, where)
        yield tag, Entry(kind, values, where)
