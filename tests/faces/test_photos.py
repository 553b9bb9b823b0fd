"""Decoding: every form of photo, every limit before decoding, and nothing but sentences on bad input."""

from __future__ import annotations

import base64
import io
import struct
import tempfile
import time
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from lib_beyondfacial.errors import BeyondFacialError
from lib_beyondfacial.faces import containers, photos, pixels
from lib_beyondfacial.faces.photos import decode_photo, decode_upload

RAMP = np.dstack(np.broadcast_arrays(np.arange(40)[:, None] * 6, np.arange(30)[None] * 8, 60)).astype(np.uint8)


def encode(image: Image.Image, form: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def as_base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def png_header_only(width: int, height: int) -> bytes:
    """A PNG that announces a size and has no pixels: whoever decodes before checking sees another error."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    return b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))


def test_lossless_forms_give_the_very_pixels():
    image = Image.fromarray(RAMP)
    forms = {"PNG": {}, "WEBP": {"lossless": True}, "BMP": {}, "TIFF": {}}
    for form, options in forms.items():
        photo = decode_photo("photo 1", as_base64(encode(image, form, **options)))
        assert photo.name == "photo 1"
        np.testing.assert_array_equal(photo.image, RAMP, err_msg=form)


def test_jpeg_bytes_and_data_urls_and_line_breaks():
    data = encode(Image.fromarray(RAMP), "JPEG", quality=95)
    plain = decode_photo("p", data).image
    assert np.abs(plain.astype(int) - RAMP).mean() < 6
    text = as_base64(data)
    for source in (text, f"data:image/jpeg;base64,{text}", f"  {text[:40]}\n{text[40:]}\n", bytearray(data)):
        np.testing.assert_array_equal(decode_photo("p", source).image, plain)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_undone(orientation):
    upright = Image.fromarray(RAMP)
    undo = pixels.UPRIGHT.get(orientation)
    inverse = {
        Image.Transpose.ROTATE_90: Image.Transpose.ROTATE_270,
        Image.Transpose.ROTATE_270: Image.Transpose.ROTATE_90,
    }
    stored = upright.transpose(inverse.get(undo, undo)) if undo is not None else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    np.testing.assert_array_equal(decode_photo("p", encode(stored, "PNG", exif=exif)).image, RAMP)


def test_exif_orientation_six_turns_clockwise():
    """By the standard's words: 6 means that the stored row 0 is the right-hand side of the picture."""
    stored = np.zeros((2, 4, 3), np.uint8)
    stored[0] = 200
    exif = Image.Exif()
    exif[0x0112] = 6
    shown = decode_photo("p", encode(Image.fromarray(stored), "PNG", exif=exif)).image
    assert shown.shape == (4, 2, 3)
    assert (shown[:, 1] == 200).all()
    assert (shown[:, 0] == 0).all()


def test_alpha_lies_over_grey():
    rgba = np.dstack([RAMP, np.full(RAMP.shape[:2], 255, np.uint8)])
    rgba[:10, :, 3] = 0
    expected = RAMP.copy()
    expected[:10] = pixels.GREY
    np.testing.assert_array_equal(decode_photo("p", encode(Image.fromarray(rgba), "PNG")).image, expected)
    palette = Image.new("P", (4, 4), 3)
    palette.putpalette([9, 9, 9] * 4)
    see_through = decode_photo("p", encode(palette, "PNG", transparency=3)).image
    assert (see_through == pixels.GREY).all()
    la = Image.merge("LA", (Image.new("L", (4, 4), 200), Image.new("L", (4, 4), 255)))
    assert (decode_photo("p", encode(la, "PNG")).image == 200).all()


def test_grey_16_bit_and_cmyk():
    levels = np.arange(0, 65536, 257, dtype=np.uint16).reshape(16, 16)
    deep = decode_photo("p", encode(Image.fromarray(levels), "PNG")).image
    np.testing.assert_array_equal(deep[..., 0], (levels // 257).astype(np.uint8))
    np.testing.assert_array_equal(deep[..., 0], deep[..., 2])
    np.testing.assert_array_equal(decode_photo("p", levels).image, deep)
    grey = decode_photo("p", encode(Image.fromarray(RAMP).convert("L"), "JPEG")).image
    assert grey.shape == RAMP.shape
    floats = Image.fromarray(np.linspace(0, 1, 16, dtype=np.float32).reshape(4, 4))
    assert decode_photo("p", encode(floats, "TIFF")).image.max() == 255
    cmyk = decode_photo("p", encode(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG")).image
    assert cmyk[..., 0].min() > 200
    assert cmyk[..., 1:].max() < 60
    bits = decode_photo("p", encode(Image.new("1", (8, 8), 1), "PNG")).image
    assert (bits == 255).all()


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG", "TIFF"])
def test_animations_give_their_first_frame(form):
    first, second = Image.new("RGB", (8, 8), (255, 0, 0)), Image.new("RGB", (8, 8), (0, 0, 255))
    options = {"lossless": True} if form == "WEBP" else {}
    data = encode(first, form, save_all=True, append_images=[second], **options)
    assert tuple(decode_photo("p", data).image[0, 0]) == (255, 0, 0)


def test_images_and_arrays_in_memory():
    np.testing.assert_array_equal(decode_photo("p", Image.fromarray(RAMP)).image, RAMP)
    np.testing.assert_array_equal(decode_photo("p", RAMP).image, RAMP)
    np.testing.assert_array_equal(decode_photo("p", RAMP[..., :1]).image[..., 2], RAMP[..., 0])
    for bad in (RAMP.astype(np.float32), np.zeros((0, 4, 3), np.uint8), np.zeros((2, 2, 2, 3), np.uint8)):
        with pytest.raises(BeyondFacialError, match='"p" is an array'):
            decode_photo("p", bad)


def test_too_many_pixels_are_refused_before_decoding():
    for width, height in ((10_000, 10_000), (5001, 5000), (60_000, 60_000), (20_000, 100)):
        began = time.thread_time()
        with pytest.raises(BeyondFacialError, match=r'"photo 3".*25 megapixels'):
            decode_photo("photo 3", png_header_only(width, height))
        assert time.thread_time() - began < 1
    with pytest.raises(BeyondFacialError, match="damaged"):  # within the limits the same bytes are just broken
        decode_photo("photo 3", png_header_only(5000, 5000))


def jpeg_of_scans(side: int, count: int) -> bytes:
    """A progressive JPEG whose last scan, a few bytes, comes `count` times."""
    data = encode(Image.new("RGB", (side, side), (90, 80, 70)), "JPEG", progressive=True)
    return data[:-2] + data[data.rindex(b"\xff\xda") : -2] * count + data[-2:]


def test_a_jpeg_of_hundreds_of_scans_is_refused_before_decoding():
    """At 25 megapixels, 200 of them took 13 seconds, and 10 MB hold a quarter of a million."""
    began = time.process_time()
    with pytest.raises(BeyondFacialError, match='"photo 3" is a JPEG in hundreds of scans'):
        decode_photo("photo 3", jpeg_of_scans(5000, 200))
    assert time.process_time() - began < 3  # nearly all of it is the making
    assert decode_photo("photo 3", jpeg_of_scans(50, 20)).image.shape == (50, 50, 3)
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (1500, 1500, 3)).astype(np.uint8))
    png = encode(noise, "PNG", compress_level=0)
    assert png.count(b"\xff\xda") > containers.MAX_SCANS  # by chance, and no JPEG
    assert decode_photo("photo 3", png).image.shape == (1500, 1500, 3)


def test_too_many_bytes_are_refused_before_decoding(monkeypatch):
    monkeypatch.setattr(base64, "b64decode", lambda *_a, **_k: pytest.fail("was decoded"))
    monkeypatch.setattr(Image, "open", lambda *_a, **_k: pytest.fail("was opened"))
    for source in (b"x" * (photos.MAX_BYTES + 1), "x" * 15_000_000):
        with pytest.raises(BeyondFacialError, match='"photo 2" is larger than 10 MB'):
            decode_photo("photo 2", source)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("https://example.org/face.jpg", "URL"),
        ("file:///etc/passwd", "URL"),
        ("data:text/plain,hello", "without base64"),
        ("/etc/passwd", "not base64|cannot be read"),
        ("C:\\faces\\me.png", "not base64"),
        ("me.png", "not base64"),
        ("", "empty"),
        ("data:image/png;base64,", "empty"),
        (as_base64(b"this is no picture at all"), "cannot be read"),
        (as_base64(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n"), "not an image"),
        (b"", "not an image"),
        (None, "NoneType"),
        (42, "int"),
        (Path("/etc/passwd"), "PosixPath|WindowsPath"),
    ],
)
def test_what_is_no_photo_is_refused_by_name(source, words):
    with pytest.raises(BeyondFacialError, match=words) as caught:
        decode_photo("photo 7", source)
    assert '"photo 7"' in str(caught.value)


def test_the_api_never_opens_a_path(tmp_path, monkeypatch):
    file = tmp_path / "abcd"  # all letters of base64
    file.write_bytes(encode(Image.fromarray(RAMP), "PNG"))
    monkeypatch.setattr(Path, "open", lambda *_a, **_k: pytest.fail("was opened"))
    with pytest.raises(BeyondFacialError):
        decode_photo("photo 1", str(file))


def test_uploads_are_read_from_the_temp_folder_only(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path / "temp"))
    monkeypatch.delenv("GRADIO_TEMP_DIR", raising=False)
    inside, outside = tmp_path / "temp" / "x" / "me.png", tmp_path / "secret.png"
    inside.parent.mkdir(parents=True)
    for file in (inside, outside):
        file.write_bytes(encode(Image.fromarray(RAMP), "PNG"))
    photo = decode_upload(str(inside))
    assert photo.name == "me.png"
    assert photo.image.shape == RAMP.shape

    class Upload:  # as gradio 3 hands it out
        name = str(inside)
        orig_name = "holiday.png"

    assert decode_upload(Upload()).name == "holiday.png"
    assert decode_upload(Image.fromarray(RAMP)).image.shape == RAMP.shape
    (inside.parent / "link.png").symlink_to(outside)
    for bad in (outside, inside.parent / ".." / ".." / ".." / "secret.png", inside.parent / "link.png"):
        with pytest.raises(BeyondFacialError, match="not uploaded"):
            decode_upload(str(bad))
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    assert decode_upload(outside).name == "secret.png"
    for bad, words in ((inside.parent / "gone.png", "gone.png"), (None, "missing"), ("", "missing"), ("a\0b", "read")):
        with pytest.raises(BeyondFacialError, match=words):
            decode_upload(bad)


def test_photos_cannot_be_changed_by_who_holds_them():
    with pytest.raises(ValueError, match="read-only"):
        decode_photo("p", RAMP).image[0, 0] = 1


EXIF = Image.Exif()
EXIF[0x0112] = 6
GOOD = [
    encode(Image.fromarray(RAMP), "JPEG", exif=EXIF),
    encode(Image.fromarray(RAMP), "PNG"),
    encode(Image.fromarray(RAMP), "WEBP"),
    encode(Image.fromarray(RAMP).convert("P"), "GIF"),
    encode(Image.fromarray(RAMP), "TIFF", compression="tiff_lzw"),
    encode(Image.fromarray(RAMP), "BMP"),
]


def test_a_tiff_that_is_cut_off_in_its_last_numbers_is_refused():
    tiff = GOOD[4]
    for cut in range(1, 30):  # the bits of a sample are the last six bytes
        with suppress(BeyondFacialError):
            decode_photo("photo 1", tiff[:-cut])


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(GOOD), st.data())
def test_mutated_files_give_a_photo_or_a_sentence(good, data):
    broken = bytearray(good)
    for _ in range(data.draw(st.integers(1, 6))):
        broken[data.draw(st.integers(0, min(len(broken), 200) - 1))] = data.draw(st.integers(0, 255))
    broken = broken[: data.draw(st.integers(0, len(broken)))] if data.draw(st.booleans()) else broken
    began = time.process_time()
    try:
        image = decode_photo("photo 1", bytes(broken)).image
        assert image.dtype == np.uint8
        assert image.ndim == 3
        assert image.shape[2] == 3
        assert image.size
    except BeyondFacialError as error:
        sentence = str(error)
        assert '"photo 1"' in sentence
    assert time.process_time() - began < 5


@settings(max_examples=100, deadline=None)
@given(
    st.one_of(
        st.text(),
        st.binary(),
        st.none(),
        st.booleans(),
        st.floats(),
        st.lists(st.text()),
        st.dictionaries(st.text(), st.text()),
    )
)
def test_any_json_value_gives_a_sentence(source):
    with pytest.raises(BeyondFacialError, match="photo 1"):
        decode_photo("photo 1", source)
