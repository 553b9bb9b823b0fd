"""Checks and cleans photo files before Pillow decodes them: estimates the cost of decoding, and removes other data.

JPEG and PNG files are copied without everything that is not the picture (appended videos, thumbnails, texts, camera
data), so that such data cannot cause errors, delays or memory use. No pixel is decoded here, and a text or profile of
each kind is unpacked once, up to a limit.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from .tiff import TiffError, orientation_of, part_sizes

MAX_SCANS = 50  # of a JPEG; encoders write about a dozen
MAX_SCAN_PIXELS = 800_000_000  # scans x pixels: each scan costs a pass over all pixels, 2.6 ns each
MAX_PROFILE = 4_000_000  # bytes of an ICC profile; printers' profiles have up to 2.7 MB
MAX_TEXT = 1_000_000  # Pillow's own limit for a text in a PNG
MAX_RLE_BMP = 1_000_000  # Pillow unpacks these byte by byte in Python
PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
PNG_CHUNKS = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"}
PNG_TEXTS = {b"tEXt", b"zTXt", b"iTXt"}
HEX_EXIF, XMP = b"Raw profile type exif", b"XML:com.adobe.xmp"  # where PNG files without eXIf have the orientation
XMP_ORIENTATION = re.compile(rb"tiff:Orientation(?:=[\"']|>)\s*([1-8])")
# without `+`, which takes the square of a run of 0xff in time: such bytes before a marker fill
JPEG_MARKER = re.compile(rb"\xff([^\x00\xff])")
JPEG_SCAN_END = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
STANDALONE = {0x01, *range(0xD0, 0xD8)}
SOI, EOI, SOS, EXIF, ICC, ADOBE = 0xD8, 0xD9, 0xDA, 0xE1, 0xE2, 0xEE
FRAMES = {0xC0, 0xC1, 0xC2, 0xC3, *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0)}
NOTES = {*range(0xE0, 0xF0), 0xFE} - {ADOBE}  # APPn and comments, without Adobe's, which gives the colour space


class RefusedError(ValueError):
    """A file that is refused; the text is the end of the sentence '"photo 1" is ...'."""


@dataclass(frozen=True)
class Cleaned:
    """A cleaned photo file for Pillow.

    orientation: 1 to 8 as in EXIF. profile: the ICC profile; b"" for none. Each is None if Pillow must read it.
    is_jpeg, scans: a JPEG may be larger than other pictures; a JPEG of several scans less large.
    """

    data: bytes
    orientation: int | None = None
    profile: bytes | None = None
    is_jpeg: bool = False
    scans: int = 0


def clean(data: bytes) -> Cleaned:
    """The file without data that is no picture; RefusedError if decoding would cost too much."""
    if data.startswith(b"\xff\xd8\xff"):
        return _clean_jpeg(data)
    if data.startswith(PNG_MAGIC):
        return _clean_png(data)
    if data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return _check_tiff(data)
    if data.startswith(b"BM") and data[30:34] in (b"\1\0\0\0", b"\2\0\0\0") and len(data) > MAX_RLE_BMP:
        raise RefusedError("a run-length encoded BMP of more than 1 MB; save it as PNG or JPEG")
    return Cleaned(data)


def count_scans(data: bytes) -> int:
    """The number of scans of the JPEG at the start of the data, by its markers; data behind its end is ignored."""
    return sum(marker == SOS for marker, _, _ in _jpeg_segments(data))


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """(marker, start, stop) of each segment up to the end of the picture; a scan includes its pixels."""
    at = 0
    while found := JPEG_MARKER.search(data, at):
        marker, start, at = found[1][0], found.start(), found.end()
        if marker == SOI or marker in STANDALONE:
            yield marker, at - 2, at
            continue
        if marker == EOI:
            yield marker, at - 2, at
            return
        if at + 2 > len(data):
            return
        at += max(int.from_bytes(data[at : at + 2], "big"), 2)
        if marker == SOS:
            end = JPEG_SCAN_END.search(data, at)
            at = end.start() if end else len(data)
        yield marker, start, min(at, len(data))


def _clean_jpeg(data: bytes) -> Cleaned:
    parts: list[bytes] = []
    pieces: dict[int, bytes] = {}
    orientation, scans, pixels = None, 0, 0
    for marker, start, stop in _jpeg_segments(data):
        if marker in NOTES:
            body = data[start + 4 : stop]
            if marker == EXIF and body.startswith(b"Exif\0\0") and orientation is None:
                orientation = orientation_of(body[6:])
            elif marker == ICC and body.startswith(b"ICC_PROFILE\0") and len(body) > 14:
                pieces.setdefault(body[12], body[14:])
            continue
        if marker in FRAMES and stop - start >= 9:
            height, width = struct.unpack_from(">HH", data, start + 5)
            pixels = height * width
        if marker == SOS:
            scans += 1
            if scans > MAX_SCANS or (scans > 1 and scans * pixels > MAX_SCAN_PIXELS):
                raise RefusedError("a JPEG in hundreds of scans, or in many and large; save it as an ordinary one")
        parts.append(data[start:stop])
    profile = b"".join(pieces[number] for number in sorted(pieces))
    return Cleaned(b"".join(parts), orientation or 1, profile[:MAX_PROFILE], True, scans)


def _clean_png(data: bytes) -> Cleaned:
    """Remove texts and large profiles: Pillow refuses a PNG with one of more than 1 MB."""
    parts, at, orientation, profile = [PNG_MAGIC], len(PNG_MAGIC), 0, b""
    unpacked: set[bytes] = set()  # kinds that a PNG has once
    while at + 12 <= len(data):
        size, kind = struct.unpack(">I4s", data[at : at + 8])
        stop = at + 12 + size
        if kind in PNG_CHUNKS:
            parts.append(data[at:stop])
        elif kind == b"eXIf":
            orientation = orientation_of(data[at + 8 : min(stop - 4, at + MAX_TEXT)])
        elif kind in PNG_TEXTS and not orientation and size < MAX_TEXT:
            keyword, _, rest = data[at + 8 : stop - 4].partition(b"\0")
            if keyword in (HEX_EXIF, XMP) and keyword not in unpacked:
                unpacked.add(keyword)
                orientation = _orientation_in_text(kind, keyword, rest)
        elif kind == b"iCCP" and kind not in unpacked and size < MAX_PROFILE:
            unpacked.add(kind)
            packed = data[at + 8 : stop - 4].partition(b"\0")[2]
            profile = _unpacked(packed[1:], MAX_PROFILE)
        at = stop
        if kind == b"IEND":
            break
    return Cleaned(b"".join(parts), orientation or 1, profile)


def _orientation_in_text(kind: bytes, keyword: bytes, rest: bytes) -> int:
    """EXIF's orientation in a text chunk, in hexadecimal or as XMP; 0 if there is none."""
    if kind == b"iTXt":
        is_packed, text = rest[:1] == b"\1", rest[2:].split(b"\0", 2)[-1]
    else:
        is_packed, text = kind == b"zTXt", rest[kind == b"zTXt" :]
    text = _unpacked(text, MAX_TEXT) if is_packed else text
    if keyword == XMP:
        found = XMP_ORIENTATION.search(text)
        return int(found[1]) if found else 0
    try:
        exif = bytes.fromhex(b"".join(text.split(b"\n")[3:]).decode("ascii"))
    except ValueError:
        return 0
    return orientation_of(exif.removeprefix(b"Exif\0\0"))


def _unpacked(packed: bytes, limit: int) -> bytes:
    """The data decompressed by zlib; b"" if it is damaged or longer than the limit."""
    unpacker = zlib.decompressobj()
    try:
        found = unpacker.decompress(packed, limit)
    except zlib.error:
        return b""
    return found if unpacker.eof else b""


def _check_tiff(data: bytes) -> Cleaned:
    """Check the strips or tiles of a TIFF, which may be larger than the picture and may overlap."""
    try:
        parts = part_sizes(data)
    except TiffError as error:
        raise RefusedError(f"a TIFF {error}; save it as an ordinary one") from error
    for start, size in parts.places if parts.is_jpeg else ():
        if count_scans(data[start : start + size]) > MAX_SCANS:
            raise RefusedError("a TIFF of a JPEG in hundreds of scans; save it as an ordinary one")
    return Cleaned(data, parts.orientation)
