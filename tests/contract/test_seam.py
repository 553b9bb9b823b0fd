"""What a request must get from any host. Run against a live one with WEBUI_URL=http://127.0.0.1:7860."""

from __future__ import annotations

import base64
import json

import cv2
import numpy as np
import pytest

REQUEST = {
    "prompt": "photo of a man running in the city, full body shot",
    "steps": 6,
    "width": 128,
    "height": 128,
    "seed": 11,
}
REQUEST |= {
    "cfg_scale": 5.0,
    "batch_size": 2,
    "save_images": False,
    "do_not_save_samples": True,
    "do_not_save_grid": True,
}


def decode(text: str) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(base64.b64decode(text.rpartition(",")[2]), np.uint8), cv2.IMREAD_COLOR)


@pytest.fixture
def ask(client, reference):
    """ask(unit, **request) -> (pictures, info); unit None: without the extension. Fails unless 200."""

    def ask(unit=None, **request):
        payload = {**REQUEST, **request}
        if unit is not None:
            unit = {"enabled": True, "references": [reference], **unit}
            payload["alwayson_scripts"] = {"BeyondFacial": {"args": [unit]}}
        status, body = client.post("/sdapi/v1/txt2img", payload)
        assert status == 200, body
        info = json.loads(body["info"])
        return [decode(image) for image in body["images"]], info

    return ask


def same(a, b) -> bool:
    return len(a) == len(b) and all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def test_the_script_is_listed_and_answers_for_its_version(client):
    titles = [script["name"].lower() for script in client.get("/sdapi/v1/script-info") if not script["is_img2img"]]
    assert "beyondfacial" in titles
    assert client.get("/beyondfacial/v1/version")["version"].count(".") == 2


@pytest.mark.parametrize("sampler_name", ["Euler a", "DDIM"])
def test_pictures_masks_and_reports_come_back_for_every_image_of_a_batch(ask, sampler_name):
    plain, _ = ask(sampler_name=sampler_name)
    images, info = ask({"show_mask": True, "start": 0.0}, sampler_name=sampler_name)
    assert len(plain) == 2
    assert len(images) == 4
    assert {image.shape for image in images} == {(128, 128, 3)}
    assert not same(plain, images[:2])
    reports = info["extra_generation_params"]["BeyondFacial report"]
    assert len(reports) == 2
    for report, mask in zip(reports, images[2:], strict=True):
        assert set(report) == {"similarity", "face_area", "mask_coverage"}
        assert report["similarity"] is None or -1 <= report["similarity"] <= 1
        assert 0 <= report["mask_coverage"] < 0.5
        assert mask.max() == 0 or report["mask_coverage"] > 0


@pytest.mark.parametrize("sampler_name", ["Euler a", "DDIM"])
def test_disabled_is_as_if_not_asked_and_a_run_leaves_nothing_behind(ask, sampler_name):
    plain, _ = ask(sampler_name=sampler_name)
    assert same(plain, ask({"enabled": False}, sampler_name=sampler_name)[0])
    changed, _ = ask({"start": 0.0}, sampler_name=sampler_name)
    assert not same(plain, changed)
    assert same(plain, ask(sampler_name=sampler_name)[0])
    assert same(changed, ask({"start": 0.0}, sampler_name=sampler_name)[0])


def grey(width: int, height: int) -> str:
    return base64.b64encode(cv2.imencode(".png", np.full((height, width, 3), 127, np.uint8))[1].tobytes()).decode()


BAD = {
    "no face": ({"references": [grey(128, 128)]}, "photo 1"),
    "no image": ({"references": [base64.b64encode(b"hello, no picture").decode()]}, "photo 1"),
    "100 megapixels": ({"references": [grey(10000, 10000)]}, "megapixel"),
    "a URL": ({"references": ["http://127.0.0.1:1/x.png"]}, "photo 1"),
    "a path": ({"references": ["/etc/passwd"]}, "photo 1"),
    "no photo": ({"references": []}, "references"),
    "weight 99": ({"weight": 99}, "weight"),
    "weight NaN": ({"weight": "NaN"}, "weight"),
    "unknown adapter": ({"adapter": "no-such-adapter"}, "no-such-adapter"),
    "unknown key": ({"wieght": 1}, "weight"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_request_fails_in_words_and_the_next_one_works(ask, client, reference, case):
    unit, named = BAD[case]
    args = [{"enabled": True, "references": [reference], **unit}]
    payload = {**REQUEST, "steps": 2, "alwayson_scripts": {"BeyondFacial": {"args": args}}}
    status, body = client.post("/sdapi/v1/txt2img", payload)
    assert 400 <= status < 500, body
    assert named in json.dumps(body, ensure_ascii=False)
    images, _ = ask(steps=2)
    assert len(images) == 2
