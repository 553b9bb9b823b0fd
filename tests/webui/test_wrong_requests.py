"""Requests that are written wrong: the sentence says what was meant, and quotes no photo."""

from __future__ import annotations

import pytest
from fastapi.testclient import TestClient

from demo.miniwebui import scripts
from lib_beyondfacial.errors import BeyondFacialError
from lib_beyondfacial.settings import FIELDS, Settings
from tests.webui.conftest import page_args

PLAIN = {"prompt": "photo of a man", "seed": 7, "steps": 2, "width": 64, "height": 64, "sampler_name": "Euler"}


@pytest.fixture
def post(host):
    """(our entry of alwayson_scripts) -> the answer."""
    client = TestClient(host.app)
    return lambda entry: client.post("/sdapi/v1/txt2img", json={**PLAIN, "alwayson_scripts": {"BeyondFacial": entry}})


@pytest.mark.parametrize("key", ["image", "images", "photos", "photo", "Faces"])
def test_what_others_call_the_photos_suggests_references(post, photo, key):
    answer = post({"args": [{key: [photo]}]})
    assert answer.status_code == 422
    assert 'the nearest is "references"' in answer.json()["detail"]


@pytest.mark.parametrize("lead", [True, False, 1, "x"])
def test_a_value_before_the_object_is_told(post, photo, lead):
    answer = post({"args": [lead, {"references": [photo]}]})
    assert answer.status_code == 422
    assert "one object" in answer.json()["detail"]


@pytest.mark.parametrize("wrap", [lambda unit: {"args": unit}, lambda unit: unit, lambda unit: {"args": "x"}])
def test_an_object_without_its_list_is_told(post, photo, wrap):
    answer = post(wrap({"references": [photo]}))
    assert answer.status_code == 422
    assert "a list of one object" in answer.json()["detail"]


def test_an_empty_entry_is_off(post):
    assert post({}).status_code == post({"args": []}).status_code == post({"args": [{}]}).status_code == 200


@pytest.mark.parametrize("field", [field.key for field in FIELDS if field.key != "enabled"])
@pytest.mark.parametrize("prefix", ["", "data:image/png;base64,"])
def test_no_error_quotes_a_photos_bytes(post, photo, field, prefix):
    for value in (prefix + photo, [prefix + photo], {"image": prefix + photo}):
        answer = post({"args": [{"adapter": "fits", "references": [photo], field: value}]})
        if answer.status_code != 200:
            assert answer.status_code == 422
            assert photo[:12] not in answer.json()["detail"]


def test_a_photo_as_a_key_is_not_quoted(post, photo):
    answer = post({"args": [{photo: 1}]})
    assert answer.status_code == 422
    assert photo[:12] not in answer.json()["detail"]


def test_errors_keep_ordinary_names():
    name = "ip-adapter-faceid-portrait-v11_sd15_lora_weights-of-somebody"
    assert name in str(BeyondFacialError(f'There is no adapter "{name}".'))


def infotext_values(made: Settings) -> list:
    """The script's arguments as the host's API sets them from an infotext: all fields but the photos."""
    values = made.to_dict() | {"references": None, "enabled": True}
    return page_args(values)


def test_an_infotext_that_switches_us_on_without_photos_is_told(host, photo):
    made = Settings(references=[photo], weight=1.5)
    with pytest.raises(BeyondFacialError, match='"infotext" of the request switched BeyondFacial on'):
        Settings.from_script_args(*infotext_values(made), is_api=True)
    with pytest.raises(BeyondFacialError, match="nobody is given"):
        Settings.from_script_args(*infotext_values(made))


def test_an_infotexts_settings_apply_to_the_units_photos(photo):
    made = Settings(references=[photo], weight=1.5, start=0.25, identity="")
    unit = {"references": [photo], "start": 0.1}
    merged = Settings.from_script_args(unit, *infotext_values(made)[1:], is_api=True)
    assert (merged.enabled, merged.weight, merged.start, merged.references) == (True, 1.5, 0.1, (photo,))


def test_the_units_photos_take_the_place_of_the_infotexts_person(photo):
    made = Settings(identity="Anna", weight=1.5)
    merged = Settings.from_script_args({"references": [photo]}, *infotext_values(made)[1:], is_api=True)
    assert (merged.identity, merged.weight) == ("", 1.5)
    assert Settings.from_script_args({}, *infotext_values(made)[1:]).enabled is False


def test_the_hosts_defaults_behind_an_object_change_nothing(host, photo):
    args = host.api.script_args({"BeyondFacial": {"args": [{"references": [photo]}]}})
    (script,) = scripts.scripts_txt2img.scripts
    found = args[script.args_from : script.args_to]
    assert Settings.from_script_args(*found) == Settings(enabled=True, references=[photo])


def test_the_face_check_suggests_references_too(host, photo):
    answer = TestClient(host.app).post("/beyondfacial/v1/faces", json={"images": [photo]})
    assert answer.status_code == 422
    assert 'the nearest is "references"' in answer.json()["detail"]
