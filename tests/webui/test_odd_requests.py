"""60 odd requests: each ends in a picture with the person, or in words that say why not. None is an exception."""

from __future__ import annotations

import base64
import io
import json
from contextlib import ExitStack, contextmanager

import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient
from PIL import Image

from demo.miniwebui import shared

HOST = {"prompt": "photo of a man", "seed": 7, "steps": 3, "width": 64, "height": 64, "sampler_name": "Euler"}
UNIT = {"adapter": "fits", "refine_head": False}
LONG = "photo of a man in the red forest, " * 12


@contextmanager
def halves():
    """A tiler: the UNet sees the left and the right half of the picture one after the other."""
    unet = shared.sd_model.model.diffusion_model
    forward = unet.forward

    def tiled(x, timesteps=None, context=None, **more):
        parts = [forward(part, timesteps, context, **more) for part in x.chunk(2, dim=-1)]
        return torch.cat(parts, dim=-1)

    unet.forward = tiled
    try:
        yield
    finally:
        del unet.forward


@contextmanager
def rows():
    """The same, as more rows of one call."""
    unet = shared.sd_model.model.diffusion_model
    forward = unet.forward

    def tiled(x, timesteps=None, context=None, **more):
        out = forward(torch.cat(x.chunk(2, dim=-1)), timesteps.repeat(2), context.repeat(2, 1, 1), **more)
        return torch.cat(out.chunk(2), dim=-1)

    unet.forward = tiled
    try:
        yield
    finally:
        del unet.forward


# (the unit's settings, the host's fields, what else runs)
WINDOWS = [
    ({"start": 0.96}, {}),
    ({"start": 0.4, "stop": 0.41}, {"steps": 4}),
    ({"stop": 1e-9}, {}),
    ({"stop": 0.01}, {}),
    ({"start": 0.99}, {"steps": 1}),
    ({"start": 0.5}, {"steps": 1}),
    ({"stop": 0.5}, {"steps": 1}),
    ({}, {"steps": 1}),
    ({"refine_head": True}, {"steps": 1}),
    ({"refine_head": True}, {"steps": 2}),
    ({"refine_head": True, "stop": 0.3}, {"steps": 4}),
    ({"refine_head": True, "start": 0.7}, {"steps": 4}),
    ({"start": 0.9}, {"sampler_name": "DDIM"}),
    ({"refine_head": True}, {"sampler_name": "DDIM", "steps": 1}),
]
GUIDANCE = [
    ({}, {"cfg_scale": 0.0}),
    ({"refine_head": True}, {"cfg_scale": 0.0}),
    ({}, {"cfg_scale": 0.5}),
    ({}, {"cfg_scale": 1.0}),
    ({}, {"cfg_scale": 30.0}),
    ({}, {"override_settings": {"s_min_uncond_all": True}, "s_min_uncond": 100.0}),
    ({}, {"override_settings": {"skip_early_cond": 1.0}}),
    ({}, {"override_settings": {"batch_cond_uncond": False}}),
    ({"decision_reference": "uncond"}, {"cfg_scale": 0.0}),
]
SIZES = [
    ({"refine_head": side % 16 == 0}, {"width": width, "height": side})
    for side, width in ((16, 24), (16, 16), (8, 64), (64, 8), (24, 40), (72, 56), (8, 256), (192, 256), (64, 512))
]
PARTS = [
    ({}, {"prompt": prompt})
    for prompt in (
        "photo of a man AND red hair",
        "photo of a man AND red hair :0.5",
        "photo of a man :0 AND red hair :0",
        "photo of a man :0.001 AND red hair :-1",
        "AND photo of a man",
        "photo of a man AND",
        "a man AND a woman AND a knight",
        f"{LONG} AND red hair",
        "[man:woman:0.5] AND [red::0.5] hair",
        "photo of a man AND_PERP red hair",
    )
]
PROMPTS = [
    ({}, {"prompt": ""}),
    ({}, {"prompt": "a castle at night"}),
    ({}, {"prompt": LONG}),
    ({}, {"prompt": "photo of a man", "negative_prompt": LONG}),
    ({}, {"prompt": "(man:2) [[red]] BREAK hair"}),
    ({"id_prompt": "{promt}, red hair"}, {}),
    ({"id_prompt": "a woman", "gender_alignment": "follow photo"}, {}),
    ({"subject": "dragon"}, {}),
    ({"subject": "12"}, {}),
]
SETTINGS = [
    (unit, {})
    for unit in (
        {"weight": 0},
        {"weight": 3},
        {"mask_strength": 0},
        {"mask_strength": 0.05, "start": 0},
        {"rho": 0},
        {"rho": 0, "mask_mode": "whole"},
        {"mask_mode": "whole", "refine_head": True},
        {"stride": 8, "smoothing": 0.99},
        {"mask_softness": 0, "idap_strength": 1, "style": 1},
    )
]
BATCHES = [({"start": 0.96}, {"batch_size": 3}), ({"refine_head": True}, {"batch_size": 2, "n_iter": 2})]
TILERS = [({}, {}, halves), ({}, {"batch_size": 2}, rows)]
REQUESTS = [*WINDOWS, *GUIDANCE, *SIZES, *PARTS, *PROMPTS, *SETTINGS, *BATCHES, *TILERS]


def name_of(request):
    unit, fields, *others = request
    return f"{unit} {fields} {''.join(each.__name__ for each in others)}"


@pytest.fixture(scope="module")
def ask(host, photo):
    """(request) -> the plain answer's pictures, and the answer; both as the host gives them over HTTP."""
    client = TestClient(host.app)

    def ask(unit, fields, *others):
        with ExitStack() as stack:
            for each in others:
                stack.enter_context(each())
            plain = client.post("/sdapi/v1/txt2img", json=HOST | fields)
            args = [{**UNIT, "references": [photo], **unit}]
            body = {**HOST, **fields, "alwayson_scripts": {"BeyondFacial": {"args": args}}}
            return plain, client.post("/sdapi/v1/txt2img", json=body)

    return ask


def pictures(answer):
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(text)))) for text in answer.json()["images"]]


def test_there_are_sixty_of_them():
    assert len(REQUESTS) >= 60


@pytest.mark.parametrize("request_", REQUESTS, ids=name_of)
def test_a_person_or_a_word(ask, request_):
    plain, answer = ask(*request_)
    if answer.status_code != 200:
        assert answer.status_code == 422, answer.text
        sentence = answer.json()["detail"]
        assert sentence.startswith("BeyondFacial"), sentence
        assert sentence.endswith(".")
        assert "Error" not in sentence
        return
    parameters = json.loads(answer.json()["info"])["extra_generation_params"]
    reports, warnings = parameters["BeyondFacial report"], parameters.get("BeyondFacial warnings", [])
    made = pictures(answer)
    assert len(reports) == len(made) == len(pictures(plain))
    for picture, without, report in zip(made, pictures(plain), reports, strict=True):
        if np.array_equal(picture, without):
            assert report.get("note") == "the identity never acted"
        if request_[0].get("refine_head"):
            assert "note" in report or report["similarity"] is not None
        assert all(each.endswith(".") for each in warnings)
        assert warnings or "note" not in report


def test_a_plain_request_afterwards_is_as_before(ask):
    plain, _ = ask({}, {}, halves)
    before, _ = ask({}, {})
    again, _ = ask({"start": 0.96}, {})
    assert np.array_equal(pictures(before), pictures(again))
    assert plain.status_code == 200
