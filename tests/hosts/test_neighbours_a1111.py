"""Beside other extensions on A1111's miniature: whose rows, marks and patches a model call of ours meets.

What becomes of the likeness is in test_neighbours_likeness.
"""

from __future__ import annotations

import sys
import weakref
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from fastapi import HTTPException

from tests.hosts import neighbours_host
from tests.hosts.controlnet_double import KINDS
from tests.hosts.neighbours_host import function_of, use

SIDE = 64


@pytest.fixture(scope="module")
def host(models_dir, tmp_path_factory):
    return neighbours_host.boot(models_dir, tmp_path_factory.mktemp("webui"))


@pytest.fixture
def neighbour(host):
    module = neighbours_host.double()
    yield module
    module.units.clear()


@pytest.fixture
def ask(host, photo):
    person = {"references": [photo], "adapter": "fits"}
    request = {"steps": 4, "width": SIDE, "height": SIDE, "seed": 5, "prompt": "a photo of man"}
    plain = neighbours_host.asker(host, person, **request)
    return lambda identity=None, **changes: plain(
        None if identity is None else {"refine": False, "start_identity": 0.5, "start": 0.0, **identity}, **changes
    )


@pytest.fixture
def unet(host):
    from modules import shared

    return shared.sd_model.model.diffusion_model


def test_all_rows_of_a_call_are_marked_or_none_with_a_prompt_of_ours_too(ask, neighbour):
    use(neighbour, SIDE, "structural")
    ask({"identity_prompt": "{prompt}, red hair"}, batch_size=2)
    marks = [seen.marks for seen in neighbour.hooks[0].seen]
    assert None not in marks
    assert (1, 1) in marks, "the identity line's own call, as two conds"
    assert (1, 1, 0, 0) in marks, "the host's"


def test_a_structural_unit_is_not_hidden_from_the_identity_line(ask, neighbour):
    use(neighbour, SIDE, "structural")
    ask({"start_identity": 0.0}, steps=4)
    rows = [seen.rows for seen in neighbour.hooks[0].seen]
    assert rows.count(1) > 0
    assert rows.count(2) == 4


@pytest.mark.parametrize("kind", ["reference", "colorfix", "ip_adapter"])
def test_a_unit_that_fixes_the_batch_sees_the_hosts_rows_alone(ask, neighbour, kind):
    use(neighbour, SIDE, kind)
    ask({"start_identity": 0.0, "identity_prompt": "{prompt}, red hair"}, batch_size=2, steps=4)
    seen = neighbour.hooks[0].seen
    assert {each.marks for each in seen} == {(1, 1, 0, 0)}
    assert len(seen) > 4, "the identity line is among them"


def test_the_rows_that_a_units_layout_costs_are_counted(ask, neighbour, monkeypatch):
    from lib_beyondfacial.hosts import request

    runs, original = [], request.begin
    monkeypatch.setattr(request, "begin", lambda *a: runs.append(original(*a)) or runs[-1])
    identity = {"start_identity": 0.0}
    ask(identity, steps=4)
    use(neighbour, SIDE, "reference")
    ask(identity, steps=4)
    alone, beside = (run.report.identity_rows for run in runs)
    assert beside == 2 * alone > 0


def test_the_reference_picture_is_neither_read_nor_given_a_face(ask, neighbour, unet):
    """Its call lies within the picture's: our hooks would take its attention for the picture's."""
    use(neighbour, SIDE, "reference")
    ours, site = [], next(m for name, m in unet.named_modules() if name.endswith("attn2"))

    def count_hooks(module, args):
        from lib_beyondfacial.hosts.extensions import is_ours

        hooks = [h for m in unet.modules() for h in [*m._forward_hooks.values(), *m._forward_pre_hooks.values()]]
        ours.append((neighbour.hooks[-1].writes, sum(map(is_ours, hooks))))

    handle = site.to_v.register_forward_pre_hook(count_hooks)
    try:
        ask({})
    finally:
        handle.remove()
    assert {count for writes, count in ours if writes} == {0}
    assert max(count for writes, count in ours if not writes) > 0


def test_the_look_ahead_leaves_no_trace_in_a_unit_or_in_torchs_numbers(ask, neighbour):
    """The same reference picture in all that the host draws: with a mask of nothing the picture is the neighbour's."""
    use(neighbour, SIDE, "reference")
    torch.manual_seed(3)
    plain = ask(batch_size=2)[0]
    use(neighbour, SIDE, "reference")
    torch.manual_seed(3)
    ours = ask({"start_identity": 1e-6, "weight": 1e-6}, batch_size=2)[0][:2]
    assert np.abs(plain.astype(int) - ours).max() <= 3


@pytest.mark.parametrize("order", ["ours first", "ours last"])
def test_after_a_request_that_fails_early_no_mark_is_left_in_the_hosts_cache(ask, neighbour, monkeypatch, order):
    from modules import scripts

    if order == "ours last":
        runner = scripts.scripts_txt2img
        monkeypatch.setattr(runner, "scripts", runner.scripts[::-1])
    plain = ask()[0]
    use(neighbour, SIDE, "structural")
    with pytest.raises(HTTPException):
        ask({"weight": 99.0})
    neighbour.units.clear()
    assert np.array_equal(ask()[0], plain)


@pytest.mark.parametrize("kind", KINDS)
def test_after_an_error_in_the_middle_a_plain_request_is_what_it_was(ask, neighbour, monkeypatch, kind):
    from lib_beyondfacial.sampling.sampling_pass import SamplingPass

    plain = ask()[0]
    use(neighbour, SIDE, kind)
    with monkeypatch.context() as broken:
        broken.setattr(SamplingPass, "delta", lambda *a: 1 / 0)
        with pytest.raises(HTTPException) as raised:
            ask({})
    assert (
        raised.value.detail == "BeyondFacial: internal error (ZeroDivisionError: division by zero), see the console."
    )
    neighbour.units.clear()
    assert np.array_equal(ask()[0], plain)


def test_an_error_of_an_extension_in_the_identitys_call_names_it(ask, unet):
    source = "def hook(module, args):\n    if len(args[0]) == 1:\n        raise ValueError('rows of /home/me/x')"
    handle = unet.register_forward_pre_hook(function_of("sd-webui-other", source))
    try:
        with pytest.raises(HTTPException) as raised:
            ask({"start_identity": 0.0})
    finally:
        handle.remove()
    assert '"sd-webui-other"' in raised.value.detail
    assert "ValueError: rows of ..." in raised.value.detail
    assert "/home" not in raised.value.detail


def test_an_error_in_a_hook_of_ours_on_the_hosts_own_call_is_a_sentence(ask, monkeypatch):
    from lib_beyondfacial.unet import probe

    monkeypatch.setattr(probe, "compute_margin", lambda *a: 1 / 0)
    with pytest.raises(HTTPException) as raised:
        ask({"start_identity": 0.0})
    assert "ZeroDivisionError" in raised.value.detail


TILER = """
class MultiDiffusion:
    def __init__(self, inner_model):
        self.sampler_forward = inner_model.forward

    def kdiff_forward(self, x, sigma, cond=None):
        half = x.shape[-1] // 2
        return torch.cat([self.sampler_forward(part, sigma, cond=cond) for part in (x[..., :half], x[..., half:])], -1)

    kdiff_forward.__module__ = "tile_utils.utils"  # the extension's decorator names no other
"""


def test_tiled_diffusion_makes_us_stand_aside_and_is_named(ask, monkeypatch):
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


def test_regional_prompters_attention_mode_makes_us_stand_aside_and_is_named(ask, unet):
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
def test_neutral_prompts_parts_are_refused_where_it_composes_them(ask, monkeypatch, word):
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


def test_a_hires_pass_on_a_model_that_does_not_fit_is_plain_with_a_warning():
    from lib_beyondfacial.errors import BeyondFacialError
    from lib_beyondfacial.hosts.run import Run, begin_pass

    class Adapter:
        def refuse_unfit(self, p):
            raise BeyondFacialError('"fits" was made for SD1.5, this model is SDXL; choose an adapter for SDXL.')

    line = SimpleNamespace(injections=())

    class Job:
        is_hr_pass = True

    p = Job()
    run = Run(SimpleNamespace(can_act=True, lines=(line,)), weakref.ref(p))
    begin_pass(p, run, Adapter(), None)
    assert run.sampling is None
    assert "hires" in run.report.warnings[0]
    assert "SDXL" in run.report.warnings[0]
    with pytest.raises(BeyondFacialError):
        begin_pass(SimpleNamespace(is_hr_pass=False), run, Adapter(), None)


def test_an_identity_prompt_follows_prompt_editing(ask, monkeypatch):
    from lib_beyondfacial.hosts.a1111.model import A1111Host

    encoded, original = [], A1111Host.encode_prompts
    monkeypatch.setattr(
        A1111Host, "encode_prompts", lambda host, texts, size: encoded.extend(texts) or original(host, texts, size)
    )
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
        before, seen = names(), len(neighbour.hooks[0].seen)
        cond = sampling.host.encode_prompts(["a man", "a man"], (128, 128))
        x = torch.zeros(2, 4, 16, 16)
        watched = []
        handle = unet.register_forward_pre_hook(lambda *_: watched.append(names()))
        crops.append(sampling.host.predict_x0(x, 1.0, cond, None, is_crop=True))
        handle.remove()
        assert watched == [set()], "nothing is patched meanwhile"
        assert names() == before
        assert before, "and before it was"
        assert len(neighbour.hooks[0].seen) == seen
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
