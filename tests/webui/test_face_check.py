"""The face check, over HTTP and as the page shows it: it says what a run would do."""

from __future__ import annotations

import argparse
import base64
import io
import json
import re

import numpy as np
import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from demo.miniwebui import shared
from lib_beyondfacial.webui import bodies, face_check
from tests.faces.conftest import draw
from tests.webui.conftest import to_base64

ROUTE = "/beyondfacial/v1/faces"
BLANK = np.zeros((64, 64, 3), np.uint8)


def person(is_other=False, noise=0):
    """A picture of one of two persons whom the self-made pack takes for opposite ones."""
    picture = draw(1, noise=noise)
    face = picture[96:160, 96:160, 1:]
    face[:] = face // 8 if is_other else 255 - face // 8
    return picture


@pytest.fixture
def client(host):
    return TestClient(host.app)


def test_one_face_is_told_whole(client, photo):
    answer = client.post(ROUTE, json={"references": [photo]})
    assert answer.status_code == 200, answer.text
    result = answer.json()
    (entry,) = result["photos"]
    (face,) = entry["faces"]
    assert (result["pack"], result["problem"], result["warnings"]) == ("squares", "", [])
    assert (entry["name"], entry["width"], entry["height"], entry["used"]) == (
        "photo 1",
        256,
        256,
        True,
    )
    assert (entry["agreement"], entry["padded"], entry["detector_size"]) == (None, False, 256)
    assert np.allclose(face["box"], [96, 96, 160, 160], atol=2)
    assert face["chosen"]
    assert 0.5 < face["score"] <= 1
    thumbnail = Image.open(io.BytesIO(base64.b64decode(entry["thumbnail"])))
    assert thumbnail.size == (256, 256)


def test_the_choice_of_face_is_followed(client):
    several = to_base64(draw(1, boxes=((32, 96, 64), (144, 96, 64))))
    for index, left in ((1, 32), (2, 144)):
        body = {"references": [several], "face_choice": "from the left", "face_index": index}
        (entry,) = client.post(ROUTE, json=body).json()["photos"]
        (chosen,) = [face for face in entry["faces"] if face["chosen"]]
        assert abs(chosen["box"][0] - left) < 4
        assert "2 faces" in entry["sentence"]
    body["face_index"] = 3
    result = client.post(ROUTE, json=body).json()
    assert not result["photos"][0]["used"]
    assert "number 3" in result["problem"]


def test_what_is_dropped_is_what_a_run_drops(client):
    pictures = [person(noise=1), person(noise=2), person(noise=3), person(is_other=True), BLANK]
    references = [to_base64(picture) for picture in pictures]
    result = client.post(ROUTE, json={"references": references}).json()
    dropped = [entry["name"] for entry in result["photos"] if not entry["used"]]
    request = {"prompt": "a photo of woman", "steps": 2, "width": 64, "height": 64, "sampler_name": "Euler"}
    unit = {"references": references, "adapter": "fits", "refine_head": False}
    answer = client.post("/sdapi/v1/txt2img", json={**request, "alwayson_scripts": {"BeyondFacial": {"args": [unit]}}})
    warnings = json.loads(answer.json()["info"])["extra_generation_params"]["BeyondFacial warnings"]
    assert dropped == ["photo 4", "photo 5"]
    # the photos' warnings come first, then the picture's own: 64 px have no face
    assert warnings[:2] == result["warnings"]
    assert all(entry["agreement"] is not None for entry in result["photos"][:4])


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, "0 photos were given"),
        ({"references": ["https://example.org/x.png"]}, '"photo 1" is a URL'),
        ({"references": ["x"] * 17}, '"references" is a list of 17'),
        ({"references": [BLANK.tolist()]}, '"photo 1"'),
        ({"references": [], "face_choise": "largest"}, '"face_choise".*"face_choice"'),
        ({"references": ["x"], "face_pack": "nothing"}, '"photo 1" is not base64|"face_pack" is "nothing"'),
        ({"references": ["x"], "face_choice": "smallest"}, "\"face_choice\" is 'smallest'; it must be one of"),
    ],
)
def test_bad_requests_get_a_sentence(client, body, expected):
    answer = client.post(ROUTE, json=body)
    assert answer.status_code == 422
    assert set(answer.json()) >= {"detail"}
    assert re.search(expected, answer.json()["detail"])


def test_no_face_at_all_is_an_answer(client):
    result = client.post(ROUTE, json={"references": [to_base64(BLANK)]}).json()
    assert result["problem"].startswith('No face was found in "photo 1"')
    assert result["photos"][0]["faces"] == []


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from([field.key for field in bodies.CHECK_FIELDS]), inner),
))  # fmt: skip
def test_any_json_is_answered_with_one_sentence(client, value):
    body = json.dumps(value).encode()
    answer = client.post(ROUTE, content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    assert answer.json()["detail"].endswith(".")


def test_other_kinds_of_body_and_large_ones(client, monkeypatch):
    assert client.post(ROUTE, content="{}", headers={"Content-Type": "text/plain"}).status_code == 422
    monkeypatch.setattr(bodies, "MAX_BODY", 1000)
    assert client.post(ROUTE, json={"references": ["x" * 2000]}).status_code == 413


def test_an_error_of_ours_is_a_500_without_details(client, photo, monkeypatch, capsys):
    def broken(*_):
        raise KeyError("a detail for the console")

    monkeypatch.setattr(face_check, "check_photos", broken)
    answer = client.post(ROUTE, json={"references": [photo]})
    assert answer.status_code == 500
    assert answer.json()["detail"] == "internal error (KeyError), see the console."
    assert "a detail for the console" in capsys.readouterr().err


@pytest.mark.parametrize("route", [ROUTE, "/beyondfacial/v1/identities"])
def test_posting_asks_for_the_password(host, photo, monkeypatch, route):
    monkeypatch.setattr(shared, "cmd_opts", argparse.Namespace(api_auth="user:secret"))
    client = TestClient(host.app)
    assert client.post(route, json={"references": [photo]}).status_code == 401
    assert client.post(route, json={"references": [photo]}, auth=("user", "wrong")).status_code == 401
    assert client.delete("/beyondfacial/v1/identities/x").status_code == 401
    assert client.get("/beyondfacial/v1/identities").status_code == 401
    assert client.get("/beyondfacial/v1/models").status_code == 401
