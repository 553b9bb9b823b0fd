"""docs/method.md section 4, through the embedded host, the extension's own script and the API's own arguments."""

from __future__ import annotations

import numpy as np
import pytest
from fastapi import HTTPException

SAMPLERS = ["Euler", "Euler a", "DPM++ 2M", "DDIM"]
REQUEST = {"prompt": "a photo of man", "steps": 5, "width": 64, "height": 64, "seed": 5}


@pytest.fixture
def run(host, photo):
    """run(unit, **request) -> pictures; unit None: the extension is not asked. (The closer look: test_close_look.)"""

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
    """Counts the rows of every identity call, whatever comes of it."""
    from lib_beyondfacial.hosts import a1111_pass

    counted, original = [], a1111_pass.evaluate_identity

    def counting(run, *args):
        out = original(run, *args)
        counted.append(run.handle.identity_rows)
        return out

    monkeypatch.setattr(a1111_pass, "evaluate_identity", counting)
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
def test_where_the_identity_may_not_act_no_row_of_it_runs_and_the_picture_is_the_hosts(
    run, identity_rows, sampler_name, unit
):
    plain = run(sampler_name=sampler_name, batch_size=2)
    assert same(plain, run(unit, sampler_name=sampler_name, batch_size=2))
    assert not identity_rows


@pytest.mark.parametrize("sampler_name", SAMPLERS)
@pytest.mark.parametrize(
    "request_extra",
    [{}, {"batch_size": 2}, {"cfg_scale": 1.0}, {"prompt": "a photo AND face :0.5"}],
    ids=["one", "batch", "cfg 1", "AND"],
)
def test_the_identity_line_runs_under_a_zero_mask_and_the_picture_stays_bit_equal(
    run, identity_rows, monkeypatch, sampler_name, request_extra
):
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
def test_idap_strength_zero_leaves_the_hosts_noise_and_more_changes_the_picture(run, sampler_name):
    plain = run(sampler_name=sampler_name)
    assert same(plain, run({"idap_strength": 0.0, "rho": 0.0}, sampler_name=sampler_name)), "rho 0 holds nothing, too"
    assert not same(plain, run({"idap_strength": 0.5, "rho": 0.0}, sampler_name=sampler_name))


@pytest.mark.parametrize("sampler_name", SAMPLERS)
def test_a_batch_is_each_of_its_pictures_alone(run, sampler_name):
    unit = {"start": 0.0, "idap_strength": 0.0, "mask_mode": "whole"}
    both = run(unit, sampler_name=sampler_name, batch_size=2)
    single = run(unit, sampler_name=sampler_name, seed=REQUEST["seed"] + 1)
    difference = np.abs(both[1].astype(int) - single[0].astype(int))
    assert difference.max() <= 2  # another batch composition rounds differently


@pytest.mark.parametrize("sampler_name", SAMPLERS)
def test_after_a_run_nothing_of_ours_is_left(run, unet, sampler_name):
    before, plain = hooks_on(unet), run(sampler_name=sampler_name)
    assert not same(plain, run({"start": 0.0}, sampler_name=sampler_name))
    assert hooks_on(unet) == before
    assert same(plain, run(sampler_name=sampler_name))


@pytest.mark.parametrize("sampler_name", SAMPLERS)
def test_an_exception_in_the_identity_line_fails_the_request_and_leaves_nothing(run, unet, monkeypatch, sampler_name):
    from lib_beyondfacial.adapters.branch import IdentityBranch

    before, plain = hooks_on(unet), run(sampler_name=sampler_name)
    with monkeypatch.context() as broken:
        broken.setattr(IdentityBranch, "attend", lambda *a: 1 / 0)
        with pytest.raises(Exception, match="division by zero"):
            run({"start": 0.0}, sampler_name=sampler_name)
    assert hooks_on(unet) == before
    assert same(plain, run(sampler_name=sampler_name))


@pytest.mark.parametrize("broken_part", ["edit_start", "follow_sampler"])
def test_an_exception_before_sampling_fails_the_request_and_leaves_nothing(run, unet, monkeypatch, broken_part):
    from lib_beyondfacial.hosts import a1111

    before, plain = hooks_on(unet), run()
    with monkeypatch.context() as broken:
        broken.setattr(a1111, broken_part, lambda *a: 1 / 0)
        with pytest.raises(Exception, match="division by zero"):
            run({"start": 0.0})
    assert hooks_on(unet) == before
    assert same(plain, run())


def test_nan_in_the_identity_line_fails_in_words(run, monkeypatch):
    from lib_beyondfacial.adapters.branch import IdentityBranch

    plain, original = run(), IdentityBranch.attend
    with monkeypatch.context() as broken:
        broken.setattr(IdentityBranch, "attend", lambda *a: original(*a) * float("nan"))
        with pytest.raises(HTTPException) as raised:
            run({"start": 0.0, "mask_mode": "whole"})
    assert raised.value.status_code == 422
    assert "NaN" in raised.value.detail
    assert same(plain, run())


@pytest.mark.parametrize("sampler_name", SAMPLERS)
def test_an_interrupt_leaves_nothing(run, unet, monkeypatch, sampler_name):
    from modules import shared

    from lib_beyondfacial.hosts import a1111

    before, plain, original = hooks_on(unet), run(sampler_name=sampler_name), a1111.fuse

    def fuse_then_interrupt(*args):
        original(*args)
        shared.state.interrupted = True

    with monkeypatch.context() as pressed:
        pressed.setattr(a1111, "fuse", fuse_then_interrupt)
        run({"start": 0.0}, sampler_name=sampler_name)
    assert hooks_on(unet) == before
    assert same(plain, run(sampler_name=sampler_name))


def test_a_replaced_unet_in_which_no_site_fires_is_an_error_in_words(run, monkeypatch):
    from lib_beyondfacial.hosts import unet_sites

    monkeypatch.setattr(unet_sites.BranchHooks, "attach", lambda self: [])
    with pytest.raises(HTTPException) as raised:
        run({"start": 0.0, "mask_mode": "whole"})
    assert "TensorRT" in raised.value.detail


def test_a_grids_copies_of_p_do_not_run_an_older_cells_sampling(host, photo):
    """X/Y/Z copies p with its instance attributes; a wrapper of ours on it must not outlive its request."""
    import copy

    from lib_beyondfacial.hosts import a1111, requests

    class P:
        def sample(self):
            return self

    p = P()
    run = a1111.Run(handle=None, tokens=None)
    requests.wrap_sample(p, run, lambda: None, lambda: None)
    twin = copy.copy(p)
    assert twin.__dict__["sample"]._beyondfacial
    requests.unwrap_sample(twin)
    assert "sample" not in twin.__dict__
    assert twin.sample() is twin
