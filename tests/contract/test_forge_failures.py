"""Exceptions, NaN and interrupts in the Forge-shaped double: a message, and nothing left behind."""

from __future__ import annotations

from contextlib import contextmanager

import pytest
from fastapi import HTTPException

from lib_beyondfacial.adapters.attention import AdapterInjection, DecoupledAttention
from lib_beyondfacial.hosts import run as host_run
from lib_beyondfacial.hosts.forge import callbacks
from lib_beyondfacial.sampling.sampling_pass import SamplingPass
from lib_beyondfacial.unet.injection import Attached
from tests.contract.forge_case import (
    EVERY_KIND,
    NEUTRAL,
    calls,
    double,
    leaves_nothing,
    models_dir,
    photo,
    run,
    same,
    zero_mask,
)

__all__ = ["calls", "double", "leaves_nothing", "models_dir", "photo", "run", "zero_mask"]


@EVERY_KIND
@pytest.mark.parametrize("request_extra", [{}, {"enable_hr": True}], ids=["one", "hires"])
def test_exception_in_the_identity_line_leaves_nothing(run, monkeypatch, request_extra):
    plain = run(**request_extra)
    with monkeypatch.context() as broken:
        broken.setattr(DecoupledAttention, "__call__", lambda *a: 1 / 0)
        with pytest.raises(HTTPException) as raised:
            run(NEUTRAL, **request_extra)
    assert raised.value.status_code == 422
    assert "division by zero" in raised.value.detail
    assert same(plain, run(**request_extra))


BEFORE_SAMPLING = [(host_run, "edit_start"), (host_run, "wrap_launch"), (host_run, "note_levels")]
BEFORE_SAMPLING += [(callbacks, "attach"), (callbacks, "make_host"), (callbacks, "is_tiler_on")]


@pytest.mark.parametrize(("module", "broken_part"), BEFORE_SAMPLING, ids=[name for _, name in BEFORE_SAMPLING])
def test_exception_before_sampling_leaves_nothing(run, monkeypatch, module, broken_part):
    plain = run()
    with monkeypatch.context() as broken:
        broken.setattr(module, broken_part, lambda *a: 1 / 0)
        with pytest.raises(HTTPException) as raised:
            run({"start": 0.0})
    assert raised.value.status_code == 422
    assert "division by zero" in raised.value.detail
    assert same(plain, run())


def test_nan_in_the_identity_line_fails_with_a_message(run, monkeypatch):
    plain, original = run(), DecoupledAttention.__call__
    with monkeypatch.context() as broken:
        broken.setattr(DecoupledAttention, "__call__", lambda *a: original(*a) * float("nan"))
        with pytest.raises(HTTPException) as raised:
            run(NEUTRAL | {"mask_mode": "whole"})
    assert raised.value.status_code == 422
    assert "NaN" in raised.value.detail
    assert same(plain, run())


def test_interrupt_leaves_nothing(run, monkeypatch):
    from demo.miniwebui import shared

    plain, original = run(), SamplingPass.delta

    def delta_then_interrupt(*args):
        shared.state.interrupted = True
        return original(*args)

    with monkeypatch.context() as pressed:
        pressed.setattr(SamplingPass, "delta", delta_then_interrupt)
        run(NEUTRAL)
    assert same(plain, run())


def test_unet_in_which_no_site_fires_is_an_error_with_a_message(run, monkeypatch):
    @contextmanager
    def reach_nothing(self, sites, where, weight):
        yield Attached()

    monkeypatch.setattr(AdapterInjection, "attached", reach_nothing)
    with pytest.raises(HTTPException) as raised:
        run(NEUTRAL | {"mask_mode": "whole"})
    assert "TensorRT" in raised.value.detail


def test_sd3_and_flux_are_refused_with_a_message(double, run, monkeypatch):
    for flag, kind in (("is_sd3", "SD3"), ("is_sd2", "SD2"), ("is_flux", "Flux")):
        with monkeypatch.context() as other:
            other.setattr(type(double.model), flag, True, raising=False)
            with pytest.raises(HTTPException) as raised:
                run(NEUTRAL)
        assert kind in raised.value.detail
