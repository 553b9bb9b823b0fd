"""JSON whose size, depth and number of values are bounded before anything is parsed.

Only photos may be long, and they are base64: their text is cut out first, and what is parsed is the small rest. So no
body keeps the interpreter's lock for long, and none grows into more Python objects than its photos.
"""

from __future__ import annotations

import json
import re
import secrets
from typing import Any

MAX_REST = 250_000  # bytes beside photos; all other fields together are below 100 kB, each letter escaped
MAX_VALUES = 20_000  # far more than any request has, so that a photo sent as a list of pixels is still named
MAX_DEPTH = 8  # an object with a list of arrays of pixels has 5
MIN_PHOTO = 4096  # bytes of text; a shorter one may stay in the rest
MAX_PHOTO = 16_000_000  # bytes of text: the largest photo as base64 in lines of 64 letters, line breaks escaped
SLICE = 1_000_000  # of one call that keeps the interpreter's lock
BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/= "
DATA_URL = re.compile(rb"data:[\w/+.;=-]{0,100},", re.IGNORECASE)
MARKS = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)|[\[{]|[\]}]|,', re.DOTALL)  # linear: each string matches


class BoundsError(ValueError):
    """A body beyond the bounds; the text says which, in a few words."""


def parse_json(body: bytearray) -> Any:
    """Like json.loads, within the bounds; `body` is empty afterwards, whatever happens.

    Raises ValueError where it is no JSON, BoundsError where it is too much of it.
    """
    try:
        rest, photos = _cut_photos(body)
    finally:
        body.clear()  # not left to whoever holds the body, or an exception's frame
    _check_structure(rest)
    return _restore_photos(json.loads(rest, parse_int=_parse_int), photos)


def _cut_photos(body: bytearray) -> tuple[bytes, dict[str, str]]:
    """The body with a short mark in the place of each long base64 text, and the texts by mark; uses the body up.

    A text counts only between two quotes, the first one not escaped. In JSON that is a whole string: between two
    strings there is always a comma or a colon. A mark outside of a string is no JSON (#).
    """
    _count_quotes(body)
    label, pieces, photos, size = f"#{secrets.token_hex(8)}", [], {}, 0
    while True:  # from the end, so that the body shrinks as the texts grow
        start = body.rfind(b'"') + 1
        length = len(body) - start
        if length > MAX_PHOTO:
            raise BoundsError("one part is longer than the largest photo")
        piece = body[start:]
        is_escaped = start > 1 and body[start - 2] == ord("\\")
        photo = _photo_text(piece) if length >= MIN_PHOTO and not is_escaped else None
        if photo is not None:
            mark = f"{label}:{len(photos)}"
            photos[mark], piece = photo, bytearray(mark, "ascii")
        pieces.append(piece)
        size += len(piece) + 1
        if size > MAX_REST:
            raise BoundsError(f"over {MAX_REST // 1000} kB beside photos in base64")
        if not start:
            return b'"'.join(reversed(pieces)), photos
        del body[start - 1 :]


def _count_quotes(body: bytearray) -> None:
    quotes = 0
    for start in range(0, len(body), SLICE):
        quotes += body.count(b'"', start, start + SLICE)
        if quotes > 2 * MAX_VALUES:
            raise BoundsError(f"more than {MAX_VALUES} values")


def _photo_text(piece: bytearray) -> str | None:
    """The base64 text or data: URL, its slashes and line breaks unescaped; None where it is anything else."""
    if b"\\" in piece:
        piece = piece.replace(rb"\/", b"/").replace(rb"\n", b"").replace(rb"\r", b"")
    header = DATA_URL.match(piece)
    data = piece[header.end() :] if header else piece
    return None if data.translate(None, BASE64) else piece.decode("ascii")


def _check_structure(rest: bytes) -> None:
    depth, values = 0, 1
    for mark in MARKS.finditer(rest):
        kind = rest[mark.start()]
        depth += (kind in b"[{") - (kind in b"]}")
        values += kind in b"[{,"
        if depth > MAX_DEPTH:
            raise BoundsError(f"nested more than {MAX_DEPTH} deep")
        if values > MAX_VALUES:
            raise BoundsError(f"more than {MAX_VALUES} values")


def _parse_int(digits: str) -> float:
    """Whole numbers of many digits take long to read, and none is allowed: they become floats."""
    return int(digits) if len(digits) <= 20 else float(digits)


def _restore_photos(value: Any, photos: dict[str, str]) -> Any:
    if isinstance(value, str):
        return photos.get(value, value)
    if isinstance(value, list):
        return [_restore_photos(each, photos) for each in value]
    if isinstance(value, dict):
        return {_restore_photos(key, photos): _restore_photos(each, photos) for key, each in value.items()}
    return value
