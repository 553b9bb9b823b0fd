"""Sixty odd photo files: each read right or refused with a sentence; time and memory are bounded."""

from __future__ import annotations

import io
import json
import os
import threading
import time

import numpy as np
import pytest
from PIL import Image

from lib_beyondfacial.errors import BeyondFacialError
from lib_beyondfacial.faces import decode_photo, photos
from lib_beyondfacial.faces.containers import count_scans
from tests.alone import run_alone
from tests.faces import odd_photos
from tests.faces.odd_photos import CASES, COLOUR

GREY_OF_COLOUR, GREY_16_BIT = 135, 140


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory) -> dict[str, dict]:
    """All cases, decoded in a process of its own."""
    output = run_alone("-m", "tests.faces.odd_photos", tmp_path_factory.mktemp("odd"))
    lines = [json.loads(line) for line in output.splitlines()]
    print(
        "slowest", max(lines, key=lambda each: each["seconds"]), "largest", max(lines, key=lambda each: each["grown"])
    )
    return {each["name"]: each for each in lines}


@pytest.mark.parametrize("name", CASES)
def test_odd_photo(name, outcomes):
    want, found = CASES[name][1], outcomes[name]
    if isinstance(want, str):
        assert want in found["sentence"]
        assert '"photo 1"' in found["sentence"]
        assert found["sentence"].endswith(".")
    else:
        assert "sentence" not in found, found
        assert tuple(found["size"]) == want
        grey = {"200 megapixels": GREY_OF_COLOUR, "16 bit": GREY_16_BIT, "float TIFF of 25 megapixels": GREY_16_BIT}
        if "texture" not in name:
            expected = (grey[name],) * 3 if name in grey else COLOUR
            assert np.abs(np.subtract(found["pixel"], expected)).max() <= 3
    assert found["seconds"] < 3
    decoded = np.prod(found.get("size", (0, 0)), dtype=np.int64) * 3 / 1e6
    assert found["grown"] < 300 + decoded


def test_cut_off_anywhere_is_a_sentence():
    """Each form, at ten places."""
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8))
    forms = {"JPEG": {}, "PNG": {}, "WEBP": {}, "GIF": {}, "BMP": {}, "TIFF": {"compression": "tiff_lzw"}}
    for form, options in forms.items():
        buffer = io.BytesIO()
        picture.save(buffer, form, **options)
        data = buffer.getvalue()
        for tenth in range(1, 10):
            with pytest.raises(BeyondFacialError, match='"photo 1" is a (damaged|TIFF)'):
                decode_photo("photo 1", data[: len(data) * tenth // 10])


def test_scans_are_counted_by_markers():
    data = odd_photos.jpeg(progressive=True)
    assert count_scans(data) == 10
    assert count_scans(odd_photos.jpeg()) == 1
    assert count_scans(odd_photos.with_segments(odd_photos.segment(0xE5, b"\xff\xda" * 100), after=data)) == 1
    assert count_scans(b"") == count_scans(b"\xff\xd8\xff\xda") == 0


SIXTEEN = """
import base64
from lib_beyondfacial.webui import person
from lib_beyondfacial.settings import Settings
from tests.faces import odd_photos
data = base64.b64encode(odd_photos.encode(odd_photos.plain(5000, 5000), "PNG")).decode()
before = odd_photos.peak_mb()
photos = person.load_photos(Settings(references=(data,) * 16), is_api=True)
print(len(photos), odd_photos.peak_mb() - before)
"""


def test_sixteen_large_photos_stay_small_in_memory():
    """16 PNGs of 25 megapixels, 1.5 MB in all, took 1.4 GB."""
    assert photos.pixels_each(1) == photos.pixels_each(8) == photos.KEPT_PIXELS
    assert 16 * 3 * photos.pixels_each(16) <= 303_000_000
    script = f"from demo.miniwebui import host\nhost.install_import_names()\n{SIXTEEN}"
    count, grown = run_alone("-c", script).split()
    print(f"{grown} MB")
    assert count == "16"
    assert float(grown) < 600
    small = decode_photo("p", odd_photos.jpeg(3000, 2000), 1_000_000).image
    assert small.shape == (816, 1224, 3)
    assert np.abs(small.astype(int) - COLOUR).max() <= 3


def test_a_profile_of_srgb_changes_no_pixel():
    ramp = np.random.default_rng(0).integers(0, 256, (40, 40, 3)).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(ramp).save(buffer, "PNG", icc_profile=odd_photos.profile_of("sRGB"))
    np.testing.assert_array_equal(decode_photo("p", buffer.getvalue()).image, ramp)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes as POSIX has them")
def test_a_pipe_among_the_uploads_does_not_hang(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    outcome: list[str] = []

    def read() -> None:
        try:
            photos.decode_upload(tmp_path / "pipe.png", folders=[tmp_path])
        except BeyondFacialError as error:
            outcome.append(str(error))

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    thread.join(5)
    assert outcome == ['"pipe.png" cannot be read any more; upload it again.']


def test_a_text_of_hundreds_of_thousands_of_chunks_is_quick():
    began = time.process_time()
    data = odd_photos.png_with(odd_photos.chunk(b"tEXt", b"") * 400_000)
    assert decode_photo("p", data).image.shape == (64, 64, 3)
    assert time.process_time() - began < 3
