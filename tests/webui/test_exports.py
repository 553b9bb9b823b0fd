"""Identities as one text: an export instead of photos gives the very same picture, and lacks are named."""

from __future__ import annotations

import base64
import json
from dataclasses import replace

import numpy as np
import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lib_beyondfacial.errors import BeyondFacialError
from lib_beyondfacial.faces.identity_file import (
    MAX_EXPORT,
    VERSION,
    Record,
    embedding_to_record,
    record_to_bytes,
    record_to_embedding,
)
from lib_beyondfacial.settings import MAX_EMBEDDING, Settings
from lib_beyondfacial.webui import exports, folders, person
from tests.faces.test_identity_file import edited, record, space
from tests.webui.test_requests import pixels, with_args

ROOT = "/beyondfacial/v1/identities"
ALLOWED = {"max_examples": 300, "deadline": None, "suppress_health_check": list(HealthCheck)}


@pytest.fixture
def client(host, tmp_path, monkeypatch):
    from modules import shared

    monkeypatch.setattr(shared.cmd_opts, "beyondfacial_models_dir", str(tmp_path), raising=False)
    return TestClient(host.app)


def exported(client, photo, **more):
    answer = client.post(f"{ROOT}/export", json={"references": [photo], "adapter": "fits", **more})
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_an_export_of_photos_gives_the_photos_picture(client, photo, other_photo):
    unit = {"adapter": "fits", "references": [photo, other_photo], "show_mask": True, "idap_strength": 0.5}
    by_photos = client.post("/sdapi/v1/txt2img", json=with_args(unit, batch_size=2))
    report = client.post(f"{ROOT}/export", json={"references": unit["references"], "adapter": "fits"}).json()
    unit = {**unit, "references": [], "embedding": report["embedding"]}
    by_export = client.post("/sdapi/v1/txt2img", json=with_args(unit, batch_size=2))
    assert by_export.status_code == 200, by_export.text
    assert pixels(by_export) == pixels(by_photos)
    first, second = (json.loads(answer.json()["info"])["extra_generation_params"] for answer in (by_photos, by_export))
    assert first["BeyondFacial photos"] == second["BeyondFacial photos"] == report["photo_hash"]
    assert first["BeyondFacial report"] == second["BeyondFacial report"]
    assert report["embedding"][:40] not in by_export.json()["info"]


def test_the_answer_lists_the_parts(client, photo):
    report = exported(client, photo)
    (pack,) = report["parts"].pop("packs")
    assert pack.startswith("squares:")
    assert report["parts"] == {"photos": 1, "features": [], "head_crop": True, "face_crops": False}
    assert report["warnings"] == []
    more = exported(client, photo, keep_crops=True, head_crop=False)["parts"]
    assert (more["head_crop"], more["face_crops"]) == (False, True)


def test_a_saved_identity_exports_what_it_would_be(client, photo):
    saved = client.post(ROOT, json={"name": "Anna", "references": [photo], "keep_crops": True})
    assert saved.status_code == 200, saved.text
    report = client.get(f"{ROOT}/Anna/export?adapter=fits").json()
    made = [
        client.post("/sdapi/v1/txt2img", json=with_args({"adapter": "fits", **person_unit}))
        for person_unit in ({"identity": "Anna"}, {"embedding": report["embedding"]})
    ]
    assert pixels(made[0]) == pixels(made[1])
    assert not report["parts"]["face_crops"]
    assert client.get(f"{ROOT}/Anna/export?adapter=fits&keep_crops=true").json()["parts"]["face_crops"]
    assert client.get(f"{ROOT}/Berta/export").status_code == 404
    wrong = client.get(f"{ROOT}/Anna/export?crops=true")
    assert wrong.status_code == 422
    assert '"keep_crops"' in wrong.json()["detail"]
    assert client.get(f"{ROOT}/Anna/export?keep_crops=2").status_code == 422


def test_no_adapter_is_a_warning_and_a_wrong_one_an_error(client, photo, monkeypatch):
    monkeypatch.setattr(folders, "adapters_by_name", dict)
    (warning,) = exported(client, photo, adapter="")["warnings"]
    assert "No identity adapter was found" in warning
    monkeypatch.undo()
    answer = client.post(f"{ROOT}/export", json={"references": [photo], "adapter": "absent"})
    assert answer.status_code == 422
    assert '"absent"' in answer.json()["detail"]


def test_a_head_crop_that_the_start_needs_is_named(client, photo):
    unit = {"adapter": "fits", "embedding": exported(client, photo, head_crop=False)["embedding"]}
    answer = client.post("/sdapi/v1/txt2img", json=with_args({**unit, "idap_strength": 0.5}))
    assert answer.status_code == 422
    assert '"head_crop"' in answer.json()["detail"]
    assert client.post("/sdapi/v1/txt2img", json=with_args({**unit, "idap_strength": 0})).status_code == 200


def test_a_pack_that_it_was_not_made_with_is_named(client, photo):
    made = embedding_to_record(exported(client, photo)["embedding"])
    other = replace(made, spaces=(replace(made.spaces[0], id="others:0123456789"),))
    unit = Settings(adapter="fits", embedding=record_to_embedding(other))
    with pytest.raises(BeyondFacialError, match='face pack "others".*cannot be used with "squares"'):
        person.load_person(unit, True)


def test_clip_features_travel_under_their_models_hash(client, photo, monkeypatch):
    """An adapter that asks CLIP finds its features in the export, without a CLIP model and without crops."""
    features = {"clip:0123456789": np.random.default_rng(1).normal(size=(1, 257, 1280)).astype(np.float32)}
    monkeypatch.setattr(exports, "compute_portable", lambda *_: features)
    report = exported(client, photo)
    assert report["parts"]["features"] == ["clip:0123456789"]
    made = Settings(adapter="fits", embedding=report["embedding"])
    identity = person.load_person(made, True).identity
    (found,) = person.compute_features(identity, ["clip"], []).values()
    np.testing.assert_array_equal(found.numpy(), features["clip:0123456789"])
    bare = replace(identity, features={})
    with pytest.raises(BeyondFacialError, match='"embedding" holds neither CLIP features nor face crops'):
        person.compute_features(bare, ["clip"], [])


LARGEST = {
    "spaces": tuple(space(f"pack{i}:0123456789", 16) for i in range(8)),
    "aligned": np.zeros((16, 224, 224, 3), np.uint8),
    "thumbnail": np.zeros((256, 256, 3), np.uint8),
    "features": {f"clip:{i:010}": np.zeros((1, 257, 1280), np.float32) for i in range(2)},
}


def test_the_largest_export_fits_the_setting():
    text = record_to_embedding(record(**LARGEST))
    assert len(text) < MAX_EMBEDDING
    assert len(embedding_to_record(Settings(embedding=text).embedding).features) == 2


@pytest.mark.parametrize(
    "changes",
    [
        {"thumbnail": np.zeros((129, 129, 3), np.uint8)},
        {"features": {f"clip:{i:010}": np.zeros(1, np.float32) for i in range(3)}},
        {"features": {"clip:0123456789": np.zeros(400_001, np.float32)}},
        {"features": {"clip:0123456789": np.full(3, np.nan, np.float32)}},
        {"features": {"clip:0123456789": np.zeros(3, np.float64)}},
    ],
)
def test_each_part_of_an_export_is_checked(changes):
    with pytest.raises(BeyondFacialError, match='"embedding" is damaged or no exported identity; export it again'):
        embedding_to_record(record_to_embedding(record(**changes)))


def test_texts_that_are_no_export_are_refused():
    good = record_to_bytes(record(aligned=None))
    newer = base64.b64encode(edited(good, version=str(VERSION + 1))).decode()
    with pytest.raises(BeyondFacialError, match='"embedding" is of a newer version'):
        embedding_to_record(newer)
    for data in (b"", b"\xff" * 8, b"\x10" + bytes(30), bytes(MAX_EXPORT + 1), good[:-1]):
        with pytest.raises(BeyondFacialError, match="no exported identity"):
            embedding_to_record(base64.b64encode(data).decode())


GOOD = record_to_bytes(record(aligned=None, features={"clip:0123456789": np.ones((1, 3, 4), np.float32)}))


@settings(**ALLOWED)
@given(st.data())
def test_mutated_exports_give_a_record_or_a_sentence(data):
    broken = bytearray(GOOD)
    header = int.from_bytes(GOOD[:8], "little")
    for _ in range(data.draw(st.integers(1, 6))):
        place = data.draw(st.one_of(st.integers(0, 9), st.integers(8, 8 + header), st.integers(0, len(GOOD) - 1)))
        broken[place] = data.draw(st.integers(0, 255))
    try:
        made = embedding_to_record(base64.b64encode(broken).decode())
    except BeyondFacialError as error:
        assert "embedding" in str(error)  # noqa: PT017  a sentence is as good as a record
    else:
        assert isinstance(made, Record)
