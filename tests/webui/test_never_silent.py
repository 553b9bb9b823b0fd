"""A request that asked for a person never ends in a plain picture without a word: in comments, infotext and API."""

from __future__ import annotations

import json

import pytest

from demo.miniwebui import api as host_api
from lib_beyondfacial.settings import Settings
from tests.webui.conftest import page_args

PLAIN = {"prompt": "photo of a man", "seed": 7, "steps": 4, "width": 64, "height": 64, "sampler_name": "Euler"}
NEVER = "the identity never acted"


@pytest.fixture
def ask(host, photo):
    """unit settings, host settings -> (the answer, its info)."""

    def ask(unit=None, **fields):
        unit = {"references": [photo], "adapter": "fits", "refine_head": False, **(unit or {})}
        payload = {**PLAIN, "alwayson_scripts": {"BeyondFacial": {"args": [unit]}}, **fields}
        processed = host.api.run_txt2img(payload)
        return processed, json.loads(processed.js())

    return ask


UNITS = {
    "start at the end": ({"start": 0.96}, {}, '"start" 0.96 to "stop" 1 holds none of the 4'),
    "between two steps": ({"start": 0.4, "stop": 0.41}, {}, '"start" 0.4 to "stop" 0.41'),
    "a tiny stop": ({"start": 0, "stop": 1e-9}, {}, '"stop" 1e-09'),
    "one step": ({"start": 0.5}, {"steps": 1}, '"start" 0.5'),
    "CFG 0": ({}, {"cfg_scale": 0.0}, "CFG scale of 0"),
    "weight 0": ({"weight": 0}, {}, '"weight" is 0'),
    "mask strength 0": ({"mask_strength": 0}, {}, '"mask_strength" is 0'),
    "rho 0": ({"rho": 0}, {}, '"rho" is 0'),
}


@pytest.mark.parametrize("what", UNITS)
def test_an_identity_that_never_acts_is_told_everywhere(ask, what):
    unit, fields, sentence = UNITS[what]
    processed, info = ask(unit, **fields)
    parameters = info["extra_generation_params"]
    assert any(sentence in each for each in parameters["BeyondFacial warnings"])
    assert sentence in processed.comments
    assert parameters["BeyondFacial report"][0]["note"] == NEVER
    assert NEVER in info["infotexts"][0]
    assert NEVER in processed.images[0].info["parameters"]


def test_nothing_is_told_where_the_identity_acted(ask):
    processed, info = ask({"mask_mode": "whole"})
    assert "note" not in info["extra_generation_params"]["BeyondFacial report"][0]
    assert "never acted" not in processed.comments


def test_a_refinement_that_never_took_place_is_told(ask):
    for steps, stop in ((1, 1.0), (4, 0.3)):
        processed, info = ask({"refine_head": True, "mask_strength": 1, "start": 0, "stop": stop}, steps=steps)
        report, warnings = (info["extra_generation_params"][f"BeyondFacial {key}"] for key in ("report", "warnings"))
        if report[0]["note"] == NEVER:  # nothing stood out in this picture
            assert "No head was found" in "".join(warnings)
        else:
            assert "refine_head" in "".join(warnings)
            assert report[0]["note"] == "the head was not refined"


def test_the_pictures_of_all_batches_are_told_at_once(ask):
    _, info = ask({"start": 0.96}, n_iter=2, batch_size=2)
    assert [each["note"] for each in info["extra_generation_params"]["BeyondFacial report"]] == [NEVER] * 4
    assert (
        len([each for each in info["extra_generation_params"]["BeyondFacial warnings"] if "never acted" in each]) == 1
    )


def test_the_page_speaks_its_own_labels(host, tmp_path):
    from PIL import Image

    from tests.faces.conftest import draw

    path = tmp_path / "photo.png"
    Image.fromarray(draw(1)).save(path)
    script = next(s for s in host_api.scripts.scripts_txt2img.scripts if s.name == "beyondfacial")
    values = Settings(adapter="fits", start=0.96, refine_head=False).to_dict() | {"enabled": True}
    args = list(host.api.default_script_args)
    values["references"] = [str(path)]
    args[script.args_from : script.args_to] = page_args(values)
    processed = host_api.run_job(tuple(args), **PLAIN)
    assert '"Start" 0.96 to "Stop" 1' in processed.comments
