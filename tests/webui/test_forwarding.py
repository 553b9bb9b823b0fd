"""Beside an extension that sends requests on to other machines: our part of them means the same there."""

from __future__ import annotations

import copy
import json
import tempfile

import numpy as np
import pytest
from fastapi import HTTPException
from fastapi.testclient import TestClient
from PIL import Image
from torch import from_numpy

from demo.miniwebui import processing, scripts, shared
from lib_beyondfacial.settings import PAGE_FIELDS, Settings
from lib_beyondfacial.webui import cells, forwarding, xyz
from tests.faces.conftest import draw
from tests.webui.conftest import page_args, to_base64
from tests.webui.test_neighbour_scripts import PLAIN, Neighbour, reports_of


class Distribute(Neighbour):
    """By its description: it takes every always-on script's arguments verbatim, copies `p`, and has the last picture
    of a batch made elsewhere; what comes back joins the pictures of the batch."""

    def __init__(self, client):
        self.client, self.payload, self.answer = client, None, None

    def before_process(self, p):
        if "payload" in vars(p):
            return
        payload = {key: value for key, value in vars(p).items() if key not in ("scripts", "script_args", "sd_model")}
        payload["alwayson_scripts"] = {
            script.title(): {"args": list(p.script_args[script.args_from : script.args_to])}
            for script in p.scripts.alwayson_scripts
            if script is not self
        }
        self.payload = json.loads(json.dumps(copy.deepcopy(payload)))
        self.payload |= {"batch_size": 1, "seed": p.seed + p.batch_size - 1}
        p.batch_size -= 1

    def postprocess_batch_list(self, p, pp, batch_number):
        self.answer = self.ask(p.scripts)
        image = self.answer["images"][0]
        info = json.loads(self.answer["info"])
        pp.images.append(from_numpy(np.moveaxis(np.asarray(image, np.float32) / 255, 2, 0).copy()))
        for key in ("seeds", "subseeds", "prompts", "negative_prompts"):
            getattr(p, key).append(info[f"all_{key}"][0])
        p.batch_size = len(pp.images)

    def ask(self, runner):
        """The other machine, without this script."""
        others = [script for script in runner.scripts if script is not self]
        before, runner.scripts, runner.alwayson_scripts = runner.scripts, others, others
        try:
            images, info = self.client(self.payload)
        finally:
            runner.scripts = runner.alwayson_scripts = before
        return {"images": images, "info": info}

    def postprocess(self, p, processed):
        processed.infotexts[p.batch_size - 1] = json.loads(self.answer["info"])["infotexts"][0]


@pytest.fixture
def client(host, tmp_path, monkeypatch):
    monkeypatch.setattr(shared.cmd_opts, "beyondfacial_models_dir", str(tmp_path), raising=False)
    return TestClient(host.app)


@pytest.fixture
def make(host, photo, client, monkeypatch):
    """(unit or the page's values, job's fields) -> a job that the neighbour takes part in, first or last."""

    def other_machine(payload):
        processed = host.api.run_txt2img(payload)
        return processed.images, processed.js()

    def make(unit, place="last", is_api=True, **fields):
        runner = scripts.scripts_txt2img
        neighbour = Distribute(other_machine)
        listed = [neighbour, *ours] if place == "first" else [*ours, neighbour]
        monkeypatch.setattr(runner, "scripts", listed)
        monkeypatch.setattr(runner, "alwayson_scripts", listed)
        args = list(host.api.script_args({"BeyondFacial": {"args": unit if isinstance(unit, list) else [unit]}}))
        p = processing.StableDiffusionProcessingTxt2Img(sd_model=shared.sd_model, **{**PLAIN, **fields})
        p.scripts, p.script_args, p.is_api = runner, tuple(args), is_api
        shared.state.begin()
        runner.setup(p)
        return p, neighbour

    ours = list(scripts.scripts_txt2img.scripts)
    return make


def unit_of(neighbour):
    """What went to the other machine as our arguments."""
    unit, *rest = neighbour.payload["alwayson_scripts"]["BeyondFacial"]["args"]
    assert set(rest) == {None}
    return unit


@pytest.fixture
def page_values(tmp_path):
    """The page's values with one uploaded photo, as gradio 3 hands it over: it cannot be copied."""

    def values(**changes):
        upload = tempfile.NamedTemporaryFile(suffix=".png")  # noqa: SIM115  gradio keeps it open, too
        Image.fromarray(draw(1)).save(upload.name)
        made = Settings(adapter="fits", refine_head=False, **changes).to_dict() | {"references": [upload]}
        return page_args(made)

    return values


@pytest.mark.parametrize("place", ["first", "last"])
def test_the_batch_is_the_one_that_one_machine_makes(make, photo, place):
    unit = {"references": [photo], "adapter": "fits", "refine_head": False, "weight": 0.8}
    p, neighbour = make(unit, place, batch_size=3)
    processed = processing.process_images(p)
    info = json.loads(processed.js())
    assert unit_of(neighbour).keys() == {"enabled", "embedding", "adapter", "weight", "refine_head"}
    neighbours_gone = [script for script in p.scripts.scripts if script is not neighbour]
    p.scripts.scripts = p.scripts.alwayson_scripts = neighbours_gone
    alone, _ = make_alone(p, unit)
    for one, other in zip(alone.images, processed.images, strict=True):
        assert np.abs(np.asarray(one, float) - np.asarray(other, float)).mean() < 1
    reports = reports_of(info)
    assert [each.get("note") for each in reports] == [None, None, "made by another machine"]
    for one, other in zip(reports_of(json.loads(alone.js())), reports, strict=True):
        assert one["similarity"] == pytest.approx(other["similarity"], abs=0.02)
    assert all("BeyondFacial report: similarity" in text for text in processed.infotexts)
    assert photo[:40] not in f"{info}{processed.infotexts}"
    assert unit_of(neighbour)["embedding"][:40] not in f"{info}{processed.infotexts}"


def make_alone(p, unit):
    """The same request without the neighbour."""
    script = next(each for each in p.scripts.scripts if each.title() == "BeyondFacial")
    args = list(p.script_args)
    args[script.args_from : script.args_to] = [unit, *[None] * (script.args_to - script.args_from - 1)]
    again = processing.StableDiffusionProcessingTxt2Img(sd_model=shared.sd_model, **{**PLAIN, "batch_size": 3})
    again.scripts, again.script_args, again.is_api = p.scripts, tuple(args), True
    return processing.process_images(again), again


@pytest.mark.parametrize("place", ["first", "last"])
def test_a_photo_left_in_a_disabled_accordion_breaks_nothing(make, page_values, place):
    p, neighbour = make(page_values(enabled=False), place, is_api=False, batch_size=2)
    processed = processing.process_images(p)
    assert unit_of(neighbour) == {"enabled": False}
    assert len(processed.images) == 2
    assert "BeyondFacial" not in processed.js()


def test_the_pages_photos_and_masks_stay_here(make, page_values):
    p, neighbour = make(page_values(enabled=True, show_mask=True), is_api=False, batch_size=2)
    processed = processing.process_images(p)
    assert unit_of(neighbour).keys() == {"enabled", "embedding", "adapter", "refine_head"}
    assert len(processed.images) == 3  # two pictures, and the mask of the one that was made here
    assert "Other machines send no masks, so pictures 2" in processed.comments


def test_two_persons_of_the_page_go_as_exports(make, page_values, photo, tmp_path):
    second = tmp_path / "second.png"
    Image.fromarray(draw(1, noise=1)).save(second)
    values = page_values(enabled=True, subject="man")
    extra = {"person_2_references": [str(second)], "person_2_position": "1", "person_2_weight": 0.7}
    names = [field.key for field in PAGE_FIELDS]
    values = [extra.get(key, value) for key, value in zip(names, values, strict=True)]
    p, neighbour = make(values, is_api=False, batch_size=2, prompt="photo of a man and a woman")
    processed = processing.process_images(p)
    one, two = unit_of(neighbour)["persons"]
    assert (one["subject"], two["position"], two["weight"]) == ("man", "1", 0.7)
    assert all(each["embedding"] and not each["references"] for each in (one, two))
    assert "BeyondFacial person 2" in processed.infotexts[0]
    assert "BeyondFacial person 2" in processed.infotexts[1]
    assert "BeyondFacial picture 1, person 2: " in processed.comments


def test_names_of_this_machine_stay_here(make, photo, client):
    saved = client.post("/beyondfacial/v1/identities", json={"name": "Anna", "references": [photo]})
    assert saved.status_code == 200, saved.text
    unit = {"identity": "Anna", "adapter": "fits", "refine_head": False, "identity_in_infotext": True}
    p, neighbour = make(unit, batch_size=2)
    processed = processing.process_images(p)
    assert "Anna" not in json.dumps(neighbour.payload)
    assert "BeyondFacial identity: Anna" in processed.infotexts[0]
    assert saved.json()["photo_hash"] in processed.infotexts[1]


def test_a_cells_values_are_folded_in(make, photo, client, host):
    assert client.post("/beyondfacial/v1/identities", json={"name": "Anna", "references": [photo]}).status_code == 200
    p, neighbour = make({"references": [photo], "adapter": "fits", "refine_head": False}, batch_size=2)
    cell = copy.copy(p)
    for key, value in (("weight", 0.5), ("preset", "As in the paper"), ("identity", "Anna")):
        xyz.apply(cell, cells.AXES[key], value)
    processed = processing.process_images(cell)
    unit = unit_of(neighbour)
    assert (unit["weight"], unit["style"], "identity" in unit) == (0.5, 0.5, False)
    assert all("BeyondFacial weight: 0.5" in text for text in processed.infotexts)
    assert not hasattr(p, cells.ATTRIBUTE)


def test_what_cannot_be_used_fails_here_with_its_sentence(make, photo):
    p, neighbour = make({"references": [photo], "adapter": "absent"}, batch_size=2)
    with pytest.raises(HTTPException) as caught:
        processing.process_images(p)
    assert 'no adapter "absent"' in caught.value.detail
    assert unit_of(neighbour) == {"enabled": False}


def test_warnings_about_photos_are_kept(make, photo):
    blank = to_base64(np.zeros((64, 64, 3), np.uint8))
    p, _ = make({"references": [photo, blank], "adapter": "fits", "refine_head": False}, batch_size=2)
    processed = processing.process_images(p)
    assert "photo 2" in processed.comments


def test_without_such_a_neighbour_the_arguments_stay_as_they_are(host, photo):
    args = host.api.script_args({"BeyondFacial": {"args": [{"references": [photo]}]}})
    p = processing.StableDiffusionProcessingTxt2Img(sd_model=shared.sd_model)
    p.scripts, p.script_args, p.is_api = scripts.scripts_txt2img, args, True
    forwarding.prepare(p)
    assert p.script_args is args
    assert forwarding.ATTRIBUTE not in vars(p)
