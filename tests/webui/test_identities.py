"""Saved identities over HTTP: made, listed, used by name, renamed, deleted; and what is refused."""

from __future__ import annotations

import argparse
import base64
import io
import json
import re
import shutil

import numpy as np
import onnx
import pytest
from fastapi.testclient import TestClient
from onnx import numpy_helper
from PIL import Image

from demo.miniwebui import shared
from lib_beyondfacial.settings import BY_KEY
from lib_beyondfacial.webui import identities, infotext
from tests.faces.conftest import draw
from tests.webui.conftest import to_base64

ROUTE = "/beyondfacial/v1/identities"
RUN = {"prompt": "photo of a man", "seed": 7, "steps": 3, "width": 64, "height": 64, "sampler_name": "Euler"}
ESCAPES = ["../x", "..", "a/b", "a\\b", "/etc/passwd", "C:x", "CON", "nul.txt", "x.", "x\x00y", "x\ny", "a" * 65]


@pytest.fixture
def models_folder(host, tmp_path, monkeypatch):
    """The folder in which this test's identities lie."""
    monkeypatch.setattr(shared.cmd_opts, "beyondfacial_models_dir", str(tmp_path), raising=False)
    return tmp_path / "beyondfacial" / "identities"


@pytest.fixture
def client(host, models_folder):
    return TestClient(host.app)


def ask(client, **unit):
    request = {**RUN, "alwayson_scripts": {"BeyondFacial": {"args": [{"adapter": "fits", **unit}]}}}
    return client.post("/sdapi/v1/txt2img", json=request)


def pixels(answer):
    assert answer.status_code == 200, answer.text
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(answer.json()["images"][0]))))


def parameters(answer):
    return json.loads(answer.json()["info"])["extra_generation_params"]


def test_the_whole_life_of_one(client, models_folder, photo, other_photo):
    assert client.get(ROUTE).json() == {"identities": [], "writes": True}
    made = client.post(ROUTE, json={"name": "Anna Müller", "references": [photo, other_photo]})
    assert made.status_code == 200, made.text
    entry = made.json()
    assert entry.pop("warnings") == []
    assert client.get(ROUTE).json()["identities"] == [entry]
    assert (entry["name"], entry["photos"], entry["packs"], entry["has_crops"]) == (
        "Anna Müller",
        2,
        ["squares"],
        False,
    )
    assert Image.open(io.BytesIO(base64.b64decode(entry["thumbnail"]))).size == (128, 128)

    by_photos = ask(client, references=[photo, other_photo], idap_strength=0.0)
    by_name = ask(client, identity="Anna Müller", idap_strength=0.0)
    assert (pixels(by_photos) == pixels(by_name)).all()
    assert parameters(by_name)[infotext.PHOTOS_KEY] == entry["photo_hash"]

    renamed = client.post(ROUTE, json={"name": "Anna Müller", "rename_to": "Anna"})
    assert renamed.json()["photo_hash"] == entry["photo_hash"]
    assert [each["name"] for each in client.get(ROUTE).json()["identities"]] == ["Anna"]
    assert client.delete(f"{ROUTE}/Anna").json() == {"deleted": "Anna"}
    assert client.get(ROUTE).json()["identities"] == []
    assert list(models_folder.iterdir()) == []
    gone = ask(client, identity="Anna")
    assert gone.status_code == 422
    assert 'no saved identity "Anna"' in gone.json()["detail"]


def test_the_start_works_from_the_saved_head(client, photo):
    """The head of the photo is saved small: the picture is near the photos' own, and not the one without a start."""
    client.post(ROUTE, json={"name": "Anna", "references": [photo]})
    pictures = [
        pixels(ask(client, **person, idap_strength=strength)).astype(int)
        for person, strength in (
            ({"references": [photo]}, 1.0),
            ({"identity": "Anna"}, 1.0),
            ({"identity": "Anna"}, 0.0),
        )
    ]
    same, plain = np.abs(pictures[0] - pictures[1]).mean(), np.abs(pictures[0] - pictures[2]).mean()
    assert same < plain / 2


def test_the_name_is_in_the_infotext_only_if_wanted(client, photo):
    client.post(ROUTE, json={"name": "Anna", "references": [photo]})
    for wanted in (False, True):
        answer = ask(client, identity="Anna", identity_in_infotext=wanted)
        assert ("Anna" in answer.json()["info"]) is wanted
        assert parameters(answer)[infotext.PHOTOS_KEY]


def test_pasting_finds_the_person_by_the_photos(client, photo, other_photo):
    client.post(ROUTE, json={"name": "Anna", "references": [photo]})
    key = next(key for key in map(infotext.paste_key, infotext.PASTED_FIELDS) if key == "BeyondFacial identity")
    assert key(parameters(ask(client, references=[photo]))) == "Anna"
    assert key(parameters(ask(client, references=[other_photo]))) == BY_KEY["identity"].empty
    assert key({**parameters(ask(client, references=[other_photo])), key: "Berta"}) == "Berta"
    assert key({"Steps": "3"}) is None
    client.post(ROUTE, json={"name": "Anna", "rename_to": "Berta"})
    assert key({**parameters(ask(client, references=[photo])), key: "Anna"}) == "Berta"  # it is she, renamed since


def test_an_existing_name_is_kept_unless_told(client, photo, other_photo):
    client.post(ROUTE, json={"name": "Anna", "references": [photo]})
    first = client.get(ROUTE).json()
    again = {"name": "Anna", "references": [other_photo]}
    refused = client.post(ROUTE, json=again)
    assert refused.status_code == 422
    assert 'already a saved identity "Anna"' in refused.json()["detail"]
    assert client.get(ROUTE).json() == first
    assert client.post(ROUTE, json={**again, "overwrite": True, "keep_crops": True}).status_code == 200
    (entry,) = client.get(ROUTE).json()["identities"]
    assert entry["photo_hash"] != first["identities"][0]["photo_hash"]
    assert entry["has_crops"]


@pytest.mark.parametrize("name", ESCAPES)
def test_names_that_lead_elsewhere_are_refused(client, models_folder, tmp_path, photo, name):
    client.post(ROUTE, json={"name": "Anna", "references": [photo]})
    before = sorted(path for path in tmp_path.rglob("*"))
    answers = [
        client.post(ROUTE, json={"name": name, "references": [photo]}),
        client.post(ROUTE, json={"name": "Anna", "rename_to": name}) if name.strip() else None,
        client.delete(ROUTE, params={"name": name}),
    ]
    for answer in filter(None, answers):
        assert answer.status_code == 422, answer.text
        assert re.search("cannot be the name of an identity|name.*must be text", answer.json()["detail"])
    assert ask(client, identity=name).status_code == 422
    assert sorted(path for path in tmp_path.rglob("*")) == before


@pytest.mark.parametrize("path", ["..%2fx", "%2e%2e", "a%2fb", "..%5cx", "%00", "CON"])
def test_paths_that_lead_elsewhere_are_refused(client, models_folder, tmp_path, path):
    victim = tmp_path / "beyondfacial" / "x.safetensors"
    models_folder.mkdir(parents=True)
    victim.write_bytes(b"precious")
    assert client.delete(f"{ROUTE}/{path}").status_code in (404, 405, 422)
    assert victim.read_bytes() == b"precious"


def test_a_link_out_of_the_folder_is_not_followed(client, models_folder, tmp_path):
    models_folder.mkdir(parents=True)
    secret = tmp_path / "secret.safetensors"
    secret.write_bytes(b"precious")
    (models_folder / "linked.safetensors").symlink_to(secret)
    (entry,) = client.get(ROUTE).json()["identities"]
    assert entry["problem"]
    assert client.delete(f"{ROUTE}/linked").status_code == 422
    assert secret.read_bytes() == b"precious"


def test_a_damaged_file_is_listed_with_its_sentence(client, models_folder, photo):
    client.post(ROUTE, json={"name": "Anna", "references": [photo]})
    (models_folder / "Broken.safetensors").write_bytes(b"not weights")
    listed = {entry["name"]: entry for entry in client.get(ROUTE).json()["identities"]}
    assert listed["Anna"]["problem"] == ""
    assert "Broken" in listed["Broken"]["problem"]
    assert str(models_folder) not in listed["Broken"]["problem"]
    assert client.delete(f"{ROUTE}/Broken").status_code == 200


@pytest.mark.parametrize(
    ("method", "body", "status", "expected"),
    [
        ("POST", {"references": []}, 422, "cannot be the name"),
        ("POST", {"name": "x"}, 422, '"references" is empty'),
        ("POST", {"name": "x", "references": ["no"], "rename_to": "y"}, 422, "send only one of them"),
        ("POST", {"name": "x", "rename_to": "y"}, 404, 'no saved identity "x"'),
        ("POST", {"name": "x", "references": [to_base64(np.zeros((64, 64, 3), np.uint8))]}, 422, "No face was found"),
        ("POST", {"name": ["x"]}, 422, '"name" is'),
        ("POST", {"name": "x", "keep_crops": "yes"}, 422, '"keep_crops" is'),
        ("DELETE", {"name": "x"}, 404, 'no saved identity "x"'),
        ("DELETE", {}, 422, "cannot be the name"),
    ],
)
def test_what_is_wrong_is_named(client, method, body, status, expected):
    answer = client.post(ROUTE, json=body) if method == "POST" else client.delete(ROUTE, params=body)
    assert answer.status_code == status, answer.text
    assert expected in answer.json()["detail"]


def test_no_writes_where_others_can_reach_it(client, monkeypatch, photo, tmp_path):
    client.post(ROUTE, json={"name": "Anna", "references": [photo]})
    flags = argparse.Namespace(listen=True, beyondfacial_models_dir=str(tmp_path), api_auth=None)
    monkeypatch.setattr(shared, "cmd_opts", flags)
    for answer in (
        client.post(ROUTE, json={"name": "Berta", "references": [photo]}),
        client.post(ROUTE, json={"name": "Anna", "rename_to": "Berta"}),
        client.delete(f"{ROUTE}/Anna"),
        client.delete(ROUTE, params={"name": "Anna"}),
    ):
        assert answer.status_code == 403
        assert "--beyondfacial-allow-writes" in answer.json()["detail"]
    listed = client.get(ROUTE).json()
    assert [entry["name"] for entry in listed["identities"]] == ["Anna"]
    assert listed["writes"] is False
    flags.beyondfacial_allow_writes = True
    assert client.delete(f"{ROUTE}/Anna").status_code == 200


def test_the_pack_that_it_was_not_saved_with_is_said(client, models_folder, host, models_dir, photo):
    """Without crops another recogniser cannot use it; with crops it can."""
    other = models_folder.parents[1] / "insightface/models/another"
    shutil.copytree(models_dir / "insightface/models/squares", other)
    recogniser = onnx.load(str(other / "rec.onnx"))
    (matrix,) = (each for each in recogniser.graph.initializer if each.name == "matrix")
    matrix.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(matrix)[::-1].copy(), "matrix"))
    onnx.save(recogniser, str(other / "rec.onnx"))
    for keep in (False, True):
        body = {"name": f"crops {keep}", "references": [photo], "keep_crops": keep, "face_pack": "squares"}
        assert client.post(ROUTE, json=body).status_code == 200
    refused = ask(client, identity="crops False", face_pack="another")
    assert refused.status_code == 422
    assert all(f'"{name}"' in refused.json()["detail"] for name in ("squares", "another"))
    assert ask(client, identity="crops True", face_pack="another").status_code == 200


def test_one_library_for_each_folder(models_folder, tmp_path, monkeypatch):
    first = identities.library()
    assert identities.library() is first
    monkeypatch.setattr(shared.cmd_opts, "beyondfacial_models_dir", str(tmp_path / "other"))
    assert identities.library() is not first


def test_somebody_drawn_is_not_mixed_up(client):
    for name, person in (("Anna", 1), ("Berta", 2)):
        client.post(ROUTE, json={"name": name, "references": [to_base64(draw(person))]})
    first, second = (pixels(ask(client, identity=name)) for name in ("Anna", "Berta"))
    assert (first != second).any()
