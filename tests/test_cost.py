"""What the page says a run will cost, and what it did cost."""

from __future__ import annotations

import pytest
import torch

from lib_beyondfacial.method import head_refinement as eq
from lib_beyondfacial.sampling.report import Report
from lib_beyondfacial.settings import METHOD_DEFAULTS, PRESETS, MethodParameters, cost


@pytest.mark.parametrize(
    ("changes", "rows"),
    [
        ({}, 3 + 8 * 2 / 3),
        ({"start": 0.5}, 1 + 8 * 2 / 3),
        ({"refine_head": False}, 18),
        ({"refine_head": False, "stride": 2}, 9),
        ({"mask_mode": "whole", "start": 0.0}, 30),
        ({"start": 0.0, "idap_strength": 0.5, "refine_head": False}, 31),
        ({"stop": 0.45}, 2 + 8 * 2 / 3),
        ({"weight": 0.0}, 0),
        ({"mask_strength": 0.0}, 0),
    ],
)
def test_rows_of_thirty_steps(changes, rows):
    assert cost.estimate_cost(MethodParameters(**changes)) == pytest.approx(rows / 60)


def test_each_person_has_rows_of_their_own():
    one, two = (cost.estimate_cost(MethodParameters(), persons=count) for count in (1, 2))
    assert two == pytest.approx(2 * one)


def test_the_crop_has_as_many_rows_as_the_refinement():
    assert eq.rows_of_a_head() == cost.CROP_ROWS


def test_presets_say_what_they_cost():
    sentences = {
        name: cost.cost_in_words(MethodParameters(**{**METHOD_DEFAULTS, **PRESETS[name]})) for name in PRESETS
    }
    assert "about 11% more" in sentences["Fast"]
    assert "about 14% more" in sentences["Default"]
    assert sentences["Default"].endswith("Fewer steps or a second person: a larger share.")
    assert "about 34% more" in sentences["Portrait"]
    assert sentences["As in the paper"].endswith("more UNet work. A second person: a larger share.")
    assert "larger" not in cost.cost_in_words(MethodParameters(weight=0.0))


def test_the_cost_of_a_run_counts_areas():
    report, picture, crop = Report(), torch.zeros(2, 4, 64, 96), torch.zeros(2, 4, 64, 64)
    assert report.cost is None
    report.note_host(60, picture)
    for _ in range(3):
        report.note_rows(2, picture)
    for _ in range(4):
        report.note_rows(4, crop)
    assert report.identity_rows == 22
    assert report.cost == pytest.approx((3 + 8 * 2 / 3) / 60)
    report.note_host(60, picture)
    assert report.cost == pytest.approx((3 + 8 * 2 / 3) / 60), "noted anew at every level"
    report.begin_pass(is_later=True)
    report.note_host(60, picture)
    assert report.cost == pytest.approx((3 + 8 * 2 / 3) / 120)
