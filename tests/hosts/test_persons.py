"""Two persons on both kinds of host: a line each, exactness, faces assigned, and nothing that stays."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from fastapi import HTTPException

from lib_beyondfacial.adapters.attention import AdapterInjection, DecoupledAttention
from lib_beyondfacial.faces import FaceAnalyser
from lib_beyondfacial.method import decision, head_refinement
from tests.comparing import almost, hooks_on, same
from tests.faces.conftest import draw
from tests.webui.conftest import to_base64

REQUEST = {"prompt": "a photo of man and woman", "steps": 5, "width": 96, "height": 64, "seed": 5}
NEUTRAL = {"start": 0.0, "refine_head": False, "refine_size": 64, "adapter": "fits"}
LEFT, RIGHT = (12.0, 20.0, 26.0, 34.0), (70.0, 20.0, 84.0, 34.0)
SHAPES = {
    "one": {},
    "batch": {"batch_size": 2},
    "cfg 1": {"cfg_scale": 1.0},
    "AND": {"prompt": "man AND woman :0.5"},
    "hires": {"enable_hr": True},
    "ddim": {"sampler_name": "DDIM"},
}


@pytest.fixture
def persons(photo):
    """Two different persons, by the prompt's words."""
    return [
        {"references": [photo], "subject": "man", "name": "Anton"},
        {"references": [to_base64(draw(2))], "subject": "woman"},
    ]


@pytest.fixture
def run(any_host, persons):
    def run(unit=None, **request):
        payload = {**REQUEST, **request}
        if unit is not None:
            payload["alwayson_scripts"] = {"BeyondFacial": {"args": [{"persons": persons, **NEUTRAL, **unit}]}}
        images, info = any_host.txt2img(**payload)
        return [np.asarray(image) for image in images], info["extra_generation_params"]

    return run


@pytest.fixture
def unet(any_host):
    from modules import shared

    model = shared.sd_model
    return model.forge_objects.unet.model.diffusion_model if hasattr(model, "forge_objects") else model.model


@pytest.fixture
def lines(monkeypatch):
    """(which injection, rows) of everything that an identity is attached to."""
    attached, original = [], AdapterInjection.attached

    def noting(self, sites, where, weight):
        attached.append((id(self), len(where.images)))
        return original(self, sites, where, weight)

    monkeypatch.setattr(AdapterInjection, "attached", noting)
    return attached


@pytest.fixture
def faces(monkeypatch):
    """The boxes of the faces that are found in generated pictures."""
    found = [RIGHT, LEFT]

    def find_in_scene(self, image, wanted=1):
        embedding = np.zeros(512)
        face = {"landmarks": np.zeros((5, 2)), "normed_embedding": embedding, "gender": None}
        return [SimpleNamespace(box=np.array(box), **face) for box in found]

    monkeypatch.setattr(FaceAnalyser, "find_in_scene", find_in_scene)
    return found


@pytest.mark.parametrize("shape", SHAPES)
def test_zero_mask_leaves_the_picture_though_both_lines_run(run, lines, monkeypatch, shape):
    is_a1111 = not hasattr(_model(), "forge_objects")
    if is_a1111 and shape == "hires":
        pytest.skip("the miniature host has no hires fix")
    plain, _ = run(**SHAPES[shape])
    original = decision.compute_decision
    monkeypatch.setattr(decision, "compute_decision", lambda *a, **k: 0 * original(*a, **k))
    made, _ = run({}, **SHAPES[shape])
    assert len({which for which, _ in lines}) == 2
    assert same(plain, made) if is_a1111 else almost(plain, made)


@pytest.mark.parametrize("unit", [{"mask_strength": 0.0}, {"start": 0.99}])
def test_no_row_of_either_runs_where_neither_may_act(run, lines, unit):
    plain, _ = run()
    assert same(plain, run(unit)[0])
    assert not lines


def test_each_person_has_a_say_and_nothing_stays(run, unet, persons):
    before, (plain, _) = hooks_on(unet), run()
    both, parameters = run({"mask_mode": "whole"})
    assert not same(plain, both)
    assert "Anton" not in str(parameters)
    assert parameters["BeyondFacial person 1"].endswith("; weight 1; subject man")
    persons[1]["weight"] = 0.5
    assert not same(both, run({"mask_mode": "whole"})[0])
    assert hooks_on(unet) == before
    assert same(plain, run()[0])


def test_an_error_in_a_line_leaves_nothing(run, unet, monkeypatch):
    before, (plain, _) = hooks_on(unet), run()
    with monkeypatch.context() as broken:
        broken.setattr(DecoupledAttention, "__call__", lambda *a: 1 / 0)
        with pytest.raises(HTTPException) as raised:
            run({})
    assert raised.value.status_code == 422
    assert hooks_on(unet) == before
    assert same(plain, run()[0])


def test_both_heads_are_refined_in_the_same_calls(run, faces, lines):
    (without,), _ = run({})
    lines.clear()
    (image,), parameters = run({"refine_head": True})
    change = np.abs(image.astype(int) - without).mean(-1)
    for x0, y0, x1, y1 in (LEFT, RIGHT):
        assert change[int(y0) : int(y1), int(x0) : int(x1)].mean() > 1.5 * change[:, 40:56].mean()
    (report,) = parameters["BeyondFacial report"]
    assert report["faces_found"] == report["faces_expected"] == len(report["persons"]) == 2
    assert np.shape(report["cosines"]) == (2, 2)
    last = lines[-head_refinement.rows_of_a_head() :]
    assert len({which for which, _ in last}) == 2, "a step is one call with both in it"


def test_a_person_without_a_face_is_told_by_name(run, faces):
    del faces[0]
    _, parameters = run({"refine_head": True})
    warnings = " ".join(parameters["BeyondFacial warnings"])
    assert "Only 1 of 2 people was found" in warnings
    assert '"Anton"' in warnings or "person 2" in warnings
    (report,) = parameters["BeyondFacial report"]
    assert report["similarity"] is None


def test_batch_of_two_refines_four_heads(run, faces):
    images, parameters = run({"refine_head": True}, batch_size=2)
    assert len(images) == 2
    assert [report["faces_found"] for report in parameters["BeyondFacial report"]] == [2, 2]


def _model():
    from modules import shared

    return shared.sd_model
