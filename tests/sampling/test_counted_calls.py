"""The host's own calls, of which the report's cost is a share."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.sampling.conftest import LEVELS, predict, run_level, step_at


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


def cost_of(begin, rows, stop=1.0, calls=1):
    """The report's cost of a pass whose host has so many rows at each level, and calls the model so often."""
    sampling, predictions = begin(idap_strength=0, stop=stop), predict()
    for sigma, of_level in zip(LEVELS[:-1], rows, strict=True):
        for _ in range(calls):
            if sampling.acts(sigma):
                sampling.report.note_rows(1, predictions.semantic)
                sampling.delta(replace(step_at(sigma, predictions), rows=of_level), predictions)
    return sampling.report.cost


def test_levels_without_an_uncond_row_are_counted_as_such(begin):
    assert cost_of(begin, [2, 1] * 4) == 8 / 12


def test_calls_behind_the_window_are_counted_for_samplers_of_two_calls_a_step(begin):
    assert cost_of(begin, [2] * 8, stop=0.5) == pytest.approx(4 / 16)
    assert cost_of(begin, [2] * 8, stop=0.5, calls=2) == pytest.approx(8 / 32)
