"""Several identity lines in one pass without a web UI: rows, refinement, report."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from lib_beyondfacial.method import head_refinement as eq
from lib_beyondfacial.method.predictions import Predictions
from lib_beyondfacial.sampling.host import BatchImage
from lib_beyondfacial.sampling.plan import IdentityLine, Plan
from lib_beyondfacial.sampling.report import Report
from lib_beyondfacial.sampling.sampling_pass import SamplingPass
from lib_beyondfacial.sampling.shortfalls import find_shortfall
from lib_beyondfacial.settings.parameters import MethodParameters
from tests.sampling.conftest import LEVELS, SIZE, make_person, run_level, spot
from tests.sampling.host_double import CountingInjection, HostDouble

LEFT, RIGHT = (12.0, 20.0, 28.0, 36.0), (64.0, 20.0, 80.0, 36.0)  # px of a picture of 64 x 96
NAMES = ("person 1", "person 2")


def face(box) -> SimpleNamespace:
    embedding, landmarks = 0.5 * np.eye(512)[0], np.zeros((5, 2))
    return SimpleNamespace(box=np.array(box), landmarks=landmarks, normed_embedding=embedding, gender=None)


def columns_of(sampling, name) -> list[int]:
    """The latent columns of a line's refined head."""
    return (sampling.refinement.heads.ellipses[name][0, 0] > 0).any(0).nonzero().flatten().tolist()


def predict_for(sampling, sigma) -> Predictions:
    """The predictions that a host makes at a level: of the active lines."""
    made = predict()
    active = {line.name for line in sampling.active_lines(sigma)}
    identity = {name: each for name, each in made.identity.items() if name in active}
    return Predictions(made.semantic, identity, made.readings, made.uncond)


def predict(batch=1) -> Predictions:
    generator = torch.Generator().manual_seed(0)
    s, i, j, u = (torch.randn(batch, 4, *SIZE, generator=generator) for _ in range(4))
    return Predictions(s, dict(zip(NAMES, (i, j), strict=True)), {name: spot(batch=batch) for name in NAMES}, u)


@pytest.fixture
def begin():
    """begin(faces found, positions, batch, **parameters) -> a pass with two lines."""

    def begin(found=(), positions=(0, 0), batch=1, weights=(1.0, 1.0), **parameters) -> SamplingPass:
        host = HostDouble(x0=lambda x, sigma: torch.full_like(x, 0.5))
        lines = tuple(
            IdentityLine(name, (make_person(k),), (CountingInjection(),), weight, position=position, label=name)
            for k, (name, position, weight) in enumerate(zip(NAMES, positions, weights, strict=True))
        )
        given = MethodParameters(**{"start": 0.0, "refine_head": True, **parameters})
        images = [BatchImage(f"a man and a woman {i}", "ugly", 7 + i) for i in range(batch)]
        sampling = SamplingPass(Plan(given, lines, lambda image: [face(box) for box in found]), host, images, Report())
        sampling.levels = LEVELS
        sampling.acts(14.6)
        return sampling

    return begin


@pytest.mark.parametrize(("positions", "first"), [((0, 0), LEFT), ((2, 1), RIGHT)])
def test_both_heads_are_refined_together_and_both_lines_rest(begin, positions, first):
    sampling = begin([RIGHT, LEFT], positions)
    run_level(sampling, 1.5, predict())
    boxes = sampling.report.heads[0]
    assert boxes[NAMES[0]] == pytest.approx(np.array(first) / np.array([96, 64, 96, 64]))
    assert sampling.refinement.heads.refined == {name: (True,) for name in NAMES}
    assert not sampling.active_lines(1.6)
    crops = [call for call in sampling.host.calls if call.is_crop]
    assert [call.rows for call in crops] == [2] * eq.rows_of_a_head(), "cond and uncond, a row a person"
    rows = [line.injections[0].attachments[-1][0].rows for line in sampling.plan.lines]
    assert rows == [slice(0, 1), slice(1, 2)]
    assert sampling.report.mask_of(0).max() == 1


def test_crops_of_a_batch_are_rows_of_the_same_calls(begin):
    sampling = begin([LEFT, RIGHT], batch=2)
    run_level(sampling, 1.5, predict(batch=2))
    assert {call.rows for call in sampling.host.calls if call.is_crop} == {4}
    assert list(sampling.refinement.seeds().values()) == [7, 8, 8, 9]
    assert sampling.report.refined == {name: (True, True) for name in NAMES}
    attached = [line.injections[0].attachments[-1][0] for line in sampling.plan.lines]
    assert [where.rows for where in attached] == [slice(0, 2), slice(2, 4)], "a line's rows stand together"
    assert [where.images for where in attached] == [(0, 1), (0, 1)]


def test_a_line_without_a_face_goes_on(begin):
    sampling = begin([LEFT])
    predictions = predict()
    run_level(sampling, 1.5, predictions)
    refined = [name for name, of_line in sampling.refinement.heads.refined.items() if of_line == (True,)]
    assert len(refined) == 1
    assert [line.name for line in sampling.active_lines(1.6)] == [name for name in NAMES if name not in refined]
    only = {name: each for name, each in predictions.identity.items() if name not in refined}
    later = Predictions(predictions.semantic, only, predictions.readings, predictions.uncond)
    run_level(sampling, 1.6, later)
    assert set(sampling.report.masks) == set(NAMES)


def test_the_whole_mask_is_shared(begin):
    sampling = begin(mask_mode="whole")
    delta = run_level(sampling, 14.6, predict())
    made = predict()
    mean = sum(made.identity.values()) / 2
    assert torch.allclose(delta, mean - made.semantic, atol=1e-5)


def test_the_start_stays_the_hosts(begin):
    assert not begin(idap_strength=0.5).edits_start()


def test_a_later_search_gives_away_no_head_that_is_somebodys(begin):
    """Both could have the right face; who got it first keeps it, and the other one gets the left."""
    found = [RIGHT]
    sampling = begin(found)
    run_level(sampling, 1.5, predict())
    (first,) = (name for name, of_line in sampling.refinement.heads.refined.items() if of_line == (True,))
    (second,) = (name for name in NAMES if name != first)
    kept = sampling.report.drawn[first, 0]
    found.insert(0, LEFT)
    run_level(sampling, 1.0, predict_for(sampling, 1.0))
    assert sampling.refinement.heads.refined == {name: (True,) for name in NAMES}
    assert sampling.report.drawn[first, 0] is kept
    assert max(columns_of(sampling, second)) < min(columns_of(sampling, first))
    boxes = {name: box[0] * 96 for name, box in sampling.report.heads[0].items()}
    assert boxes == pytest.approx({first: RIGHT[0], second: LEFT[0]})


@pytest.mark.parametrize("found", [[RIGHT], []])
def test_a_later_search_without_a_new_face_changes_nothing(begin, found):
    shown = [RIGHT]
    sampling = begin(shown)
    run_level(sampling, 1.5, predict())
    refined = dict(sampling.refinement.heads.refined)
    shown[:] = found
    run_level(sampling, 1.0, predict_for(sampling, 1.0))
    assert sampling.refinement.heads.refined == refined
    assert not sampling.report.warnings


def test_positions_wait_for_all_faces_and_at_last_take_what_there_is(begin):
    found = [RIGHT]
    sampling = begin(found, (1, 2))
    run_level(sampling, 1.5, predict())
    assert sampling.refinement.heads.refined == {name: (False,) for name in NAMES}, "nobody knows whose it is"
    found.append(LEFT)
    run_level(sampling, 1.0, predict())
    assert sampling.refinement.heads.refined == {name: (True,) for name in NAMES}
    assert max(columns_of(sampling, NAMES[0])) < min(columns_of(sampling, NAMES[1]))
    late = begin([RIGHT], (1, 2))
    for sigma in (1.5, 1.0, 0.5):
        run_level(late, sigma, predict())
    assert late.refinement.heads.refined == {NAMES[0]: (True,), NAMES[1]: (False,)}


def test_a_person_of_weight_zero_runs_no_row_and_keeps_the_others_from_the_head(begin):
    sampling = begin([LEFT, RIGHT], (1, 2), weights=(0.0, 1.0))
    assert [line.name for line in sampling.active_lines(14.6)] == [NAMES[1]]
    run_level(sampling, 1.5, predict_for(sampling, 1.5))
    assert sampling.refinement.heads.refined == {NAMES[0]: (False,), NAMES[1]: (True,)}
    assert {call.rows for call in sampling.host.calls if call.is_crop} == {1, 2}, "cond and uncond of one head"
    assert not sampling.plan.lines[0].injections[0].attachments
    assert min(columns_of(sampling, NAMES[1])) >= 7
    assert not sampling.refinement.should_refine(1.0)
    assert find_shortfall(sampling.plan, sampling.report.batch, 0) is None
