"""Exceptions, NaN and interrupts in the Forge-shaped double: an answer in words, and nothing left behind."""

from __future__ import annotations

import pytest
from fastapi import HTTPException

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
def test_an_exception_in_the_identity_line_fails_the_request_and_leaves_nothing(run, monkeypatch, request_extra):
    from lib_beyondfacial.adapters.branch import IdentityBranch

    plain = run(**request_extra)
    with monkeypatch.context() as broken:
        broken.setattr(IdentityBranch, "attend", lambda *a: 1 / 0)
        with pytest.raises(Exception, match="division by zero"):
            run(NEUTRAL, **request_extra)
    assert same(plain, run(**request_extra))


@pytest.mark.parametrize("broken_part", ["edit_start", "register", "make_pass", "tiler_on", "wrap_launch"])
def test_an_exception_before_sampling_fails_the_request_and_leaves_nothing(run, monkeypatch, broken_part):
    from lib_beyondfacial.hosts import forge

    plain = run()
    with monkeypatch.context() as broken:
        broken.setattr(forge, broken_part, lambda *a: 1 / 0)
        with pytest.raises(Exception, match="division by zero"):
            run({"start": 0.0})
    assert same(plain, run())


def test_nan_in_the_identity_line_fails_in_words_and_never_reaches_the_pictures_rows(run, monkeypatch):
    from lib_beyondfacial.adapters.branch import IdentityBranch

    plain, original = run(), IdentityBranch.attend
    with monkeypatch.context() as broken:
        broken.setattr(IdentityBranch, "attend", lambda *a: original(*a) * float("nan"))
        with pytest.raises(HTTPException) as raised:
            run(NEUTRAL | {"mask_mode": "whole"})
    assert raised.value.status_code == 422
    assert "NaN" in raised.value.detail
    assert same(plain, run())


def test_an_interrupt_leaves_nothing(run, monkeypatch):
    from demo.miniwebui import shared
    from lib_beyondfacial.hosts import forge_pass

    plain, original = run(), forge_pass.compute

    def compute_then_interrupt(*args):
        shared.state.interrupted = True
        return original(*args)

    with monkeypatch.context() as pressed:
        pressed.setattr(forge_pass, "compute", compute_then_interrupt)
        run(NEUTRAL)
    assert same(plain, run())


def test_a_replaced_unet_in_which_no_site_fires_is_an_error_in_words(run, monkeypatch):
    from lib_beyondfacial.hosts import unet_sites

    monkeypatch.setattr(unet_sites.BranchHooks, "attach", lambda self: [])
    with pytest.raises(HTTPException) as raised:
        run(NEUTRAL | {"mask_mode": "whole"})
    assert "TensorRT" in raised.value.detail


def test_sd3_and_flux_are_refused_in_words(double, run, monkeypatch):
    for flag, kind in (("is_sd3", "SD3"), ("is_sd2", "SD2"), ("is_flux", "Flux")):
        with monkeypatch.context() as other:
            other.setattr(type(double.model), flag, True, raising=False)
            with pytest.raises(HTTPException) as raised:
                run(NEUTRAL)
        assert kind in raised.value.detail
