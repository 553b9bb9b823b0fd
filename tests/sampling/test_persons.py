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
from lib_beyondfacial.settings.parameters import MethodParameters
from tests.sampling.conftest import LEVELS, SIZE, make_person, run_level, spot
from tests.sampling.host_double import CountingInjection, HostDouble

LEFT, RIGHT = (12.0, 20.0, 28.0, 36.0), (64.0, 20.0, 80.0, 36.0)  # px of a picture of 64 x 96
NAMES = ("person 1", "person 2")


def face(box) -> SimpleNamespace:
    embedding, landmarks = 0.5 * np.eye(512)[0], np.zeros((5, 2))
    return SimpleNamespace(box=np.array(box), landmarks=landmarks, normed_embedding=embedding, gender=None)


def predict(batch=1) -> Predictions:
    generator = torch.Generator().manual_seed(0)
    s, i, j, u = (torch.randn(batch, 4, *SIZE, generator=generator) for _ in range(4))
    return Predictions(s, dict(zip(NAMES, (i, j), strict=True)), {name: spot(batch=batch) for name in NAMES}, u)


@pytest.fixture
def begin():
    """begin(faces found, positions, batch, **parameters) -> a pass with two lines."""

    def begin(found=(), positions=(0, 0), batch=1, **parameters) -> SamplingPass:
        host = HostDouble(x0=lambda x, sigma: torch.full_like(x, 0.5))
        lines = tuple(
            IdentityLine(name, (make_person(k),), (CountingInjection(),), position=position, label=name)
            for k, (name, position) in enumerate(zip(NAMES, positions, strict=True))
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
