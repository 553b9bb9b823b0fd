"""The host's own calls, of which the report's cost is a share."""

from __future__ import annotations

from tests.sampling.conftest import LEVELS, predict, run_level


def test_a_host_that_asks_twice_at_a_level_counts_one_call(begin):
    costs = []
    for asks_twice in (False, True):
        sampling, predictions = begin(idap_strength=0), predict()
        for sigma in LEVELS[:-1]:
            if asks_twice and sampling.schedule is not None:
                assert sampling.may_act(sigma)
            sampling.report.note_rows(1, predictions.semantic)
            run_level(sampling, sigma, predictions)
        costs.append(sampling.report.cost)
    assert costs == [0.5, 0.5]
