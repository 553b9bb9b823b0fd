"""What a request must get from any host. Run against a live one with WEBUI_URL=http://127.0.0.1:7860."""

from __future__ import annotations

import base64
import json
import os

import cv2
import numpy as np
import pytest

from tests.comparing import same

SIZE, STEPS = int(os.environ.get("WEBUI_SIZE", "128")), int(os.environ.get("WEBUI_STEPS", "6"))
REQUEST = {"prompt": "photo of a man running in the city, full body shot", "steps": STEPS, "seed": 11}
REQUEST |= {"width": SIZE, "height": SIZE, "cfg_scale": 5.0, "batch_size": 1}
REQUEST |= {"save_images": False, "do_not_save_samples": True, "do_not_save_grid": True}
HIRES = {"enable_hr": True, "hr_scale": 1.5, "denoising_strength": 0.6}
HIRES |= {"hr_additional_modules": [], "hr_cfg": 5.0}  # Forge's API asks for these two
UPSCALERS = ("/sdapi/v1/latent-upscale-modes", "/sdapi/v1/upscalers")  # Forge Neo has none for latents
SAMPLERS = ["Euler a", "DPM++ 2M", "DDIM"]
SHAPES = {
    "batch of 2": {"batch_size": 2},
    "AND": {"prompt": "photo of a man in the city AND red hair :0.5"},
    "long prompt": {"prompt": "photo of a man running in the city, full body shot, " * 12},
    "hires": HIRES,
}
ATTENTION_GUIDES = ("perturbedattentionguidance", "selfattentionguidance")  # not every host comes with both


def decode(text: str) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(base64.b64decode(text.rpartition(",")[2]), np.uint8), cv2.IMREAD_COLOR)


ACTS = {"start": 0.0, "idap_strength": 0.5}  # on random weights, too, in which attention finds no head


@pytest.fixture(scope="session")
def upscaler(client) -> dict:
    """The host's own choice for the hires pass: of latents where it can, else of pictures; nothing to ask: nothing."""
    names = [each["name"] for route in UPSCALERS for each in client.get(route, default=[]) if each["name"] != "None"]
    return {"hr_upscaler": names[0]} if names else {}


@pytest.fixture
def payload(client, reference, upscaler):
    """payload(unit, others=..., **request) -> the body of a request; unit None: without the extension."""

    def payload(unit=None, others=(), **request):
        body = {**REQUEST, **request, "alwayson_scripts": {title: {"args": [True]} for title in others}}
        if request.get("enable_hr"):
            body |= upscaler
        if unit is not None:
            unit = {"enabled": True, "references": [reference], "adapter": client.adapter, **unit}
            body["alwayson_scripts"]["BeyondFacial"] = {"args": [unit]}
        return body

    return payload


@pytest.fixture
def ask(client, payload):
    """ask(unit, **request) -> (pictures, info). Fails unless 200; skips what the host says it does not have."""

    def ask(unit=None, **request):
        status, body = client.post("/sdapi/v1/txt2img", payload(unit, **request))
        if "no hires fix" in json.dumps(body)[:1000]:
            pytest.skip("this host has no hires fix")
        assert status == 200, body
        info = json.loads(body["info"])
        return [decode(image) for image in body["images"]], info

    return ask


def test_the_script_is_listed_and_answers_for_its_version(client):
    titles = [script["name"].lower() for script in client.get("/sdapi/v1/script-info") if not script["is_img2img"]]
    assert "beyondfacial" in titles
    assert client.get("/beyondfacial/v1/version")["version"].count(".") == 2


@pytest.mark.parametrize("sampler_name", SAMPLERS)
def test_disabled_unit_changes_nothing(ask, sampler_name):
    plain, _ = ask(sampler_name=sampler_name)
    assert same(plain, ask({"enabled": False}, sampler_name=sampler_name)[0])
    changed, _ = ask(ACTS, sampler_name=sampler_name)
    assert not same(plain, changed)
    assert same(plain, ask(sampler_name=sampler_name)[0])
    assert same(changed, ask(ACTS, sampler_name=sampler_name)[0])


@pytest.mark.parametrize("sampler_name", SAMPLERS)
def test_where_the_identity_may_not_act_the_picture_is_the_hosts(ask, sampler_name):
    plain, _ = ask(sampler_name=sampler_name)
    assert same(plain, ask({"mask_strength": 0.0}, sampler_name=sampler_name)[0])
    assert same(plain, ask({"weight": 0.0}, sampler_name=sampler_name)[0])


@pytest.mark.parametrize("sampler_name", SAMPLERS)
def test_zero_weight_identity_changes_only_rounding(ask, sampler_name):
    """It runs beside the host's own rows (its mask is there), and the picture stays; bit by bit on A1111."""
    plain, _ = ask(sampler_name=sampler_name)
    unit = {"start": 0.0, "idap_strength": 0.0, "rho": 0.0, "mask_mode": "whole", "show_mask": True}
    idle, info = ask(unit, sampler_name=sampler_name)
    assert info["extra_generation_params"]["BeyondFacial report"][0]["mask_coverage"] == 1.0
    assert int(np.abs(plain[0].astype(int) - idle[0]).max()) <= 1


@pytest.mark.parametrize("shape", SHAPES)
def test_every_image_gets_its_picture_mask_and_report(ask, shape):
    request = SHAPES[shape]
    plain, _ = ask(**request)
    images, info = ask({"show_mask": True, **ACTS}, **request)
    count = request.get("batch_size", 1)
    assert len(plain) == count
    assert len(images) == 2 * count
    assert {image.shape for image in images} == {image.shape for image in plain}
    assert not same(plain, images[:count])
    reports = info["extra_generation_params"]["BeyondFacial report"]
    assert len(reports) == count
    for report, mask in zip(reports, images[count:], strict=True):
        assert set(report) - {"note"} == {"similarity", "face_area", "mask_coverage"}
        assert report["similarity"] is None or -1 <= report["similarity"] <= 1
        assert 0 <= report["mask_coverage"] < 0.75
        assert mask.max() == 0 or report["mask_coverage"] > 0
    assert same(plain, ask(**request)[0])


def test_pag_and_freeu_work_together_with_the_identity(client, ask):
    titles = client.get("/sdapi/v1/scripts")["txt2img"]

    def find(*names):
        return [title for name in names for title in titles if title.lower().replace(" ", "").startswith(name)][:1]

    guides = [*find("freeu"), *find(*ATTENTION_GUIDES)]
    if len(guides) < 2:
        pytest.skip("this host does not come with them")
    large = {"width": 2 * SIZE, "height": 2 * SIZE}  # in one latent px there is no attention to perturb
    alone, _ = ask(**large)
    for guide in guides:
        assert not same(alone, ask(others=[guide], **large)[0])
    unit_alone, _ = ask(others=guides, **large)
    both, info = ask({"start": 0.0, "mask_mode": "whole", "show_mask": True}, others=guides, **large)
    assert not same(unit_alone, both[:1])
    assert info["extra_generation_params"]["BeyondFacial report"][0]["mask_coverage"] == 1.0
    assert same(unit_alone, ask(others=guides, **large)[0])
    assert same(alone, ask(**large)[0])


@pytest.mark.parametrize("shape", ["one", "hires"])
def test_overflowing_identity_line_fails_with_a_message(client, ask, payload, shape):
    if not client.broken_adapter:
        pytest.skip("WEBUI_BROKEN_ADAPTER names no adapter, so no error inside the sampling was tried")
    request = SHAPES.get(shape, {})
    plain, _ = ask(**request)
    unit = {"start": 0.0, "adapter": client.broken_adapter}
    status, body = client.post("/sdapi/v1/txt2img", payload(unit, **request))
    assert status == 422, body
    # With SD1.5 its tokens are finite and overflow inside the attention; with SDXL they overflow before.
    assert any(words in json.dumps(body) for words in ("NaN", "numbers that are not finite"))
    assert same(plain, ask(**request)[0])


@pytest.mark.parametrize("sampler_name", ["Euler a", "DDIM"])
def test_an_interrupt_leaves_nothing(client, ask, payload, sampler_name):
    plain, _ = ask(sampler_name=sampler_name)
    unit = {"start": 0.0, "mask_mode": "whole"}
    finished = client.post("/sdapi/v1/txt2img", payload(unit, sampler_name=sampler_name, steps=10 * STEPS))
    stopped = client.interrupted(payload(unit, sampler_name=sampler_name, steps=10 * STEPS))
    assert stopped[0] == finished[0] == 200
    assert stopped[1]["images"] != finished[1]["images"]
    assert same(plain, ask(sampler_name=sampler_name)[0])


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
def test_a_bad_request_fails_in_words_and_the_next_one_works(ask, client, payload, case):
    unit, named = BAD[case]
    status, body = client.post("/sdapi/v1/txt2img", payload(unit, steps=2))
    assert 400 <= status < 500, body
    assert named in json.dumps(body, ensure_ascii=False)
    images, _ = ask(steps=2)
    assert len(images) == 1
