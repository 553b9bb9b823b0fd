import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib_beyondfacial.method.schedule import Schedule

KARRAS = [14.61, 7.2, 3.3, 1.4, 0.5, 0.15, 0.03, 0.0]


def test_the_trailing_zero_is_no_step():
    assert Schedule.from_levels(KARRAS).levels == tuple(KARRAS[:-1])


def test_ascending_timesteps_are_turned_round():
    assert Schedule.from_levels([1, 334, 667, 999]).levels == (999, 667, 334, 1)


def test_position_is_the_rank_and_is_interpolated_between_steps():
    schedule = Schedule.from_levels(KARRAS)
    assert [schedule.position(v) for v in KARRAS[:-1]] == pytest.approx(range(7))
    assert schedule.position((14.61 + 7.2) / 2) == pytest.approx(0.5)
    assert schedule.position(99) == 0
    assert schedule.position(0.001) == 6


def test_the_window_is_half_open_and_counts_levels_not_calls():
    schedule = Schedule.from_levels(np.linspace(10, 1, 10))
    inside = [v for v in schedule.levels if schedule.in_window(v, 0.2, 0.5)]
    assert inside == [8, 7, 6]
    # a Heun-like sampler that asks twice at a level, and once more in between, moves nothing
    assert schedule.in_window(7.5, 0.2, 0.5)
    assert not schedule.in_window(5.0, 0.2, 0.5)


def test_a_pass_that_starts_lower_counts_from_there():
    schedule = Schedule.from_levels(KARRAS, first=3.3)
    assert schedule.levels[0] == 3.3
    assert schedule.position(3.3) == 0


@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=50), st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_windows_split_at_any_point_share_no_level_and_lose_none(levels, a, b, c):
    start, middle, stop = sorted((a, b, c))
    schedule = Schedule.from_levels(levels)
    for level in schedule.levels:
        parts = schedule.in_window(level, start, middle), schedule.in_window(level, middle, stop)
        assert sum(parts) == schedule.in_window(level, start, stop)
