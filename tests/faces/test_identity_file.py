"""A saved identity's file as something that anybody may have written: each part is checked, in 300 mutations too."""

from __future__ import annotations

import json
import re
import time

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lib_beyondfacial.errors import BeyondFacialError
from lib_beyondfacial.faces import identity_file
from lib_beyondfacial.faces.identity_file import Record, Space, bytes_to_record, record_to_bytes
from tests.faces.scripted import direction

COUNT = 2


def space(name: str = "buffalo_l:0123456789", count: int = COUNT) -> Space:
    photos = np.stack([direction(*[0.1] * i, 1) for i in range(count)]).astype(np.float32)
    return Space(
        name,
        direction(1, 1).astype(np.float32),
        21.5,
        photos,
        np.linspace(20, 23, count, dtype=np.float32),
        np.full(count, 1 / count, np.float32),
    )


def record(**changes) -> Record:
    rng = np.random.default_rng(1)
    values = {
        "photo_hash": "00ff00ff00",
        "created": "2026-01-02T03:04:05Z",
        "thumbnail": rng.integers(0, 256, (128, 128, 3)).astype(np.uint8),
        "spaces": (space(), space("antelopev2:abcdefabcd")),
        "gender": "female",
        "aligned": rng.integers(0, 256, (COUNT, 224, 224, 3)).astype(np.uint8),
    }
    return Record(**{**values, **changes})


def edited(data: bytes, **changes) -> bytes:
    """The same file with other metadata; "identity" takes changes to the JSON inside."""
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    metadata = header["__metadata__"]
    about = changes.pop("identity", {})
    metadata["identity"] = about if isinstance(about, str) else json.dumps(json.loads(metadata["identity"]) | about)
    metadata.update(changes)
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data[8 + size :]


def test_what_is_written_is_read():
    written = record()
    read = bytes_to_record("Anna", record_to_bytes(written))
    assert (read.photo_hash, read.created, read.gender) == (written.photo_hash, written.created, written.gender)
    np.testing.assert_array_equal(read.thumbnail, written.thumbnail)
    np.testing.assert_array_equal(read.aligned, written.aligned)
    for found, reference in zip(read.spaces, written.spaces, strict=True):
        assert (found.id, found.norm) == (reference.id, reference.norm)
        for key in ("embedding", "photos", "norms", "weights"):
            np.testing.assert_array_equal(getattr(found, key), getattr(reference, key))
    bare = bytes_to_record("Anna", record_to_bytes(record(gender=None, aligned=None, spaces=(space(),))))
    assert bare.aligned is None
    assert bare.gender is None


def test_the_largest_that_can_be_saved_fits_the_limit():
    most = record(
        spaces=tuple(space(f"pack{i}:0123456789", 16) for i in range(identity_file.MAX_SPACES)),
        aligned=np.zeros((16, 224, 224, 3), np.uint8),
    )
    data = record_to_bytes(most)
    assert len(data) < identity_file.MAX_FILE
    assert len(bytes_to_record("Anna", data).spaces[7].photos) == 16


def bad_spaces():
    good = space()
    nan = np.full_like(good.norms, np.nan)
    for change in (
        {"photos": good.photos * 2},
        {"photos": good.photos[:, :100]},
        {"photos": good.photos.astype(np.float16)},
        {"photos": np.zeros((0, 512), np.float32), "norms": nan[:0], "weights": nan[:0]},
        {"embedding": good.embedding * 0},
        {"embedding": good.photos},
        {"norms": nan},
        {"norms": -good.norms},
        {"norms": good.norms[:1]},
        {"weights": good.weights * 3},
        {"weights": np.array([2, -1], np.float32)},
        {"norm": float("nan")},
        {"norm": -1.0},
        {"id": "buffalo_l"},
        {"id": "a\nb:0123456789"},
        {"id": "x" * 200 + ":0123456789"},
    ):
        yield Space(**{**good.__dict__, **change})


BAD_RECORDS = {
    **{f"space {i}": {"spaces": (each,), "aligned": None} for i, each in enumerate(bad_spaces())},
    "no space": {"spaces": (), "aligned": None},
    "too many spaces": {"spaces": tuple(space(f"p{i}:0123456789") for i in range(9))},
    "spaces of other photos": {"spaces": (space(), space("b:0123456789", 3))},
    "thumbnail": {"thumbnail": np.zeros((128, 128), np.uint8)},
    "large thumbnail": {"thumbnail": np.zeros((512, 512, 3), np.uint8)},
    "float thumbnail": {"thumbnail": np.zeros((128, 128, 3), np.float32)},
    "crops of other photos": {"aligned": np.zeros((COUNT + 1, 224, 224, 3), np.uint8)},
    "small crops": {"aligned": np.zeros((COUNT, 112, 112, 3), np.uint8)},
    "gender": {"gender": "<script>"},
    "hash": {"photo_hash": "../../../x"},
    "date": {"created": "yesterday"},
}


@pytest.mark.parametrize("what", BAD_RECORDS)
def test_each_part_is_checked(what):
    with pytest.raises(BeyondFacialError, match='saved identity "Anna" is damaged'):
        bytes_to_record("Anna", record_to_bytes(record(**BAD_RECORDS[what])))


def test_metadata_is_checked():
    good = record_to_bytes(record())
    assert bytes_to_record("Anna", edited(good)).photo_hash == "00ff00ff00"
    for changes in (
        {"format": "another"},
        {"version": "one"},
        {"identity": "[" * 100_000},
        {"identity": "null"},
        {"identity": {"spaces": None}},
        {"identity": {"spaces": {"a": 1}}},
        {"identity": {"norms": []}},
        {"identity": {"norms": ["1", "2"]}},
        {"identity": {"photo_hash": 5}},
        {"identity": {"created": None}},
    ):
        with pytest.raises(BeyondFacialError, match='saved identity "Anna" is damaged'):
            bytes_to_record("Anna", edited(good, **changes))
    with pytest.raises(BeyondFacialError, match='"Anna" is of a newer version of BeyondFacial; update'):
        bytes_to_record("Anna", edited(good, version="2"))


GOOD = [record_to_bytes(record(aligned=None)), record_to_bytes(record(spaces=(space(),), gender=None, aligned=None))]


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(GOOD), st.data())
def test_mutated_files_give_a_record_or_a_sentence(good, data):
    broken = bytearray(good)
    header = int.from_bytes(good[:8], "little")
    for _ in range(data.draw(st.integers(1, 6))):
        place = data.draw(st.one_of(st.integers(0, 9), st.integers(8, 8 + header), st.integers(0, len(good) - 1)))
        broken[place] = data.draw(st.integers(0, 255))
    broken = broken[: data.draw(st.integers(0, len(broken)))] if data.draw(st.booleans()) else broken
    began = time.process_time()
    try:
        read = bytes_to_record("Anna", bytes(broken))
    except BeyondFacialError as error:
        expected = str(error)
        assert re.search('"Anna" is (damaged|of a newer)', expected)
    else:
        assert all(np.isfinite(each.photos).all() for each in read.spaces)
        assert read.thumbnail.shape == (128, 128, 3)
    assert time.process_time() - began < 5
