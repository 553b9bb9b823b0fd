"""Beside other scripts: what they hand round early and late, what they change at the end, what they lay out."""

from __future__ import annotations

import copy
import json
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from demo.miniwebui import processing, scripts, shared
from lib_beyondfacial.hosts import request
from lib_beyondfacial.hosts.run import is_copy_in_request, run_of
from lib_beyondfacial.webui import neighbours
from lib_beyondfacial.webui import run as requests
from tests.faces.conftest import draw

PLAIN = {"prompt": "photo of a man", "seed": 7, "steps": 2, "width": 64, "height": 64, "sampler_name": "Euler"}
PORTRAIT = Image.fromarray(draw(1))  # the photo's own person


class Neighbour(scripts.Script):
    """Another extension's script; its arguments are none of ours."""

    filename, args_from, args_to = "neighbour.py", 0, 0

    def title(self):
        return type(self).__name__


@pytest.fixture
def job(host, photo, monkeypatch):
    """(unit, job's fields) -> (the answer, its info).

    first, last: scripts before and behind ours; `selected` runs as a selectable script.
    """

    def job(unit=None, first=(), last=(), selected="", **fields):
        runner = scripts.scripts_txt2img
        monkeypatch.setattr(runner, "scripts", [*first, *host_scripts, *last])
        runner.selectable_scripts = [SimpleNamespace(title=lambda: selected)]
        unit = {"references": [photo], "adapter": "fits", "refine_head": False, **(unit or {})}
        args = list(host.api.script_args({"BeyondFacial": {"args": [unit]}}))
        args[0] = 1 if selected else 0
        later = {key: fields.pop(key) for key in ("restore_faces", "init_images") if key in fields}
        p = processing.StableDiffusionProcessingTxt2Img(sd_model=shared.sd_model, **{**PLAIN, **fields})
        p.scripts, p.script_args, p.is_api, p.outpath_samples = runner, tuple(args), True, "outputs"
        vars(p).update(later)
        shared.state.begin()
        processed = processing.process_images(p)
        return processed, json.loads(processed.js())

    host_scripts = list(scripts.scripts_txt2img.scripts)
    return job


def reports_of(info):
    return info["extra_generation_params"]["BeyondFacial report"]


class ADetailer(Neighbour):
    """As ADetailer does: an early end and a late begin on copies of `p`, and a picture that is another afterwards."""

    def __init__(self):
        self.copies = []

    def postprocess_image(self, p, pp):
        if p.batch_index == 0:
            p.scripts.postprocess(self.copied(p), processing.Processed(p, [], [""]))
        pp.image = PORTRAIT.copy()
        if p.batch_index == p.batch_size - 1:
            late = self.copied(p)
            p.scripts.before_process(late)
            p.scripts.process(late)

    def copied(self, p):
        self.copies.append((copy.copy(p), p))
        return self.copies[-1][0]


def test_adetailer_neither_ends_nor_repeats_the_request(job, monkeypatch):
    loads = []
    load = requests.person.load_person
    monkeypatch.setattr(requests.person, "load_person", lambda *args: loads.append(1) or load(*args))
    neighbour = ADetailer()
    _, info = job(last=[neighbour], unit={"show_mask": True}, batch_size=2)
    assert len(loads) == 1
    assert len(neighbour.copies) == 2
    assert all(run_of(each) is None for each, _ in neighbour.copies)
    assert "sample" not in vars(neighbour.copies[-1][0])  # it would have sampled the owner
    assert len(info["extra_generation_params"]["BeyondFacial masks"]) == 2
    assert len(reports_of(info)) == 2


def test_what_adetailer_made_is_what_is_measured(job):
    processed, info = job(last=[ADetailer()], batch_size=2, n_iter=2)
    assert [report["similarity"] > 0.99 for report in reports_of(info)] == [True] * 4
    for text in info["infotexts"]:
        assert "similarity 1.000" in text
    assert "similarity 1.000" in processed.images[3].info["parameters"]


class Composer(Neighbour):
    """ "Only masked": what was sampled is laid into a larger picture that has a face already."""

    box = (0, 128, 64, 64)

    def process(self, p):
        p.paste_to, p.overlay_images = self.box, [PORTRAIT]

    def postprocess_image(self, p, pp):
        whole = PORTRAIT.copy()
        whole.paste(pp.image, self.box[:2])
        pp.image = whole


def test_only_masked_is_told_in_the_pictures_own_coordinates(job):
    processed, info = job(last=[Composer()], unit={"show_mask": True, "mask_mode": "whole"})
    (report,) = reports_of(info)
    assert report["mask_coverage"] == pytest.approx(64 * 64 / 256**2)
    assert report["face_area"] == pytest.approx((64 / 256) ** 2, rel=0.3)
    mask = np.asarray(processed.images[1])
    x, y, width, height = Composer.box
    assert mask.shape == (256, 256, 3)
    assert (mask[y : y + height, x : x + width] == 255).all()
    assert mask.sum() == 255 * 3 * width * height


class LateChange(Neighbour):
    """A script that changes pictures when they are saved already."""

    def postprocess(self, p, processed):
        processed.images[0] = PORTRAIT.copy()


def test_a_picture_that_was_changed_at_the_end_is_measured_again(job):
    processed, info = job(first=[LateChange()])
    assert reports_of(info)[0]["similarity"] > 0.99
    assert "similarity 1.000" in info["infotexts"][0]
    assert "Another extension changed picture 1" in processed.comments


class Maps(Neighbour):
    """ControlNet: its maps come behind the pictures, without infotexts of their own."""

    def postprocess(self, p, processed):
        processed.images.extend([Image.new("RGB", (32, 32))] * 2)


@pytest.mark.parametrize("place", ["first", "last"])
def test_the_api_says_which_images_are_masks(job, place):
    processed, info = job(**{place: [Maps()]}, unit={"show_mask": True})
    parameters = info["extra_generation_params"]
    pictures, masks = parameters["BeyondFacial pictures"], parameters["BeyondFacial masks"]
    assert pictures == [0]
    assert masks == ([3] if place == "first" else [1])
    assert all(processed.images[index].size == (64, 64) for index in (*pictures, *masks))
    assert len(processed.images) == 4
    assert info["infotexts"][masks[0]] == info["infotexts"][0] + ", BeyondFacial mask: of picture 1"


@pytest.fixture
def saved(monkeypatch):
    """What the host was asked to save."""
    calls, module = [], ModuleType("modules.images")

    def save_image(image, path, basename, seed, prompt, extension, **more):
        calls.append(SimpleNamespace(image=image, path=path, seed=seed, **more))
        return f"/folder/of/{path}/0000{len(calls)}{more['suffix']}.png", None

    module.save_image = save_image
    monkeypatch.setitem(sys.modules, "modules.images", module)
    monkeypatch.setattr(sys.modules["modules"], "images", module, raising=False)
    return calls


def test_where_a_script_lays_out_pictures_masks_are_saved(job, saved):
    processed, info = job(unit={"show_mask": True}, selected="Prompt matrix", batch_size=2)
    assert len(processed.images) == len(processed.infotexts) == 2
    assert [each.image.size for each in saved] == [(64, 64)] * 2
    assert [each.seed for each in saved] == [7, 8]
    assert all(each.suffix == neighbours.MASK_SUFFIX for each in saved)
    assert "BeyondFacial masks" not in info["extra_generation_params"]
    warnings = "; ".join(info["extra_generation_params"]["BeyondFacial warnings"])
    assert "Prompt matrix" in warnings
    assert "00001-beyondfacial-mask.png" in warnings
    assert "/folder" not in warnings


@pytest.mark.parametrize("title", ["SD upscale", "Ultimate SD upscale", "Tiled redraw"])
def test_tile_scripts_go_without_the_identity_and_say_so(job, title, saved):
    plain, _ = job(unit={"enabled": False, "references": []})
    processed, info = job(selected=title, init_images=[PORTRAIT])
    assert np.array_equal(processed.images[0], plain.images[0])
    assert title in processed.comments
    assert title in info["infotexts"][0]
    assert title in info["extra_generation_params"]["BeyondFacial warnings"][0]
    processed, info = job(selected=title, init_images=[PORTRAIT], unit={"in_tiles": True})
    assert len(reports_of(info)) == 1
    assert title not in processed.comments


def test_other_scripts_keep_the_identity(job, saved):
    for selected, images in (("Loopback", [PORTRAIT]), ("SD upscale", None)):
        _, info = job(selected=selected, init_images=images)
        assert len(reports_of(info)) == 1


def test_face_restoration_is_warned_of_once(job):
    processed, _ = job(restore_faces=True, n_iter=2)
    assert processed.comments.count("Face restoration") == 1
    processed, _ = job(restore_faces=False)
    assert "Face restoration" not in processed.comments


def test_a_warning_is_not_in_the_next_requests_infotext(job):
    _, info = job(unit={"start": 0.96})
    assert "BeyondFacial warnings" in info["extra_generation_params"]
    assert "BeyondFacial warnings" not in info["infotexts"][0]


def test_copy_of_an_ended_request_is_a_new_request(host, photo):
    p = processing.StableDiffusionProcessingTxt2Img(sd_model=shared.sd_model, **PLAIN)
    p.scripts, p.is_api = scripts.scripts_txt2img, True
    p.script_args = host.api.script_args({"BeyondFacial": {"args": [{"references": [photo], "adapter": "fits"}]}})
    shared.state.begin()
    processing.process_images(p)
    again = copy.copy(p)
    assert not is_copy_in_request(again)
    assert "BeyondFacial report" in json.loads(processing.process_images(again).js())["extra_generation_params"]


def test_adetailers_inner_job_of_an_api_request_has_the_person(host, photo):
    """Its job is none of the API's, but bears the API request's arguments; it asks us if the user lists us."""
    p = processing.StableDiffusionProcessingTxt2Img(sd_model=shared.sd_model, **PLAIN)
    p._ad_inner, p.is_api, p.scripts = True, False, scripts.scripts_txt2img
    requests.begin(p, ({"references": [photo], "adapter": "fits"},))
    try:
        assert run_of(p) is not None
    finally:
        request.end(p)
