"""Face units of the Forges' built-in ControlNet, each confined to its person's line; host and units are doubles."""

from __future__ import annotations

import copy
from functools import partial

import numpy as np
import pytest
import torch
from fastapi import HTTPException

from demo.miniwebui import host as miniature
from lib_beyondfacial.sampling.sampling_pass import SamplingPass
from lib_beyondfacial.unet.rows import LineRows
from lib_beyondfacial.unet.sites import enumerate_sites
from tests.faces.conftest import draw
from tests.forge_double.host import booted
from tests.forge_double.ip_adapter import EXTENSION
from tests.hosts import asking_units
from tests.hosts.asking_units import outputs_of
from tests.webui.conftest import to_base64

POSE = {"kind": "structural", "model": "control_openpose"}
PICTURES = {"kind": "pictures", "model": "ip-adapter_sd15"}
KINDS = ("faceid", "plus_face")
ROUNDING = 1e-4  # one more row in the batch


def face_unit(picture, kind="faceid", **changes):
    return {"kind": kind, "model": f"ip-adapter-{kind}_sd15", "image": picture, **changes}


@pytest.fixture(scope="module")
def forge(models_dir, tmp_path_factory):
    scripts = tmp_path_factory.mktemp("webui") / "extensions-builtin/sd_forge_controlnet/scripts"
    scripts.mkdir(parents=True)
    (scripts / "controlnet.py").write_text(EXTENSION, encoding="utf-8")
    with booted(models_dir, [miniature.REPOSITORY, scripts.parent]) as double:
        yield double


@pytest.fixture
def ask(forge):
    """ask(units, settings or None, **request) -> pictures."""
    return partial(asking_units.ask, forge.host)


@pytest.fixture
def rows_out(forge):
    with outputs_of(forge.model.forge_objects.unet.model.diffusion_model) as outs:
        yield outs


def differ(one, other):
    return np.abs(one.astype(int) - other).max()


@pytest.mark.parametrize("units", [[], [POSE]], ids=["alone", "with pose"])
@pytest.mark.parametrize("request_", [{}, {"batch_size": 2}, {"enable_hr": True}], ids=["one", "batch of 2", "hires"])
@pytest.mark.parametrize("kind", KINDS)
def test_semantic_line_never_sees_the_unit(ask, photo, without_delta, rows_out, kind, units, request_):
    plain, unit = ask(units, **request_), face_unit(photo, kind)
    rows_out.clear()
    assert differ(ask([unit, *units], {}, **request_), plain) <= 1
    batch = request_.get("batch_size", 1)
    assert {len(out) for out in rows_out} == {3 * batch}, "uncond, the identity line, cond"
    assert differ(ask([unit, *units], **request_), plain) > 1, "what the unit does by itself"


def test_semantic_line_never_sees_the_unit_where_the_identity_does_not_act(ask, photo):
    assert np.array_equal(ask([face_unit(photo), POSE], {"mask_strength": 0.0}), ask([POSE]))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mates", [[], [PICTURES]], ids=["alone", "behind another unit in the same patches"])
def test_identity_rows_are_the_hosts_own_result(ask, photo, rows_out, kind, mates):
    mates = [{**mate, "image": to_base64(draw(5))} for mate in mates]
    source = {"source": f"ControlNet unit {len(mates)}"}
    ask([*mates, POSE])
    semantic = rows_out[0][1]
    rows_out.clear()
    ask([*mates, face_unit(photo, kind), POSE])
    native = rows_out[0][1]
    rows_out.clear()
    ask([*mates, face_unit(photo, kind), POSE], source)
    _, identity, cond = rows_out[0]
    assert torch.allclose(cond, semantic, atol=ROUNDING)
    assert torch.allclose(identity, native, atol=ROUNDING)
    assert (native - semantic).abs().max() > 0.05
    rows_out.clear()
    ask([*mates, face_unit(to_base64(draw(4)), kind), POSE], source)
    _, other, cond = rows_out[0]
    assert torch.allclose(cond, semantic, atol=ROUNDING)
    assert (other - native).abs().max() > 0.01, "another face"


def test_a_crop_gets_the_unit_at_every_level(ask, forge, photo, monkeypatch):
    """The head is refined late, from noise of its own: the unit's own steps are those of the whole picture."""
    found, unet = [], forge.model.forge_objects.unet.model.diffusion_model
    begin = SamplingPass.active_lines

    def check(self, sigma):
        lines = begin(self, sigma)
        if not found:
            (unit,) = self.plan.lines[0].injections
            options = {"sigmas": torch.full((1,), 1.0), "cond_or_uncond": [0]}
            given = (
                torch.randn(1, 4, 8, 8),
                torch.full((1,), 400.0),
                torch.randn(1, 7, enumerate_sites(unet)[0].site.context_dim),
            )
            for is_crop in (False, True):
                where = LineRows(slice(None), (0,), (1.0,), is_crop)
                with unit.attached(enumerate_sites(unet), where, 1.0) as attached:
                    unet(*given, transformer_options=options)
                found.append(sum(energy.sum() for each in attached.energy.per_site.values() for energy in each))
        return lines

    monkeypatch.setattr(SamplingPass, "active_lines", check)
    ask([face_unit(photo, end=5.0)], {})
    assert found[0] == 0
    assert found[1] > 0


@pytest.mark.parametrize("request_", [{}, {"batch_size": 2, "enable_hr": True}], ids=["one", "hires of 2"])
@pytest.mark.parametrize("fault", ["exception", "interrupt"])
def test_nothing_is_left_after_a_fault(ask, forge, photo, monkeypatch, fault, request_):
    from modules import shared

    unit = face_unit(photo)
    plain, native, options = ask([]), ask([unit, POSE]), copy.copy(forge.model.forge_objects.unet.model_options)
    with monkeypatch.context() as broken:
        if fault == "exception":
            broken.setattr(SamplingPass, "delta", lambda *given: 1 / 0)
            with pytest.raises(HTTPException):
                ask([unit, POSE], {}, **request_)
        else:
            original = SamplingPass.delta
            broken.setattr(SamplingPass, "delta", lambda *given: (shared.state.interrupt(), original(*given))[1])
            ask([unit, POSE], {}, **request_)
    assert forge.model.forge_objects.unet.model_options.keys() == options.keys()
    assert np.array_equal(ask([unit, POSE]), native)
    assert np.array_equal(ask([]), plain)


def test_a_unit_that_skips_a_pass_adds_nothing_in_it(ask, photo, without_delta):
    unit = face_unit(photo, hr_option="Low res only")
    assert differ(ask([unit], {}, enable_hr=True), ask([], enable_hr=True)) <= 1


def test_two_persons_by_two_units(ask, photo, without_delta, rows_out):
    units = [face_unit(photo), face_unit(to_base64(draw(4))), POSE]
    persons = [{"source": "ControlNet unit 0"}, {"source": "ControlNet unit 1"}]
    plain = ask([POSE], prompt="a man and a woman")
    rows_out.clear()
    assert differ(ask(units, {"source": "photos", "persons": persons}, prompt="a man and a woman"), plain) <= 1
    _, other, one, cond = rows_out[0]
    assert min((a - b).abs().max() for a, b in ((one, other), (one, cond), (other, cond))) > 0.01


@pytest.mark.parametrize(
    ("unit", "sentence"),
    [
        (POSE, 'unit 0 ("control_openpose") does not draw a given face'),
        (PICTURES, "does not draw a given face"),
        (
            {"kind": "instantid", "model": "ip-adapter_instant_id_sdxl"},
            'unit 0 ("ip-adapter_instant_id_sdxl") is Inst',
        ),
        ({"kind": "photomaker", "model": "photomaker-v1"}, 'unit 0 ("photomaker-v1") is PhotoMaker\'s'),
        ({"kind": "faceid", "model": "faceid", "weight": [1.0] * 16}, 'unit 0 ("faceid") has a weight for each block'),
        ({**POSE, "enabled": False}, "which is off"),
    ],
    ids=["structure", "pictures", "InstantID", "PhotoMaker", "weights", "off"],
)
def test_wrong_units_are_refused_with_a_sentence(ask, photo, unit, sentence):
    with pytest.raises(HTTPException) as raised:
        ask([{**unit, "image": photo}], {})
    assert raised.value.status_code == 422
    assert sentence in raised.value.detail
