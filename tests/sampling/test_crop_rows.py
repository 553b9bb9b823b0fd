"""The rows of the UNet that a head refinement asks for: whose, how many, and in how many calls."""

from __future__ import annotations

import pytest

from lib_beyondfacial.method import head_refinement as eq
from tests.sampling.conftest import LARGE, drawing, face, finding, predict, run_level


def test_host_that_does_not_join_cond_and_uncond_is_asked_twice(refining):
    host = drawing()
    host.joins = False
    sampling = refining(finding([face()]), host=host)
    run_level(sampling, 1.5, predict())
    cond, uncond = host.encoded
    first, second = host.calls[:2]
    assert (first.cond, first.injected) == (cond, True)
    assert (second.cond, second.injected) == (uncond, False)
    assert len(host.calls) == sampling.report.identity_rows == eq.rows_of_a_head()


def test_crops_that_are_larger_than_the_batch_are_asked_twice(refining):
    """So that no call needs more memory than the host's own."""
    sampling = refining(finding([face()]), refine_size=128)
    run_level(sampling, 1.5, predict())
    assert [call.rows for call in sampling.host.calls] == [1] * eq.rows_of_a_head()


def test_only_heads_that_are_refined_have_rows(refining):
    """The second of three pictures has no face, and the third a large one."""
    find = finding([face()], [], [face(LARGE)], [face()])
    sampling = refining(find, batch=3)
    run_level(sampling, 1.5, predict(batch=3))
    assert sampling.report.refined == {"person": (True, False, False)}
    assert [call.rows for call in sampling.host.calls] == [2, 2, 2, 1, 1]
    assert {call.cond.texts[0] for call in sampling.host.calls} == {"close-up portrait, a photo of a man 0"}


@pytest.mark.parametrize(("cfg_scale", "rows"), [(1.0, [1, 1, 1, 1, 1]), (7.0, [2, 2, 2, 1, 1])])
def test_refinements_rows_are_counted_and_cfg_one_needs_no_uncond(refining, cfg_scale, rows):
    sampling = refining(finding([face()]))
    run_level(sampling, 1.5, predict(), cfg_scale)
    assert [call.rows for call in sampling.host.calls] == rows
    assert sampling.report.identity_rows == sum(rows)
