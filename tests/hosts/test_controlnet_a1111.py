"""ControlNet's face units on A1111, each confined to its person's line; ControlNet is a double of its real seams."""

from __future__ import annotations

import json
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from fastapi import HTTPException

from demo.miniwebui import host as miniature
from lib_beyondfacial.errors import BeyondFacialError
from lib_beyondfacial.hosts.patches import unpatched
from lib_beyondfacial.hosts.request import find_unit
from lib_beyondfacial.sampling.sampling_pass import SamplingPass
from lib_beyondfacial.unet.rows import LineRows
from lib_beyondfacial.unet.sites import enumerate_sites
from lib_beyondfacial.webui import plain_pictures
from tests.faces.conftest import draw
from tests.hosts import asking_units
from tests.hosts.asking_units import SIDE, outputs_of, request_of
from tests.hosts.hires_double import add_hires_pass
from tests.hosts.ip_adapter_double import EXTENSION
from tests.webui.conftest import to_base64

POSE = {"enabled": True, "kind": "structural", "model": "control_openpose"}
KINDS = ("faceid", "plus_face", "pulid", "instantid")
CALLS = {"one": {}, "batch of 2": {"batch_size": 2}, "two passes": {"n_iter": 2}}


def face_unit(picture, kind="faceid", **changes):
    return {"enabled": True, "kind": kind, "model": f"ip-adapter-{kind}_sd15", "image": picture, **changes}


def units_of(kind, picture):
    """The person's unit of a kind, and InstantID's IdentityNet behind its own."""
    net = {"enabled": True, "kind": "identitynet", "model": "control_instant_id", "image": picture}
    return [face_unit(picture, kind), *([net] if kind == "instantid" else [])]


@pytest.fixture(scope="module")
def host(models_dir, tmp_path_factory):
    scripts = tmp_path_factory.mktemp("webui") / "extensions/sd-webui-controlnet/scripts"
    scripts.mkdir(parents=True)
    (scripts / "controlnet.py").write_text(EXTENSION, encoding="utf-8")
    return miniature.boot(models_dir, [miniature.REPOSITORY, scripts.parent])


@pytest.fixture
def hooks(host):
    from modules import scripts

    module = next(data.module for data in scripts.scripts_data if "controlnet" in data.path)
    module.hooks.clear()
    return module.hooks


@pytest.fixture
def unet(host):
    from modules import shared

    return shared.sd_model.model.diffusion_model


@pytest.fixture
def ask(host, hooks):
    """ask(units, settings or None, **request) -> pictures."""
    return partial(asking_units.ask, host)


@pytest.fixture
def rows_out(unet):
    with outputs_of(unet) as outs:
        yield outs


@pytest.fixture
def hires_pass(monkeypatch):
    add_hires_pass(monkeypatch)


@pytest.mark.parametrize("units", [[], [POSE]], ids=["alone", "with pose"])
@pytest.mark.parametrize("request_", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("kind", ["faceid", "instantid"])
def test_semantic_line_never_sees_the_unit(ask, hooks, photo, without_delta, kind, units, request_):
    plain, person = ask(units, **request_), units_of(kind, photo)
    assert np.array_equal(ask([*person, *units], {}, **request_), plain)
    rows = [call.rows for call in hooks[-1].calls]
    assert len(rows) == 2 * 3 * request_.get("n_iter", 1), "the host's calls and the identity line's"
    assert not np.array_equal(ask([*person, *units], **request_), plain), "what the unit does by itself"


@pytest.mark.parametrize("kind", KINDS)
def test_semantic_line_never_sees_the_unit_in_a_hires_pass(ask, hooks, photo, without_delta, hires_pass, kind):
    plain, person = ask([POSE]), units_of(kind, photo)
    assert plain.shape[1] == 1.5 * SIDE
    assert np.array_equal(ask([*person, POSE], {}), plain)
    marks = [call.marks is not None for call in hooks[-1].calls]
    assert marks == [True] * 6 + [False] * 6, "the second pass's conds are made too late for ControlNet's mark"
    assert not np.array_equal(ask([*person, POSE]), plain), "what the unit does by itself"


def test_semantic_line_never_sees_the_unit_where_the_identity_does_not_act(ask, photo):
    assert np.array_equal(ask([face_unit(photo), POSE], {"mask_strength": 0.0}), ask([POSE]))


@pytest.mark.parametrize("kind", KINDS)
def test_identity_rows_are_the_hosts_own_result(ask, photo, rows_out, kind):
    ask([POSE])
    semantic = rows_out[0][0]
    rows_out.clear()
    ask([*units_of(kind, photo), POSE])
    native = rows_out[0][0]
    rows_out.clear()
    ask([*units_of(kind, photo), POSE], {})
    assert torch.equal(rows_out[0][0], semantic)
    assert torch.allclose(rows_out[1][0], native, atol=1e-4)
    assert (native - semantic).abs().max() > 0.05
    rows_out.clear()
    ask([*units_of(kind, to_base64(draw(4))), POSE], {})
    assert torch.equal(rows_out[0][0], semantic)
    assert (rows_out[1][0] - native).abs().max() > 0.01, "another face"


def test_each_count_of_rows_has_keys_of_its_own(ask, hooks, host, photo, unet, monkeypatch):
    """The unit keeps its keys by layer alone: those of another call's rows would be mixed into this one's."""
    found = []

    def call_with_unit(run):
        (unit,) = run.plan.lines[0].injections
        sites = enumerate_sites(unet)
        given = (torch.randn(3, 4, 8, 8), torch.full((3,), 400.0), torch.randn(3, 7, sites[0].site.context_dim))

        def call(count):
            with unit.attached(sites, LineRows(slice(None), tuple(range(count)), (1.0,) * count), 1.0) as attached:
                out = type(unet).forward(unet, *(each[:count] for each in given))
            return out, attached

        found.extend([call(1), call(3), call(1), call(3)])

    check_at_first_level(monkeypatch, call_with_unit)
    ask([face_unit(photo)], {})
    (one, _), (three, attached), (again, _), (three_again, _) = found
    assert torch.equal(one, again)
    assert torch.equal(three, three_again)
    assert torch.allclose(three[:1], one, atol=1e-4)
    assert attached.fired == len(enumerate_sites(unet))
    assert all(len(energy) == 3 for energies in attached.energy.per_site.values() for energy in energies)


def check_at_first_level(monkeypatch, check):
    from lib_beyondfacial.hosts.a1111 import callbacks

    begin, visited = callbacks.begin_step, []

    def begin_step(run, params):
        if not visited:
            visited.append(1)
            check(run)
        begin(run, params)

    monkeypatch.setattr(callbacks, "begin_step", begin_step)


def test_identitynet_is_a_part_of_its_persons_line(ask, photo, rows_out):
    ask([*units_of("instantid", photo), POSE], {})
    whole = rows_out[1][0]
    rows_out.clear()
    ask([face_unit(photo, "instantid"), POSE], {})
    assert (rows_out[1][0] - whole).abs().max() > 0.01


def test_identitynet_gets_the_landmarks_of_the_crop(ask, photo, unet, monkeypatch):
    landmarks = np.array([[0.3, 0.4], [0.7, 0.4], [0.5, 0.5], [0.35, 0.7], [0.65, 0.7]])
    where = LineRows([0, 2], (0, 1), (1.0, 1.0), True, (landmarks, None))
    outs, hints = [], []

    def call_on_crops(run):
        (unit,) = run.plan.lines[0].injections
        sites = enumerate_sites(unet)
        given = (torch.randn(3, 4, 8, 8), torch.full((3,), 400.0), torch.randn(3, 7, sites[0].site.context_dim))
        (net,) = unit.found.nets
        for nets in ((), (net,)):
            unit.found.nets = nets
            with unpatched(unet), unit.attached(sites, where, 1.0):
                outs.append(unet(*given))
        hints.extend(net.control_model.hints)

    check_at_first_level(monkeypatch, call_on_crops)
    ask(units_of("instantid", photo), {})
    (without, with_net), (hint,) = outs, hints
    assert (with_net[0] - without[0]).abs().max() > 0.01
    assert torch.equal(with_net[1], without[1]), "no row of the line"
    assert torch.allclose(with_net[2], without[2], atol=1e-4), "no face in this crop"
    assert hint.shape == (2, 3, 64, 64)
    assert hint[0, :, 32, 32].tolist() == [0, 0, 1], "the nose"
    assert not hint[1].any()


def test_identitynet_is_named_by_the_unit_before_it(ask, photo):
    with pytest.raises(HTTPException) as raised:
        ask(units_of("instantid", photo), {"source": "ControlNet unit 1"})
    assert "name the unit before it" in raised.value.detail


@pytest.mark.parametrize("request_", [{}, {"batch_size": 2, "n_iter": 2}], ids=["one", "two passes of 2"])
@pytest.mark.parametrize("fault", ["exception", "interrupt"])
def test_nothing_is_left_after_a_fault(ask, photo, unet, monkeypatch, fault, request_):
    from modules import shared

    units = [*units_of("instantid", photo), POSE]
    plain, native = ask([]), ask(units)
    with monkeypatch.context() as broken:
        if fault == "exception":
            broken.setattr(SamplingPass, "delta", lambda *given: 1 / 0)
            with pytest.raises(HTTPException):
                ask(units, {}, **request_)
        else:
            original = SamplingPass.delta
            broken.setattr(
                SamplingPass, "delta", lambda *given: (shared.state.interrupt(), original(*given))[1], raising=True
            )
            ask(units, {}, **request_)
    assert np.array_equal(ask(units), native)
    assert np.array_equal(ask([]), plain)
    assert not any(vars(module).get("ipadapter_hacks") for module in unet.modules())


def test_two_persons_by_two_units(ask, photo, without_delta, rows_out):
    units = [face_unit(photo), face_unit(to_base64(draw(4))), POSE]
    persons = [{"source": "ControlNet unit 0"}, {"source": "ControlNet unit 1"}]
    plain = ask([POSE], prompt="a man and a woman")
    rows_out.clear()
    pictures = ask(units, {"source": "photos", "persons": persons}, prompt="a man and a woman")
    assert np.array_equal(pictures, plain)
    host, one, other = rows_out[:3]
    assert (one[0] - other[0]).abs().max() > 0.01
    assert min((one[0] - host[0]).abs().max(), (other[0] - host[0]).abs().max()) > 0.01


@pytest.mark.parametrize(
    ("units", "source", "sentence"),
    [
        ([], 0, "the request has no unit"),
        ([POSE], 1, "the request has unit 0 alone"),
        ([{**POSE, "enabled": False}], 0, "which is off"),
        ([POSE], 0, "has no image of its own"),
        ([{**POSE, "image": "photo"}], 0, 'unit 0 ("control_openpose") does not draw a given face'),
        ([{"kind": "pictures", "model": "ip-adapter_sd15", "enabled": True, "image": "photo"}], 0, "does not draw"),
    ],
    ids=["no unit", "no such unit", "off", "no image", "structure", "pictures"],
)
def test_wrong_units_are_refused_with_a_sentence(ask, photo, units, source, sentence):
    given = [{**unit, **({"image": photo} if unit.get("image") else {})} for unit in units]
    with pytest.raises(HTTPException) as raised:
        ask(given, {"source": f"ControlNet unit {source}"})
    assert raised.value.status_code == 422
    assert sentence in raised.value.detail


def test_no_plain_picture_beside_a_unit_which_would_act_in_it(host, hooks, photo):
    processed = host.api.run_txt2img(request_of([face_unit(photo)], {"plain_picture": True}))
    assert len(processed.images) == 1
    answer = json.loads(processed.js())["extra_generation_params"]
    assert plain_pictures.DRAWN_BY_UNIT in answer["BeyondFacial warnings"]


def test_without_a_face_pack_nothing_is_measured_and_it_is_said(host, hooks, photo, monkeypatch):
    from lib_beyondfacial.webui import folders

    monkeypatch.setattr(folders, "packs_by_name", dict)
    processed = host.api.run_txt2img(request_of([face_unit(photo)], {"refine_head": True}))
    answer = json.loads(processed.js())["extra_generation_params"]
    assert "no face pack was found" in "".join(answer["BeyondFacial warnings"])
    assert answer["BeyondFacial report"][0]["similarity"] is None
    assert "BeyondFacial report: not measured; mask" in processed.infotexts[0]
    assert "BeyondFacial source: ControlNet unit 0" in processed.infotexts[0]


def test_a_web_ui_without_controlnet_says_so():
    p = SimpleNamespace(scripts=SimpleNamespace(alwayson_scripts=[]))
    with pytest.raises(BeyondFacialError, match="no ControlNet runs in this job"):
        find_unit(p, 0)
