"""Whose head is whose: exclusive maps, costs, and the exact assignment."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import binary_dilation
from scipy.optimize import linear_sum_assignment

from lib_beyondfacial.method.assignment import (
    GENDER_COST,
    Head,
    HeadAssignment,
    assign,
    cells_of,
    compute_costs,
    compute_shares,
    dilate,
    find_blobs,
    most_prominent,
)
from lib_beyondfacial.method.predictions import AttentionReadings, Predictions

SIZE = (12, 24)


def head(x: float, strength: float = 1.0, y: float = 0.25) -> Head:
    return Head((x - 0.05, y - 0.1, x + 0.05, y + 0.1), strength)


def blobs(*columns: int, sizes: tuple[int, ...] = ()) -> torch.Tensor:
    """A map (1, 1, H, W) with a blob in these columns, of 3 x 3 or of another size."""
    a = torch.full(SIZE, 0.1)
    for column, size in zip(columns, sizes or (3,) * len(columns), strict=True):
        a[2 : 2 + size, column : column + size] = 0.9
    return a[None, None]


def body(*columns: int) -> torch.Tensor:
    """Readings (1, n) of words that are attended to below these columns."""
    a = torch.zeros(SIZE)
    for column in columns:
        a[2:, column : column + 3] = 1
    return a.flatten()[None]


def predictions(**words: torch.Tensor) -> Predictions:
    x = torch.zeros(1, 4, *SIZE)
    readings = {name: AttentionReadings(subject=[a]) for name, a in words.items()}
    return Predictions(x, {name: x for name in words}, readings, x)


@given(st.integers(1, 4), st.integers(1, 5), st.randoms(use_true_random=False))
def test_assignment_is_the_best_one(persons, heads, random):
    costs = [[random.uniform(-1, 1) for _ in range(heads)] for _ in range(persons)]
    found = assign(costs)
    rows, columns = linear_sum_assignment(np.array(costs))
    assert sum(costs[k][j] for k, j in enumerate(found) if j is not None) == pytest.approx(
        np.array(costs)[rows, columns].sum()
    )
    taken = [j for j in found if j is not None]
    assert len(taken) == len(set(taken)) == min(persons, heads)


def test_equal_costs_mean_the_order_from_the_left():
    assert assign([[0.0] * 3] * 3) == (0, 1, 2)
    assert assign([]) == ()
    assert assign([[], []]) == (None, None)


def test_positions_come_before_costs():
    costs = [[-1.0, 0.0, 0.0], [-1.0, -0.5, 0.0]]
    assert assign(costs) == (0, 1)
    assert assign(costs, [2, 0]) == (1, 0)
    assert assign(costs, [0, 1]) == (1, 0)
    assert assign(costs, [3, 4]) == (2, None), "there is no fourth head"


def test_costs_are_attention_below_the_head_and_gender():
    a = body(3)[0].view(SIZE)
    left, right = head(4.5 / 24), head(18.5 / 24)
    (costs,) = compute_costs([a], [left, right])
    assert costs[0] < costs[1] == 0
    (costs,) = compute_costs([torch.zeros(SIZE)], [left, right], ["male"], ["female", None])
    assert costs == [GENDER_COST, 0]


def test_shares_of_one_person_are_exactly_one():
    assert (compute_shares(torch.rand(1, 6, 6)) == 1).all()


def test_shares_of_several_are_one_in_sum_and_follow_their_words():
    a = torch.rand(3, 6, 6)
    a[1, 2, 2], a[0, 2, 2], a[2, 2, 2] = 1, 0, 0
    shares = compute_shares(a)
    assert torch.allclose(shares.sum(0), torch.ones(6, 6), atol=1e-6)
    assert float(shares[1, 2, 2]) > 0.99


def test_blobs_are_found_from_the_left_without_specks():
    found = find_blobs(blobs(17, 4, 12, sizes=(3, 4, 1))[0, 0])
    assert [round(each.x * 24, 1) for each in found] == [6, 18.5]
    assert found[0].strength > found[1].strength
    assert found[1].box == pytest.approx((17 / 24, 2 / 12, 20 / 24, 5 / 12))
    assert find_blobs(torch.full(SIZE, 0.6)) == []


@given(st.integers(0, 2**32), st.integers(1, 5))
def test_widening_is_scipys(seed, radius):
    inside = torch.rand(17, 23, generator=torch.Generator().manual_seed(seed)) > 0.97
    side = 2 * radius + 1
    assert (dilate(inside, radius).numpy() == binary_dilation(inside.numpy(), np.ones((side, side)))).all()


def test_parts_that_are_near_each_other_are_one_head():
    a = torch.zeros(50, 80)
    a[10:14, 10:14], a[10:14, 17:21], a[10:14, 50:54] = 1, 1, 1
    assert len(find_blobs(a)) == 2


def test_every_place_is_in_the_cell_of_one_head():
    cells = cells_of([head(0.2), head(0.8)], SIZE)
    assert cells.shape == (2, *SIZE)
    assert (cells.sum(0) == 1).all()
    assert cells[0, :, :12].all()


def test_the_most_prominent_heads_are_up_for_assignment():
    heads = [head(0.9, 3), head(0.1, 1), head(0.5, 2)]
    assert most_prominent(heads, [0]) == [0]
    assert most_prominent(heads, [0, 0]) == [2, 0]
    assert most_prominent(heads, [3]) == [1, 2, 0]


def test_one_head_of_one_person_stays_the_very_map():
    maps = {"one": blobs(4)}
    assert HeadAssignment({"one": 0}).cut_maps(maps, predictions(one=body())) is maps


def test_of_several_heads_one_person_gets_one_and_keeps_it():
    assignment, read = HeadAssignment({"one": 0}), predictions(one=body())
    cut = assignment.cut_maps({"one": blobs(4, 18, sizes=(3, 4))}, read)["one"]
    assert float(cut[..., :12].max()) == 0
    assert torch.equal(cut[..., 13:], blobs(4, 18, sizes=(3, 4))[..., 13:])
    cut = assignment.cut_maps({"one": blobs(4, 18, sizes=(4, 3))}, read)["one"]
    assert float(cut[..., :12].max()) == 0, "though the other one is the stronger by now"


@pytest.mark.parametrize(("position", "columns"), [(1, slice(0, 11)), (2, slice(12, 24))])
def test_position_chooses_the_head(position, columns):
    cut = HeadAssignment({"one": position}).cut_maps({"one": blobs(4, 18)}, predictions(one=body()))["one"]
    assert float(cut[..., columns].max()) > 0.8
    cut[..., columns] = 0
    assert float(cut.max()) < 0.2


def test_a_position_that_is_not_there_is_nobodys():
    cut = HeadAssignment({"one": 2}).cut_maps({"one": blobs(4)}, predictions(one=body()))["one"]
    assert float(cut.max()) == 0


@pytest.mark.parametrize("is_crossed", [False, True])
def test_two_persons_get_the_heads_above_their_words(is_crossed):
    words = [body(4), body(18)]
    one, two = reversed(words) if is_crossed else words
    maps = {"one": blobs(4, 18), "two": blobs(4, 18)}
    cut = HeadAssignment({"one": 0, "two": 0}).cut_maps(maps, predictions(one=one, two=two))
    left, right = (cut["two"], cut["one"]) if is_crossed else (cut["one"], cut["two"])
    assert float(left[..., 17:].max()) == float(right[..., :8].max()) == 0
    assert float(left.max()) == float(right.max()) > 0.8
    assert torch.allclose(cut["one"] + cut["two"], maps["one"])


def test_before_two_heads_stand_out_the_words_share_the_map():
    maps = {"one": blobs(8, sizes=(8,)), "two": blobs(8, sizes=(8,))}
    cut = HeadAssignment({"one": 0, "two": 0}).cut_maps(maps, predictions(one=body(8), two=body(13)))
    assert float(cut["one"][0, 0, 4, 9]) > 0.8
    assert float(cut["two"][0, 0, 4, 9]) < 0.1
    assert float(cut["two"][0, 0, 4, 14]) > 0.8
    same = HeadAssignment({"one": 0, "two": 0}).cut_maps(maps, predictions(one=body(8), two=body(8)))
    assert float(same["one"].max()) < 0.5, "words that say the same open no gate"


def test_faces_decide_for_the_rest_of_the_pass():
    assignment = HeadAssignment({"one": 0, "two": 0})
    maps, read = {"one": blobs(4, 18), "two": blobs(4, 18)}, predictions(one=body(4), two=body(18))
    assignment.cut_maps(maps, read)
    faces = [head(19.5 / 24), head(5.5 / 24), head(0.5, 0.1)]
    places = assignment.choose_faces(0, faces, ["male", "female"], ["male", "female", None])
    assert places == {"one": 1, "two": 0}, "attention outweighs the gender"
    even = predictions(one=body(), two=body())
    assignment.cut_maps(maps, even)
    assert assignment.choose_faces(0, faces, ["male", "female"], ["male", "female", None]) == {"one": 0, "two": 1}
    cut = assignment.cut_maps(maps, even)
    assert float(cut["one"][..., :11].max()) == 0
    assert float(cut["one"].max()) > 0.8


def test_the_prompts_order_decides_where_attention_hardly_differs():
    alike, clear = [[-0.22, -0.21], [-0.26, -0.25]], [[-0.4, -0.1], [-0.1, -0.1]]
    assert assign(alike, ranks=[1, 0]) == (1, 0)
    assert assign(alike, ranks=[0, 1]) == (0, 1)
    assert assign(clear, ranks=[1, 0]) == (0, 1), "attention that tells comes first"
    assert assign(alike, [1, 0], ranks=[1, 0]) == (0, 1), "and so does a position"
    assert assign([[0.0] * 3] * 3, ranks=[2, 0, 1]) == (2, 0, 1)


def test_each_picture_has_its_own_prompts_order():
    assignment, heads = HeadAssignment({"one": 0, "two": 0}, [[0, 1], [1, 0]]), [head(0.2), head(0.8)]
    assert assignment.choose_faces(0, heads, [None] * 2, [None] * 2) == {"one": 0, "two": 1}
    assert assignment.choose_faces(1, heads, [None] * 2, [None] * 2) == {"one": 1, "two": 0}
    assert assignment.choose_faces(1, heads, ["male", None], ["male", "female"]) == {"one": 0, "two": 1}
