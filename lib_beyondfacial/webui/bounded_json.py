"""Parses JSON whose size, depth and number of values are limited before parsing.

Only photos, in base64, may be long: their text is cut out first, and only the small rest is parsed. So a body neither
holds the interpreter's lock for long nor creates many Python objects.
"""

from __future__ import annotations

import json
import re
import secrets
from typing import Any

MAX_REST = 250_000  # bytes without photos; all other fields together need less than 100 kB, also escaped
MAX_VALUES = 20_000  # far more than needed, so that a photo sent as a list of pixels still gets its own message
MAX_DEPTH = 8  # an object with a list of arrays of pixels has 5
MIN_PHOTO = 4096  # bytes of text; a shorter one may stay in the rest
MAX_PHOTO = 16_000_000  # bytes of text: the largest photo as base64 in lines of 64 letters, line breaks escaped
SLICE = 1_000_000  # bytes a call, because it holds the interpreter's lock
BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/= "
DATA_URL = re.compile(rb"data:[\w/+.;=-]{0,100},", re.IGNORECASE)
MARKS = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)|[\[{]|[\]}]|,', re.DOTALL)  # linear: each string matches


class BoundsError(ValueError):
    """A body over a limit; the text names the limit in a few words."""


def parse_json(body: bytearray) -> Any:
    """Like json.loads, with limits; `body` is always empty afterwards.

    Raises ValueError if it is not JSON, BoundsError if it is over a limit.
    """
    try:
        rest, photos = _cut_photos(body)
    finally:
        body.clear()  # the caller or an exception's frame may still refer to it
    _check_structure(rest)
    return _restore_photos(json.loads(rest, parse_int=_parse_int), photos)


def _cut_photos(body: bytearray) -> tuple[bytes, dict[str, str]]:
    """Replace each long base64 text of the body by a short mark; returns the rest and the texts by mark. Empties body.

    A text is replaced only between two quotes, the first of them not escaped; in valid JSON that is always a whole
    string. The mark begins with "#", so outside of a string it is not JSON.
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
    """Read numbers of many digits as floats, because int() is slow for them; no field allows them."""
    return int(digits) if len(digits) <= 20 else float(digits)


def _restore_photos(value: Any, photos: dict[str, str]) -> Any:
    if isinstance(value, str):
        return photos.get(value, value)
    if isinstance(value, list):
        return [_restore_photos(each, photos) for each in value]
    if isinstance(value, dict):
        return {_restore_photos(key, photos): _restore_photos(each, photos) for key, each in value.items()}
    return value
