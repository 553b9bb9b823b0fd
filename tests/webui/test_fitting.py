"""Which adapter a request without a name means: the only one that can be used with the loaded model."""

from __future__ import annotations

import json

import pytest
from fastapi.testclient import TestClient

from lib_beyondfacial.errors import BeyondFacialError
from lib_beyondfacial.webui import fitting, folders, listings
from tests.random_adapter import write_faceid_adapter

REQUEST = {"prompt": "photo of a man", "steps": 2, "width": 64, "height": 64, "sampler_name": "Euler"}


@pytest.fixture
def adapters(host, monkeypatch, tmp_path):
    """adapters("fits", ...) leaves these of the models folder; "fits_too" is one that fits as well."""
    known = folders.adapters_by_name()
    write_faceid_adapter(tmp_path / "fits_too.safetensors")
    known["fits_too"] = tmp_path / "fits_too.safetensors"

    def leave(*names):
        monkeypatch.setattr(folders, "adapters_by_name", lambda: {name: known[name] for name in names})

    return leave


def ask(host, photo):
    unit = {"references": [photo], "refine_head": False}
    return TestClient(host.app).post(
        "/sdapi/v1/txt2img", json={**REQUEST, "alwayson_scripts": {"BeyondFacial": {"args": [unit]}}}
    )


def test_the_only_one_that_fits_is_taken_by_run_page_and_export(host, adapters, photo):
    adapters("made_for_sdxl", "text", "fits")
    answer = ask(host, photo)
    assert answer.status_code == 200, answer.text
    assert json.loads(answer.json()["info"])["extra_generation_params"]["BeyondFacial adapter"] == "fits"
    assert "IP-Adapter FaceID." in listings.adapter_text("", "auto")
    report = TestClient(host.app).post("/beyondfacial/v1/identities/export", json={"references": [photo]}).json()
    assert report["warnings"] == []


def test_of_several_that_fit_these_alone_are_named(host, adapters, photo):
    adapters("fits", "made_for_sdxl", "fits_too")
    answer = ask(host, photo)
    assert answer.status_code == 422
    assert 'set "adapter" to one of "fits", "fits_too".' in answer.json()["detail"]
    assert "2 fit this model" in listings.adapter_text("", "auto")


def test_where_none_fits_each_reason_is_said(host, adapters, photo):
    adapters("made_for_sdxl", "text")
    answer = ask(host, photo)
    assert answer.status_code == 422
    sentence = answer.json()["detail"]
    assert "None of the 2 adapters can be used." in sentence
    assert "SDXL" in sentence
    assert "damaged" in sentence


def test_the_setting_of_the_host_comes_before_what_fits(host, adapters, monkeypatch):
    adapters("fits", "fits_too")
    monkeypatch.setattr(fitting.host_settings, "default_adapter", lambda: "fits_too")
    assert fitting.choose_adapter("") == "fits_too"
    assert fitting.choose_adapter("fits") == "fits"
    adapters("fits")
    with pytest.raises(BeyondFacialError, match='no adapter "fits_too"'):
        fitting.choose_adapter("")


def test_before_a_checkpoint_is_loaded_nobody_is_told_to_choose(host, adapters, photo, monkeypatch):
    adapters("fits", "made_for_sdxl", "text")
    monkeypatch.setattr(fitting.loaded_model, "loaded_sites", list)
    monkeypatch.setattr(fitting.loaded_model, "loaded_name", str)
    report = TestClient(host.app).post("/beyondfacial/v1/validate", json={"references": [photo]}).json()
    assert (report["problems"], report["warnings"]) == ([], [fitting.NO_MODEL])
    assert listings.adapter_text("", "auto").count("No checkpoint is loaded yet") == 1
    adapters("fits", "text")
    assert "IP-Adapter FaceID." in listings.adapter_text("", "auto")


def test_a_model_of_another_kind_is_named_as_the_cause(host, adapters, photo, monkeypatch):
    """As Flux, which has no cross-attentions of ours: no adapter is missing, and none is to be chosen."""
    adapters("fits", "made_for_sdxl")
    monkeypatch.setattr(fitting.loaded_model, "loaded_sites", list)
    answer = ask(host, photo)
    assert answer.status_code == 422
    assert "is neither an SD1.5 nor an SDXL model; choose another checkpoint." in answer.json()["detail"]
    for names in (("fits",), ("fits", "made_for_sdxl")):
        adapters(*names)
        text = listings.adapter_text("", "auto")
        assert "fits the loaded model" not in text
        assert "beyondfacial-error" in text or "No adapter fits this model." in text
