"""Exceptions, NaN and interrupts in the Forge-shaped double: a message, and nothing left behind."""

from __future__ import annotations

import pytest
from fastapi import HTTPException

from lib_beyondfacial.adapters.attention import DecoupledAttention
from lib_beyondfacial.hosts.forge import callbacks
from tests.comparing import same
from tests.contract.forge_case import (
    EVERY_KIND,
    NEUTRAL,
    calls,
    double,
    leaves_nothing,
    models_dir,
    photo,
    run,
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


@pytest.mark.parametrize("broken_part", ["attach", "make_host", "is_tiler_on"])
def test_exception_before_sampling_leaves_nothing(run, monkeypatch, broken_part):
    plain = run()
    with monkeypatch.context() as broken:
        broken.setattr(callbacks, broken_part, lambda *a: 1 / 0)
        with pytest.raises(HTTPException) as raised:
            run({"start": 0.0})
    assert raised.value.status_code == 422
    assert "division by zero" in raised.value.detail
    assert same(plain, run())


def test_sd3_and_flux_are_refused_with_a_message(double, run, monkeypatch):
    for flag, kind in (("is_sd3", "SD3"), ("is_sd2", "SD2"), ("is_flux", "Flux")):
        with monkeypatch.context() as other:
            other.setattr(type(double.model), flag, True, raising=False)
            with pytest.raises(HTTPException) as raised:
                run(NEUTRAL)
        assert kind in raised.value.detail
