"""scripts/beyondfacial.py in the miniature host: what a request gives, and what a bad one gets."""

from __future__ import annotations

import base64
import io
import json
import struct
import zlib

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from demo.miniwebui import api as host_api
from lib_beyondfacial.hosts.run import ATTRIBUTE, run_of
from lib_beyondfacial.settings import Settings
from lib_beyondfacial.webui import run as requests
from tests.faces.conftest import draw
from tests.webui.conftest import page_args, to_base64

PLAIN = {"prompt": "photo of a man", "seed": 7, "steps": 3, "width": 64, "height": 64, "sampler_name": "Euler"}


def with_args(args, **more):
    return {**PLAIN, "alwayson_scripts": {"BeyondFacial": {"args": [args]}}, **more}


@pytest.fixture
def client(host):
    return TestClient(host.app)


@pytest.fixture
def good(photo):
    return {"references": [photo], "adapter": "fits"}


def pictures(answer):
    return [Image.open(io.BytesIO(base64.b64decode(text))) for text in answer.json()["images"]]


def pixels(answer):
    return [np.asarray(picture).tolist() for picture in pictures(answer)]


def test_a_request_gives_pictures_masks_and_reports(client, good):
    answer = client.post(
        "/sdapi/v1/txt2img", json=with_args({**good, "refine_head": False, "show_mask": True}, batch_size=2)
    )
    assert answer.status_code == 200, answer.text
    shown = pictures(answer)
    assert len(shown) == 4
    assert all(picture.size == (64, 64) for picture in shown)
    info = json.loads(answer.json()["info"])
    reports = info["extra_generation_params"]["BeyondFacial report"]
    assert [set(report) for report in reports] == [{"similarity", "face_area", "mask_coverage"}] * 2
    for mask, report in zip(shown[2:], reports, strict=True):
        grey = np.asarray(mask)
        assert (grey[..., 0] == grey[..., 1]).all()
        assert (grey[..., 0] == grey[..., 2]).all()
        assert abs(grey.mean() / 255 - report["mask_coverage"]) < 0.02
    assert len(info["infotexts"]) == 4
    for number, (text, mask_text) in enumerate(zip(info["infotexts"][:2], info["infotexts"][2:], strict=True), 1):
        assert mask_text.startswith(text)
        assert mask_text.endswith(f"BeyondFacial mask: of picture {number}")


def test_infotext_restores_the_settings(client, good):
    settings = {**good, "weight": 1.5, "start": 0.25, "subject": "man, knight", "id_prompt": "{prompt}: 5x5"}
    answer = client.post("/sdapi/v1/txt2img", json=with_args(settings))
    parameters = json.loads(answer.json()["info"])["extra_generation_params"]
    made = Settings.from_infotext(parameters)
    assert made == Settings.from_dict({**settings, "enabled": True, "references": []})
    text = pictures(answer)[0].info["parameters"]
    assert "BeyondFacial weight: 1.5" in text
    assert "BeyondFacial report: similarity" in text
    assert good["references"][0] not in answer.json()["info"]


def test_reports_and_infotexts_over_several_batches(client, good):
    answer = client.post("/sdapi/v1/txt2img", json=with_args({**good, "show_mask": True}, n_iter=2))
    info = json.loads(answer.json()["info"])
    assert len(info["extra_generation_params"]["BeyondFacial report"]) == 2
    assert len(answer.json()["images"]) == len(info["infotexts"]) == 4
    for text, report in zip(info["infotexts"], info["extra_generation_params"]["BeyondFacial report"], strict=False):
        assert f"mask {report['mask_coverage']:.4f}" in text


def test_switched_off_is_bit_equal_to_absent(client, good):
    plain = client.post("/sdapi/v1/txt2img", json=PLAIN)
    for args in ({}, {"enabled": False}, {**good, "enabled": False}):
        off = client.post("/sdapi/v1/txt2img", json=with_args(args))
        assert pixels(off) == pixels(plain)
        assert "BeyondFacial" not in off.json()["info"]


def test_several_photos_of_which_one_is_dropped_by_name(client, photo, other_photo):
    blank = to_base64(np.zeros((64, 64, 3), np.uint8))
    answer = client.post(
        "/sdapi/v1/txt2img", json=with_args({"references": [photo, other_photo, blank], "adapter": "fits"})
    )
    assert answer.status_code == 200, answer.text
    warnings = json.loads(answer.json()["info"])["extra_generation_params"]["BeyondFacial warnings"]
    assert any("photo 3" in each for each in warnings)
    assert not any("photo 1" in each for each in warnings)


def hundred_megapixels():
    """A PNG header that announces 10000 x 10000 pixels, with nothing behind it."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 10_000, 10_000, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
        + chunk(b"IEND", b"")
    )


BAD = {
    "weight of 99": ({"weight": 99}, '"weight" is 99', "from 0 to 3"),
    "weight NaN": ({"weight": float("nan")}, '"weight" is nan', "from 0 to 3"),
    "unknown key": ({"wieght": 1.0}, '"wieght"', '"weight"'),
    "unknown adapter": ({"adapter": "fit"}, '"fit"', '"fits"'),
    "text named .safetensors": ({"adapter": "text"}, "text", "damaged"),
    "SDXL adapter": ({"adapter": "made_for_sdxl"}, "made_for_sdxl", "SDXL"),
    "no photos": ({"references": []}, '"references"', "at least one"),
    "a URL": ({"references": ["https://example.org/face.png"]}, '"photo 1"', "URL"),
    "a path": ({"references": ["/etc/passwd"]}, '"photo 1"', "base64"),
    "no picture": ({"references": [base64.b64encode(b"hello").decode()]}, '"photo 1"', "cannot be read"),
    "a hundred megapixels": (
        {"references": [base64.b64encode(hundred_megapixels()).decode()]},
        '"photo 1"',
        "megapixels",
    ),
    "no face": ({"references": [to_base64(np.zeros((64, 64, 3), np.uint8))]}, "photo 1", "face"),
    "an object as photo": ({"references": [{"image": "x"}]}, '"photo 1"', "base64"),
    "unknown pack": ({"face_pack": "x"}, '"face_pack"', '"squares"'),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_requests_get_a_sentence_and_leave_nothing(client, good, what):
    change, *expected = BAD[what]
    before = client.post("/sdapi/v1/txt2img", json=PLAIN)
    body = json.dumps(with_args({**good, **change}))  # json writes NaN as clients do
    answer = client.post("/sdapi/v1/txt2img", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422, answer.text
    sentence = answer.json()["detail"]
    assert sentence.startswith("BeyondFacial: ")
    assert sentence.endswith(".")
    assert all(part in sentence for part in expected)
    after = client.post("/sdapi/v1/txt2img", json=PLAIN)
    assert after.status_code == 200
    assert pixels(after) == pixels(before)


def test_photos_as_page_values_are_not_read_from_the_servers_disk(client, tmp_path):
    path = tmp_path / "face.png"
    Image.fromarray(draw(1)).save(path)
    request = {**PLAIN, "alwayson_scripts": {"BeyondFacial": {"args": [True, [str(path)], "", "fits"]}}}
    answer = client.post("/sdapi/v1/txt2img", json=request)
    assert answer.status_code == 422
    assert "base64" in answer.json()["detail"]


def test_an_error_of_ours_is_said_without_details(client, good, monkeypatch, capsys):
    def broken(*_):
        raise KeyError("a detail for the console")

    monkeypatch.setattr(requests.person, "aggregate_photos", broken)
    answer = client.post("/sdapi/v1/txt2img", json=with_args(good))
    assert answer.status_code == 422
    assert answer.json()["detail"] == "BeyondFacial: internal error (KeyError), see the console."
    assert "a detail for the console" in capsys.readouterr().err


def test_an_error_after_the_picture_does_not_lose_it(client, good, monkeypatch):
    def broken(*_):
        raise KeyError

    monkeypatch.setattr(requests.pictures.reports, "compare", broken)
    answer = client.post("/sdapi/v1/txt2img", json=with_args({**good, "show_mask": True}))
    assert answer.status_code == 200
    assert len(answer.json()["images"]) == 2


def test_the_page_gets_heat_maps_comments_and_the_sentence(host, tmp_path):
    good, blank = tmp_path / "good.png", tmp_path / "blank.png"
    Image.fromarray(draw(1)).save(good)
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(blank)
    defaults = list(host.api.default_script_args)
    script = next(s for s in host_api.scripts.scripts_txt2img.scripts if s.name == "beyondfacial")

    def ask(**changes):
        values = Settings(show_mask=True, adapter="fits").to_dict() | {"enabled": True} | changes
        defaults[script.args_from : script.args_to] = page_args(values)
        return host_api.run_job(tuple(defaults), **PLAIN)

    processed = ask(references=[str(good), str(blank)])
    picture, mask = processed.images
    assert mask.size == picture.size == (64, 64)
    assert "blank.png" in processed.comments
    assert "blank.png" not in processed.js()
    with pytest.raises(ValueError, match='"blank.png"|blank.png'):
        ask(references=[str(blank)])
    with pytest.raises(ValueError, match="nobody is given"):
        ask(references=None)


def test_nothing_of_ours_stays_on_p(host, good):
    from demo.miniwebui import processing, scripts

    p = processing.StableDiffusionProcessingTxt2Img(sd_model=host_api.shared.sd_model, **PLAIN)
    p.scripts, p.is_api = scripts.scripts_txt2img, True
    p.script_args = host.api.script_args({"BeyondFacial": {"args": [good]}})
    processing.process_images(p)
    assert run_of(p) is None
    assert not hasattr(p, ATTRIBUTE)
    assert "sample" not in vars(p)


def test_script_info_lists_the_table(client):
    found = [script for script in client.get("/sdapi/v1/script-info").json() if script["name"] == "beyondfacial"]
    assert len(found) == 2  # both tabs
    weight = next(arg for arg in found[0]["args"] if arg["label"] == "Likeness")
    assert (weight["minimum"], weight["maximum"], weight["value"]) == (0, 3, 1.0)


def test_routes_are_there(client):
    assert client.get("/beyondfacial/v1/version").json()["api"] == "v1"
