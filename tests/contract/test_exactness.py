"""docs/method.md section 5 on each kind of host, through the extension's own script and the API's own arguments."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import pytest
from fastapi import HTTPException
from torch import nn

from demo.miniwebui import host as miniature
from lib_beyondfacial.adapters.attention import AdapterInjection, DecoupledAttention
from lib_beyondfacial.hosts import run as host_run
from lib_beyondfacial.method import decision
from lib_beyondfacial.sampling.sampling_pass import SamplingPass
from lib_beyondfacial.unet.injection import Attached
from tests.comparing import almost, hooks_on, same
from tests.contract import forge_case
from tests.contract.forge_case import assert_nothing_left
from tests.forge_double.host import booted
from tests.webui.conftest import models_dir, photo

__all__ = ["models_dir", "photo"]

SAMPLERS = ["Euler", "Euler a", "DPM++ 2M", "DDIM"]
REQUEST = {"prompt": "a photo of man", "steps": 5, "width": 64, "height": 64, "seed": 5}
SHAPES = {name: shape for name, shape in forge_case.SHAPES.items() if name != "hires"}  # not every host has it
EVERY_SAMPLER = pytest.mark.parametrize("sampler_name", SAMPLERS)
BEFORE_SAMPLING = ["edit_start", "note_levels", "wrap_launch", "images_of"]  # of hosts/run.py


class Tried(NamedTuple):
    """A host; is_equal: how alike its pictures are where the identity's rows ran and added nothing."""

    host: Any
    unet: nn.Module
    is_equal: Callable[..., bool]
    assert_nothing_left: Callable[[], None]


@pytest.fixture(scope="module", params=["a1111", "forge"])
def tried(request, models_dir):
    if request.param == "a1111":
        host = miniature.boot(models_dir, [miniature.REPOSITORY])
        from modules import shared

        yield Tried(host, shared.sd_model.model.diffusion_model, same, lambda: None)
        return
    with booted(models_dir, [miniature.REPOSITORY]) as double:
        unet = double.model.forge_objects_original.unet
        yield Tried(double.host, unet.model.diffusion_model, almost, lambda: assert_nothing_left(double, unet))


@pytest.fixture(autouse=True)
def leaves_nothing(tried):
    """After every test, whatever happened in it."""
    before = hooks_on(tried.unet)
    yield
    assert hooks_on(tried.unet) == before
    tried.assert_nothing_left()


@pytest.fixture
def run(tried, photo):
    """run(unit, **request) -> pictures; unit None: without the extension. No head is refined here."""

    def run(unit=None, **request):
        payload = {**REQUEST, **request}
        if unit is not None:
            args = {"enabled": True, "references": [photo], "adapter": "fits", "refine_head": False, **unit}
            payload["alwayson_scripts"] = {"BeyondFacial": {"args": [args]}}
        return [np.asarray(image) for image in tried.host.txt2img(**payload)[0]]

    return run


@pytest.fixture
def identity_rows(monkeypatch):
    """The rows of every call that the identity is attached to, whatever comes of it."""
    counted, original = [], AdapterInjection.attached

    def counting(self, sites, where, weight):
        counted.append(len(where.images))
        return original(self, sites, where, weight)

    monkeypatch.setattr(AdapterInjection, "attached", counting)
    return counted


@EVERY_SAMPLER
@pytest.mark.parametrize(
    "unit",
    [{"enabled": False}, {"weight": 0.0}, {"mask_strength": 0.0}, {"start": 0.99, "stop": 1.0}],
    ids=["disabled", "weight 0", "mask strength 0", "outside the window"],
)
def test_outside_the_window_bit_equal_without_identity_rows(run, identity_rows, sampler_name, unit):
    plain = run(sampler_name=sampler_name, batch_size=2)
    assert same(plain, run(unit, sampler_name=sampler_name, batch_size=2))
    assert not identity_rows


@EVERY_SAMPLER
@pytest.mark.parametrize("shape", SHAPES)
def test_zero_mask_leaves_the_picture_though_the_line_runs(
    tried, run, identity_rows, monkeypatch, sampler_name, shape
):
    request = {"sampler_name": sampler_name, **SHAPES[shape]}
    unit = {"idap_strength": 0.0, "start": 0.0}
    plain, changed = run(**request), run(unit, **request)
    assert not same(plain, changed), "the mask is not zero by itself, or this test would prove nothing"
    original = decision.compute_decision
    monkeypatch.setattr(decision, "compute_decision", lambda *a, **k: 0 * original(*a, **k))
    identity_rows.clear()
    forced = run(unit, **request)
    assert identity_rows, "the identity line did run"
    assert tried.is_equal(plain, forced)


@EVERY_SAMPLER
def test_idap_strength_zero_keeps_the_hosts_noise(tried, run, sampler_name):
    plain = run(sampler_name=sampler_name)
    assert tried.is_equal(plain, run({"idap_strength": 0.0, "rho": 0.0}, sampler_name=sampler_name))
    assert not almost(plain, run({"idap_strength": 0.5, "rho": 0.0}, sampler_name=sampler_name))


@EVERY_SAMPLER
def test_a_batch_is_each_of_its_pictures_alone(run, sampler_name):
    unit = {"start": 0.0, "idap_strength": 0.0, "mask_mode": "whole"}
    both = run(unit, sampler_name=sampler_name, batch_size=2)
    single = run(unit, sampler_name=sampler_name, seed=REQUEST["seed"] + 1)
    assert almost(both[1:], single, levels=2)  # another batch composition rounds differently


@EVERY_SAMPLER
def test_run_repeats_and_leaves_nothing(run, sampler_name):
    plain, changed = run(sampler_name=sampler_name), run({"start": 0.0}, sampler_name=sampler_name)
    assert not same(plain, changed)
    assert same(changed, run({"start": 0.0}, sampler_name=sampler_name))
    assert same(plain, run(sampler_name=sampler_name))


def assert_refused(run, message: str, **request) -> None:
    """The request fails with 422 and the message, and the next plain one is what it was."""
    with pytest.raises(HTTPException) as raised:
        run({"start": 0.0, "mask_mode": "whole"}, **request)
    assert raised.value.status_code == 422
    assert message in raised.value.detail


@EVERY_SAMPLER
def test_exception_in_the_identity_line_leaves_nothing(run, monkeypatch, sampler_name):
    plain = run(sampler_name=sampler_name)
    with monkeypatch.context() as broken:
        broken.setattr(DecoupledAttention, "__call__", lambda *a: 1 / 0)
        assert_refused(run, "division by zero", sampler_name=sampler_name)
    assert same(plain, run(sampler_name=sampler_name))


@pytest.mark.parametrize("broken_part", BEFORE_SAMPLING)
def test_exception_before_sampling_leaves_nothing(run, monkeypatch, broken_part):
    plain = run()
    with monkeypatch.context() as broken:
        broken.setattr(host_run, broken_part, lambda *a: 1 / 0)
        assert_refused(run, "division by zero")
    assert same(plain, run())


def test_nan_in_the_identity_line_fails_with_a_message(run, monkeypatch):
    plain, original = run(), DecoupledAttention.__call__
    with monkeypatch.context() as broken:
        broken.setattr(DecoupledAttention, "__call__", lambda *a: original(*a) * float("nan"))
        assert_refused(run, "NaN")
    assert same(plain, run())


@EVERY_SAMPLER
def test_interrupt_leaves_nothing(run, monkeypatch, sampler_name):
    from modules import shared

    plain, original = run(sampler_name=sampler_name), SamplingPass.delta

    def delta_then_interrupt(*args):
        shared.state.interrupted = True
        return original(*args)

    with monkeypatch.context() as pressed:
        pressed.setattr(SamplingPass, "delta", delta_then_interrupt)
        run({"start": 0.0}, sampler_name=sampler_name)
    assert same(plain, run(sampler_name=sampler_name))


def test_unet_in_which_no_site_fires_is_an_error_with_a_message(run, monkeypatch):
    @contextmanager
    def reach_nothing(self, sites, where, weight):
        yield Attached()

    monkeypatch.setattr(AdapterInjection, "attached", reach_nothing)
    assert_refused(run, "TensorRT")
