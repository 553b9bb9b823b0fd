"""Files that would cost minutes for nothing: read in the time of their size, whatever they hold."""

from __future__ import annotations

import contextlib
import io
import struct
import time
import zlib

import pytest
from PIL import Image

from lib_beyondfacial.errors import BeyondFacialError
from lib_beyondfacial.faces import containers
from lib_beyondfacial.faces.photos import decode_photo

LIMIT_S = 10.0  # of this thread; the faults were of minutes and hours
MEGABYTES = 10_000_000


def png_with(*chunks: tuple[bytes, bytes]) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(buffer, "PNG")
    data = buffer.getvalue()
    made = b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )
    return data[:33] + made + data[33:]  # behind the header


def read(data: bytes) -> float:
    """Seconds of this thread until the photo is decoded or refused with a sentence."""
    start = time.thread_time()
    with contextlib.suppress(BeyondFacialError):
        decode_photo("photo 1", data)
    return time.thread_time() - start


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xd8" + b"\xff" * MEGABYTES + b"\0" * 10,
        b"\xff\xd8\xff\xda\0\2" + b"\xff" * MEGABYTES + b"\0" * 10,
        b" " * 2000,
        b"<?xml?>" + b" " * 2000,
    ],
    ids=["fill bytes", "fill bytes in a scan", "blanks", "blanks in XML"],
)
def test_runs_of_one_byte_cost_no_more_than_others(data):
    assert read(data) < LIMIT_S


@pytest.mark.parametrize(
    ("kind", "head"),
    [(b"zTXt", b"XML:com.adobe.xmp\0\0"), (b"zTXt", b"Raw profile type exif\0\0"), (b"iCCP", b"profile\0\0")],
)
def test_one_text_or_profile_of_a_kind_is_unpacked(kind, head, monkeypatch):
    asked, unpack = [], containers._unpacked
    monkeypatch.setattr(containers, "_unpacked", lambda *given: (asked.append(1), unpack(*given))[1])
    containers.clean(png_with(*[(kind, head + zlib.compress(b" " * 900_000))] * 100))
    assert len(asked) == 1


@pytest.mark.parametrize("wrap", ["TIFF", "JPEG", "PNG"])
def test_an_offset_beyond_all_files_is_damage(wrap):
    directory = b"II+\0\x08\0\0\0" + b"\xff" * 8
    if wrap == "PNG":
        assert decode_photo("photo 1", png_with((b"eXIf", directory))).image.shape == (64, 64, 3)
        return
    if wrap == "JPEG":
        buffer = io.BytesIO()
        Image.new("RGB", (64, 64), "red").save(buffer, "JPEG", exif=b"Exif\0\0" + directory)
        assert decode_photo("photo 1", buffer.getvalue()).image.shape == (64, 64, 3)
        return
    with pytest.raises(BeyondFacialError, match="cut off"):
        decode_photo("photo 1", directory)
