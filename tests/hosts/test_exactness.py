"""docs/method.md section 5, through the embedded host, the extension's own script and the API's own arguments."""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np
import pytest
from fastapi import HTTPException

from lib_beyondfacial.adapters.attention import AdapterInjection, DecoupledAttention
from lib_beyondfacial.sampling.sampling_pass import SamplingPass
from lib_beyondfacial.unet.injection import Attached

SAMPLERS = ["Euler", "Euler a", "DPM++ 2M", "DDIM"]
REQUEST = {"prompt": "a photo of man", "steps": 5, "width": 64, "height": 64, "seed": 5}


@pytest.fixture
def run(host, photo):
    """run(unit, **request) -> pictures; unit None: without the extension; head refinement has a file of its own."""

    def run(unit=None, **request):
        payload = {**REQUEST, **request}
        if unit is not None:
            args = {"enabled": True, "references": [photo], "adapter": "fits", "refine_head": False, **unit}
            payload["alwayson_scripts"] = {"BeyondFacial": {"args": [args]}}
        return [np.asarray(image) for image in host.txt2img(**payload)[0]]

    return run


@pytest.fixture
def unet(host):
    from modules import shared

    return shared.sd_model.model.diffusion_model


@pytest.fixture
def identity_rows(monkeypatch):
    """The rows of every call that the identity is attached to, whatever comes of it."""
    counted, original = [], AdapterInjection.attached

    def counting(self, sites, where, weight):
        counted.append(len(where.images))
        return original(self, sites, where, weight)

    monkeypatch.setattr(AdapterInjection, "attached", counting)
    return counted


def hooks_on(module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in module.modules())


def same(a, b) -> bool:
    return len(a) == len(b) and all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("sampler_name", SAMPLERS)
@pytest.mark.parametrize(
    "unit",
    [{"enabled": False}, {"weight": 0.0}, {"mask_strength": 0.0}, {"start": 0.99, "stop": 1.0}],
    ids=["disabled", "weight 0", "mask strength 0", "outside the window"],
)
def test_outside_the_window_bit_equal_without_identity_rows(run, identity_rows, sampler_name, unit):
    plain = run(sampler_name=sampler_name, batch_size=2)
    assert same(plain, run(unit, sampler_name=sampler_name, batch_size=2))
    assert not identity_rows


@pytest.mark.parametrize("sampler_name", SAMPLERS)
@pytest.mark.parametrize(
    "request_extra",
    [{}, {"batch_size": 2}, {"cfg_scale": 1.0}, {"prompt": "a photo AND face :0.5"}],
    ids=["one", "batch", "cfg 1", "AND"],
)
def test_zero_mask_is_bit_equal_though_the_line_runs(run, identity_rows, monkeypatch, sampler_name, request_extra):
    from lib_beyondfacial.method import decision

    unit = {"idap_strength": 0.0, "start": 0.0}
    plain = run(sampler_name=sampler_name, **request_extra)
    changed = run(unit, sampler_name=sampler_name, **request_extra)
    assert not same(plain, changed), "the mask is not zero by itself, or this test would prove nothing"
    original = decision.compute_decision
    monkeypatch.setattr(decision, "compute_decision", lambda *a, **k: 0 * original(*a, **k))
    identity_rows.clear()
    forced = run(unit, sampler_name=sampler_name, **request_extra)
    assert identity_rows, "the identity line did run"
    assert same(plain, forced)


@pytest.mark.parametrize("sampler_name", SAMPLERS)
def test_idap_strength_zero_leaves_the_hosts_noise(run, sampler_name):
    plain = run(sampler_name=sampler_name)
    assert same(plain, run({"idap_strength": 0.0, "rho": 0.0}, sampler_name=sampler_name)), "rho 0 adds nothing"
    assert not same(plain, run({"idap_strength": 0.5, "rho": 0.0}, sampler_name=sampler_name))


@pytest.mark.parametrize("sampler_name", SAMPLERS)
def test_a_batch_is_each_of_its_pictures_alone(run, sampler_name):
    unit = {"start": 0.0, "idap_strength": 0.0, "mask_mode": "whole"}
    both = run(unit, sampler_name=sampler_name, batch_size=2)
    single = run(unit, sampler_name=sampler_name, seed=REQUEST["seed"] + 1)
    difference = np.abs(both[1].astype(int) - single[0].astype(int))
    assert difference.max() <= 2  # another batch composition rounds differently


@pytest.mark.parametrize("sampler_name", SAMPLERS)
def test_run_leaves_nothing(run, unet, sampler_name):
    before, plain = hooks_on(unet), run(sampler_name=sampler_name)
    assert not same(plain, run({"start": 0.0}, sampler_name=sampler_name))
    assert hooks_on(unet) == before
    assert same(plain, run(sampler_name=sampler_name))


@pytest.mark.parametrize("sampler_name", SAMPLERS)
def test_exception_in_the_identity_line_leaves_nothing(run, unet, monkeypatch, sampler_name):
    before, plain = hooks_on(unet), run(sampler_name=sampler_name)
    with monkeypatch.context() as broken:
        broken.setattr(DecoupledAttention, "__call__", lambda *a: 1 / 0)
        with pytest.raises(HTTPException) as raised:
            run({"start": 0.0}, sampler_name=sampler_name)
    assert raised.value.status_code == 422
    assert "division by zero" in raised.value.detail
    assert hooks_on(unet) == before
    assert same(plain, run(sampler_name=sampler_name))


@pytest.mark.parametrize("broken_part", ["edit_start", "note_levels", "wrap_launch", "images_of"])
def test_exception_before_sampling_leaves_nothing(run, unet, monkeypatch, broken_part):
    from lib_beyondfacial.hosts import run as host_run

    before, plain = hooks_on(unet), run()
    with monkeypatch.context() as broken:
        broken.setattr(host_run, broken_part, lambda *a: 1 / 0)
        with pytest.raises(HTTPException) as raised:
            run({"start": 0.0})
    assert raised.value.status_code == 422
    assert "division by zero" in raised.value.detail
    assert hooks_on(unet) == before
    assert same(plain, run())


def test_nan_in_the_identity_line_fails_with_a_message(run, monkeypatch):
    plain, original = run(), DecoupledAttention.__call__
    with monkeypatch.context() as broken:
        broken.setattr(DecoupledAttention, "__call__", lambda *a: original(*a) * float("nan"))
        with pytest.raises(HTTPException) as raised:
            run({"start": 0.0, "mask_mode": "whole"})
    assert raised.value.status_code == 422
    assert "NaN" in raised.value.detail
    assert same(plain, run())


@pytest.mark.parametrize("sampler_name", SAMPLERS)
def test_interrupt_leaves_nothing(run, unet, monkeypatch, sampler_name):
    from modules import shared

    before, plain, original = hooks_on(unet), run(sampler_name=sampler_name), SamplingPass.delta

    def delta_then_interrupt(*args):
        shared.state.interrupted = True
        return original(*args)

    with monkeypatch.context() as pressed:
        pressed.setattr(SamplingPass, "delta", delta_then_interrupt)
        run({"start": 0.0}, sampler_name=sampler_name)
    assert hooks_on(unet) == before
    assert same(plain, run(sampler_name=sampler_name))


def test_unet_in_which_no_site_fires_is_an_error_with_a_message(run, monkeypatch):
    @contextmanager
    def reach_nothing(self, sites, where, weight):
        yield Attached()

    monkeypatch.setattr(AdapterInjection, "attached", reach_nothing)
    with pytest.raises(HTTPException) as raised:
        run({"start": 0.0, "mask_mode": "whole"})
    assert "TensorRT" in raised.value.detail


def test_copies_of_p_do_not_run_an_older_requests_sampling():
    """X/Y/Z copies p with its instance attributes; a wrapper of ours on it must not outlive its request."""
    import copy
    import weakref

    from lib_beyondfacial.hosts import request
    from lib_beyondfacial.hosts.run import Run
    from lib_beyondfacial.sampling.plan import Plan
    from lib_beyondfacial.settings.parameters import MethodParameters

    class P:
        def sample(self):
            return self

    p = P()
    request.wrap_sample(p, Run(Plan(MethodParameters(), (), lambda image: []), weakref.ref(p)))
    twin = copy.copy(p)
    assert twin.__dict__["sample"]._beyondfacial
    request.unwrap_sample(twin)
    assert "sample" not in twin.__dict__
    assert twin.sample() is twin
