"""POST /beyondfacial/v1/validate tells what a request would be report, and generates nothing."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from fastapi.testclient import TestClient

from lib_beyondfacial.hosts.run import Run
from lib_beyondfacial.settings import Settings
from lib_beyondfacial.webui import person, validation
from lib_beyondfacial.webui import run as requests
from tests.webui.conftest import to_base64
from tests.webui.test_requests import with_args


@pytest.fixture
def ask(host):
    client = TestClient(host.app)

    def ask(unit):
        answer = client.post("/beyondfacial/v1/validate", json=unit)
        assert answer.status_code == 200, answer.text
        return answer.json()

    return ask


@pytest.fixture
def sentence_for(host):
    """The sentence with which a real request is refused."""
    client = TestClient(host.app)

    def sentence_for(unit):
        answer = client.post("/sdapi/v1/txt2img", json=with_args(unit))
        assert answer.status_code == 422, answer.text
        return answer.json()["detail"].removeprefix("BeyondFacial: ")

    return sentence_for


def test_a_good_unit_has_no_problems(ask, photo):
    report = ask({"references": [photo], "adapter": "fits"})
    assert report == {
        "problems": [],
        "warnings": [],
        "adapter": "fits",
        "pack": "squares",
        "rows": {"steps": 20, "plain": 40, "identity": 12, "refinement": 8},
    }


def test_nothing_is_generated(ask, photo, monkeypatch):
    monkeypatch.setattr(Run, "__init__", None)
    assert ask({"references": [photo], "adapter": "fits"})["problems"] == []


@pytest.mark.parametrize(
    "unit",
    [
        {"references": []},
        {"weight": 99},
        {"weight": "1", "references": []},
        {"start": 0.5, "stop": 0.5},
        {"adapter": "absent"},
        {"adapter": "made_for_sdxl"},
        {"adapter": "text"},
        {"references": ["AAAA"]},
        {"identity": "Anna"},
        {"embedding": "AAAA", "references": []},
        {"references": [], "identity": "Nobody"},
        {"face_pack": "absent"},
    ],
    ids=str,
)
def test_a_problem_is_the_requests_sentence(ask, sentence_for, photo, unit):
    unit = {"references": [photo], "adapter": "fits", **unit}
    assert ask(unit)["problems"][0] == sentence_for(unit)


def test_all_problems_of_the_settings_are_told_at_once(ask):
    report = ask({"weight": 99, "stride": 0, "wieght": 1, "references": []})
    assert [each.split('"')[1] for each in report["problems"]] == ["stride", "weight", "wieght"]
    report = ask({"start": 0.5, "stop": 0.5})
    assert [each.split('"')[1] for each in report["problems"]] == ["start", "references"]


def test_switched_off_is_checked_as_if_it_were_on(ask, photo):
    assert ask({"references": [photo], "adapter": "fits", "enabled": False})["rows"]
    assert '"enabled"' in ask({"enabled": 1})["problems"][0]


def test_warnings_are_a_list(ask, photo):
    blank = to_base64(np.zeros((64, 64, 3), np.uint8))
    report = ask({"references": [photo, blank], "adapter": "fits", "id_prompt": "{subject}"})
    assert len(report["warnings"]) == 2
    assert "photo 2" in report["warnings"][0]
    assert "{subject}" in report["warnings"][1]


@pytest.mark.parametrize(
    ("more", "identity"),
    [({}, 21), ({"idap_strength": 0}, 20), ({"start": 0.5}, 11), ({"stride": 4}, 6), ({"mask_strength": 0}, 0)],
)
def test_rows_follow_the_settings(host, photo, more, identity):
    settings = Settings(
        references=(photo,), adapter="fits", refine_head=False, **{"start": 0, "idap_strength": 0.5, **more}
    )
    plan = requests.make_plan(settings, person.load_person(settings, True))
    assert validation.count_rows(plan) == {"steps": 20, "plain": 40, "identity": identity, "refinement": 0}


def test_rows_are_those_of_a_run(host, photo, monkeypatch):
    recorded, release = [], Run.release
    monkeypatch.setattr(Run, "release", lambda run: (recorded.append(run.report.identity_rows), release(run)))
    unit = {
        "references": [photo],
        "adapter": "fits",
        "refine_head": False,
        "start": 0.3,
        "stop": 0.9,
        "idap_strength": 0.5,
    }
    report = TestClient(host.app).post("/beyondfacial/v1/validate", json=unit).json()["rows"]
    answer = TestClient(host.app).post("/sdapi/v1/txt2img", json=with_args(unit, steps=report["steps"]))
    assert answer.status_code == 200, answer.text
    assert max(recorded) == report["identity"] == 13


@pytest.mark.parametrize("stand_in", [None, SimpleNamespace(cond_stage_model=None)], ids=["none", "Forge's"])
def test_before_a_checkpoint_is_loaded_it_is_said_that_none_was_asked(ask, photo, monkeypatch, stand_in):
    monkeypatch.setattr(validation.loaded_model, "loaded_model", lambda: stand_in)
    report = ask({"references": [photo], "adapter": "made_for_sdxl"})
    assert report["problems"] == []
    assert validation.NOT_CHECKED in report["warnings"]


def test_the_routes_are_described(host):
    document = TestClient(host.app).get("/openapi.json").json()
    ours = {path: each for path, each in document["paths"].items() if path.startswith("/beyondfacial/v1")}
    assert len(ours) >= 9
    for path, methods in ours.items():
        for method, described in methods.items():
            assert described["summary"], path
            assert described["tags"] == ["BeyondFacial"]
            if method == "post":
                content = described["requestBody"]["content"]["application/json"]
                assert content["example"].keys() <= content["schema"]["properties"].keys()
                assert set(content["schema"].get("required", [])) <= content["example"].keys()
    report = ours["/beyondfacial/v1/validate"]["post"]["responses"]["200"]["content"]["application/json"]["example"]
    assert report.keys() == {"problems", "warnings", "adapter", "pack", "rows"}
    options = ours["/beyondfacial/v1/identities/{name}/export"]["get"]["parameters"]
    assert [each["name"] for each in options] == ["name", "adapter", "adapter_family", "keep_crops", "head_crop"]
