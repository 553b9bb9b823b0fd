"""In hires fix's second pass the identity lines have that pass's prompts and size, as the host's own conds do."""

from __future__ import annotations

import contextlib
import sys
import weakref
from types import SimpleNamespace

import pytest

from lib_beyondfacial.hosts.model import encode_prompts, prompts_of, size_of
from lib_beyondfacial.hosts.run import FIRST_PASS_ALONE, Run, begin_pass, images_of
from lib_beyondfacial.sampling.sampling_pass import SamplingPass
from lib_beyondfacial.settings.parameters import MethodParameters
from tests.hosts.hires_double import add_hires_pass

FIRST = {"prompts": ["a man"], "negative_prompts": ["ugly"], "seeds": [7], "width": 512, "height": 768}
HIRES = {
    "hr_prompts": ["a man, smiling"],
    "hr_negative_prompts": ["blurred"],
    "hr_upscale_to_x": 1024,
    "hr_upscale_to_y": 1536,
}


def test_each_pass_has_its_own_prompts_and_size():
    p = SimpleNamespace(**FIRST, **HIRES, is_hr_pass=False)
    assert (prompts_of(p), size_of(p)) == ((["a man"], ["ugly"]), (768, 512))
    p.is_hr_pass = True
    assert (prompts_of(p), size_of(p)) == ((["a man, smiling"], ["blurred"]), (1536, 1024))
    (image,) = images_of(p)
    assert (image.prompt, image.negative_prompt, image.seed) == ("a man, smiling", "blurred", 7)


def test_a_host_without_them_is_asked_for_its_only_ones():
    p = SimpleNamespace(**FIRST, is_hr_pass=True, hr_prompts=None)
    assert (prompts_of(p), size_of(p)) == ((["a man"], ["ugly"]), (768, 512))


def test_a_request_is_sampled_with_them(host, photo, monkeypatch):
    from modules import processing

    add_hires_pass(monkeypatch)
    Job, passes, begin = processing.StableDiffusionProcessingTxt2Img, [], SamplingPass.__init__

    def note(self, plan, host, images, *rest):
        passes.append([image.prompt for image in images])
        begin(self, plan, host, images, *rest)

    monkeypatch.setattr(SamplingPass, "__init__", note)
    monkeypatch.setattr(Job, "hr_prompts", ["a man, smiling"], raising=False)
    monkeypatch.setattr(Job, "hr_negative_prompts", [""], raising=False)
    unit = {"enabled": True, "references": [photo], "adapter": "fits"}
    more = {"width": 64, "height": 64, "steps": 3, "alwayson_scripts": {"BeyondFacial": {"args": [unit]}}}
    host.txt2img(prompt="a man", **more)
    assert passes == [["a man"], ["a man, smiling"]]


def test_a_second_pass_alone_that_is_left_out_says_so():
    """The button that upscales a picture of the gallery samples this pass alone."""

    class Job(SimpleNamespace):
        __hash__ = object.__hash__

    p = Job(is_hr_pass=True, enable_hr=True, sampler=SimpleNamespace(launch_sampling=lambda steps, func: None))
    plan = SimpleNamespace(can_act=True, lines=(), parameters=MethodParameters(hires_pass="first"))
    run = Run(plan, weakref.ref(p))
    begin_pass(p, run, None, None)
    assert run.report.warnings == [FIRST_PASS_ALONE]
    assert run.report.batch.explained
    later = Run(plan, weakref.ref(p), batch=0)
    begin_pass(p, later, None, None)
    assert not later.report.warnings, "what the first pass has reported holds"


@pytest.mark.parametrize("is_negative", [True, False])
def test_negative_prompts_are_told_as_such(monkeypatch, is_negative):
    """Where all of them are empty, the hosts give SDXL zeros in place of the encoding of \"\"."""
    asked = []
    conditioning = lambda texts, **more: more  # noqa: E731
    modules = SimpleNamespace(
        devices=SimpleNamespace(autocast=contextlib.nullcontext),
        prompt_parser=SimpleNamespace(SdConditioning=conditioning),
    )
    monkeypatch.setitem(sys.modules, "modules", modules)
    model = SimpleNamespace(get_learned_conditioning=lambda given: asked.append(given) or {})
    encode_prompts(SimpleNamespace(sd_model=model), [""], (96, 64), is_negative)
    assert asked == [{"is_negative_prompt": is_negative, "width": 64, "height": 96}]
