"""Extensions that replace the model call: the identity is switched off or the request refused, and they are named."""

from __future__ import annotations

import sys
import weakref
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from fastapi import HTTPException

from tests.hosts.controlnet_double import KINDS
from tests.hosts.neighbours_host import function_of, use

SIDE = 64


TILER = """
class MultiDiffusion:
    def __init__(self, inner_model):
        self.sampler_forward = inner_model.forward

    def kdiff_forward(self, x, sigma, cond=None):
        half = x.shape[-1] // 2
        return torch.cat([self.sampler_forward(part, sigma, cond=cond) for part in (x[..., :half], x[..., half:])], -1)

    kdiff_forward.__module__ = "tile_utils.utils"  # the extension's decorator names no other
"""


def test_tiled_diffusion_disables_the_identity_with_a_warning(ask, monkeypatch):
    from modules import sd_samplers

    tiler = function_of("a-tiler", TILER, "MultiDiffusion", torch=torch, __name__="tile_methods.multidiffusion")
    create = sd_samplers.create_sampler

    def create_sampler(*args):
        sampler = create(*args)
        inner = sampler.model_wrap_cfg.inner_model
        inner.forward = tiler(inner).kdiff_forward
        return sampler

    monkeypatch.setattr("demo.miniwebui.processing.create_sampler", create_sampler)
    plain = ask()[0]
    pictures, _, comments = ask({})
    assert "Tiled Diffusion (MultiDiffusion)" in comments
    assert np.array_equal(pictures[:1], plain)


REGIONAL = """
def hook_forward(self, module):
    def forward(x, context=None):
        half = x.shape[1] // 2
        whole = type(module).forward
        return torch.cat([whole(module, x[:, :half], context), whole(module, x[:, half:], context)], 1)
    return forward
"""


def test_regional_prompter_disables_the_identity_with_a_warning(ask, unet):
    make = function_of("a-regional", REGIONAL, "hook_forward", torch=torch, __name__="scripts.attention")
    sites = [module for name, module in unet.named_modules() if name.endswith("attn2")]
    for module in sites:
        module.forward = make(None, module)
    try:
        plain = ask()[0]
        pictures, _, comments = ask({})
    finally:
        for module in sites:
            del module.forward
    assert "Regional Prompter" in comments
    assert np.array_equal(pictures[:1], plain)


@pytest.mark.parametrize("word", ["AND_PERP", "AND_SALT", "AND_TOPK"])
def test_neutral_prompts_parts_are_refused(ask, monkeypatch, word):
    state = ModuleType("lib_neutral_prompt.global_state")
    state.is_enabled = True
    monkeypatch.setitem(sys.modules, "lib_neutral_prompt.global_state", state)
    prompt = f"photo of a man {word} red hair :0.8"
    with pytest.raises(HTTPException) as raised:
        ask({}, prompt=prompt)
    assert word in raised.value.detail
    assert "neutral-prompt" in raised.value.detail
    state.is_enabled = False
    assert len(ask({}, prompt=prompt, steps=4)[1]) == 1


@pytest.mark.parametrize("size", [(96, 64), (64, 96), (64, 64), (120, 104)])
def test_small_pictures_end_in_a_picture_with_a_report(ask, size):
    width, height = size
    pictures, reports, _ = ask({}, width=width, height=height, steps=4)
    assert pictures.shape[1:3] == (height, width)
    assert len(reports) == 1


def test_where_no_attention_can_be_read_it_is_a_sentence(ask, monkeypatch):
    from lib_beyondfacial.method import attention_maps

    monkeypatch.setattr(attention_maps, "grid_of", lambda *a: None)
    with pytest.raises(HTTPException) as raised:
        ask({"start_identity": 0.0})
    assert "could be read" in raised.value.detail


def test_hires_pass_with_another_model_is_plain_with_a_warning():
    from lib_beyondfacial.errors import BeyondFacialError
    from lib_beyondfacial.hosts.run import Run, begin_pass
    from lib_beyondfacial.settings import MethodParameters

    class Adapter:
        def refuse_unfit(self, p):
            raise BeyondFacialError('"fits" was made for SD1.5, this model is SDXL; choose an adapter for SDXL.')

    line = SimpleNamespace(injections=())

    class Job:
        is_hr_pass = True
        sampler = SimpleNamespace(launch_sampling=lambda steps, func: None)

    p = Job()
    run = Run(SimpleNamespace(can_act=True, lines=(line,), parameters=MethodParameters()), weakref.ref(p))
    begin_pass(p, run, Adapter(), None)
    assert run.sampling is None
    assert "hires" in run.report.warnings[0]
    assert "SDXL" in run.report.warnings[0]
    with pytest.raises(BeyondFacialError):
        begin_pass(SimpleNamespace(is_hr_pass=False, sampler=Job.sampler), run, Adapter(), None)


def test_an_identity_prompt_follows_prompt_editing(ask, monkeypatch):
    from lib_beyondfacial.hosts.a1111.model import A1111Host

    encoded, original = [], A1111Host.encode_prompts

    def note(host, texts, *given, **more):
        encoded.extend(texts)
        return original(host, texts, *given, **more)

    monkeypatch.setattr(A1111Host, "encode_prompts", note)
    monkeypatch.setattr(
        A1111Host, "prompts_at_end", lambda host, texts: [t.replace("[old:new:0.5]", "new") for t in texts]
    )
    ask({"identity_prompt": "{prompt}, [old:new:0.5]"})
    assert any("new" in text for text in encoded)
    assert not any("[old" in text for text in encoded)


@pytest.mark.parametrize("kind", KINDS)
def test_a_crop_goes_past_every_patch_and_comes_back_to_them(host, ask, neighbour, unet, monkeypatch, kind):
    """The crop is asked for at a level of the picture's own pass, by the host's part of the head refinement."""
    from lib_beyondfacial.sampling.sampling_pass import SamplingPass

    use(neighbour, SIDE, kind)
    crops, original = [], SamplingPass.delta

    def names():
        return {name for name, module in unet.named_modules() if "forward" in module.__dict__}

    def delta(sampling, *args):
        before, calls_before = names(), len(neighbour.hooks[0].calls)
        cond = sampling.host.encode_prompts(["a man", "a man"], (128, 128))
        x = torch.zeros(2, 4, 16, 16)
        watched = []
        handle = unet.register_forward_pre_hook(lambda *_: watched.append(names()))
        crops.append(sampling.host.predict_x0(x, 1.0, cond, is_crop=True))
        handle.remove()
        assert watched == [set()], "nothing is patched meanwhile"
        assert names() == before
        assert before, "and before it was"
        assert len(neighbour.hooks[0].calls) == calls_before
        return original(sampling, *args)

    monkeypatch.setattr(SamplingPass, "delta", delta)
    ask({}, batch_size=2)
    assert len(crops) == 4


def test_a_crop_meets_no_hook_of_an_extension(unet):
    from lib_beyondfacial.hosts.patches import unpatched

    calls = []
    hook = function_of("sd-webui-other", "def hook(module, args):\n    calls.append(len(args))", calls=calls)
    layer = next(module for module in unet.modules() if isinstance(module, torch.nn.Linear))
    handles = [layer.register_forward_pre_hook(each) for each in (lambda m, a: calls.append("host"), hook)]
    x = torch.zeros(1, layer.in_features)
    with unpatched(unet):
        layer(x)
    assert calls == ["host"]
    layer(x)
    assert calls == ["host", "host", 1], "it is on again, in its place"
    for handle in handles:
        handle.remove()
