"""The plain picture beside ours: the one that a request without us makes, and marked as such."""

from __future__ import annotations

import base64
import io
import json
from types import SimpleNamespace

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from demo.miniwebui import api as host_api
from demo.miniwebui import shared
from lib_beyondfacial.settings import Settings
from lib_beyondfacial.webui import forwarding, infotext, neighbours, plain_pictures
from tests.webui.conftest import page_args

REQUEST = {"prompt": "photo of a man", "seed": 7, "steps": 2, "width": 64, "height": 64, "batch_size": 2}
UNIT = {"adapter": "fits", "start": 0.0, "mask_mode": "whole", "refine_head": False}


@pytest.fixture
def ask(host, photo):
    def ask(unit=None, **changes):
        scripts = {} if unit is None else {"BeyondFacial": {"args": [{"references": [photo], **UNIT, **unit}]}}
        body = {**REQUEST, **changes, "alwayson_scripts": scripts}
        answer = TestClient(host.app).post("/sdapi/v1/txt2img", json=body)
        assert answer.status_code == 200, answer.text
        images = [Image.open(io.BytesIO(base64.b64decode(each))) for each in answer.json()["images"]]
        return [np.asarray(each) for each in images], json.loads(answer.json()["info"])

    return ask


def test_the_plain_pictures_stand_behind_ours_and_are_the_hosts(ask):
    made, info = ask({"plain_picture": True, "show_mask": True})
    plain, plain_info = ask()
    ours, _ = ask({})
    assert len(made) == 6
    assert all(np.array_equal(one, other) for one, other in zip(made, [*ours, made[2], made[3], *plain], strict=True))
    assert not np.array_equal(ours[0], plain[0])
    assert info["extra_generation_params"][infotext.PLAIN_KEY] == [4, 5]
    assert info["extra_generation_params"][infotext.PICTURES_KEY] == [0, 1]
    for number, (text, of_host) in enumerate(zip(info["infotexts"][4:], plain_info["infotexts"], strict=True), 1):
        assert text == f"{of_host}, {infotext.PLAIN_OF_KEY}: of picture {number}"


def test_the_hosts_progress_counts_them_once(host, monkeypatch):
    monkeypatch.setattr(shared.state, "job_count", 3)
    output = SimpleNamespace(plain=object(), is_counted=False)
    for _ in range(2):
        plain_pictures.count_jobs(output)
    assert shared.state.job_count == 6


def test_no_plain_picture_unless_asked_for(ask):
    made, info = ask({})
    assert len(made) == 2
    assert infotext.PLAIN_KEY not in info["extra_generation_params"]


def test_on_the_page_it_has_a_caption(host, photo_file):
    script = next(each for each in host_api.scripts.scripts_txt2img.scripts if each.name == "beyondfacial")
    pictures = {}
    for unit in (UNIT | {"references": [photo_file], "plain_picture": True}, {"enabled": False}):
        args = list(host.api.default_script_args)
        args[script.args_from : script.args_to] = page_args({"enabled": True, **unit})
        pictures[len(unit)] = host_api.run_job(tuple(args), **{**REQUEST, "sampler_name": "Euler", "batch_size": 1})
    (with_both, plain) = pictures.values()
    captioned, alone = (np.asarray(each, int) for each in (with_both.images[1], plain.images[0]))
    assert np.array_equal(captioned[:48], alone[:48])
    assert not np.array_equal(captioned, alone)


@pytest.fixture
def photo_file(tmp_path, photo):
    path = tmp_path / "person.png"
    path.write_bytes(base64.b64decode(photo))
    return str(path)


def test_other_scripts_and_machines_are_left_alone(monkeypatch):
    p, wanted = SimpleNamespace(extra_generation_params={}), Settings(plain_picture=True)
    monkeypatch.setattr(neighbours, "running_script", lambda p: "X/Y/Z plot")
    assert plain_pictures.copy_before(p, wanted) == (None, [plain_pictures.ARRANGED.format(title="X/Y/Z plot")])
    monkeypatch.setattr(neighbours, "running_script", lambda p: "")
    monkeypatch.setattr(forwarding, "is_forwarded", lambda p: True)
    assert plain_pictures.copy_before(p, wanted) == (None, [plain_pictures.FORWARDED])
    assert plain_pictures.copy_before(p, Settings()) == (None, [])


def test_a_run_that_was_stopped_makes_no_more(ask, monkeypatch):
    monkeypatch.setattr(plain_pictures, "is_interrupted", lambda: True)
    made, info = ask({"plain_picture": True})
    assert len(made) == 2
    assert infotext.PLAIN_KEY not in info["extra_generation_params"]


def test_an_error_in_it_leaves_our_pictures(ask, monkeypatch, capsys):
    def broken(p, again):
        raise RuntimeError

    monkeypatch.setattr(plain_pictures, "make_again", broken)
    assert len(ask({"plain_picture": True})[0]) == 2
