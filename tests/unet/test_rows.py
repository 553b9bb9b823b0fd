"""Whose rows are whose: AND parts, a host that feeds its rows in several calls, and additions to some rows."""

from __future__ import annotations

import pytest
import torch

from lib_beyondfacial.unet.rows import (
    ALL_ROWS,
    LineRows,
    RowLedger,
    RowsPerSite,
    add_into_rows,
    add_to_rows,
    average_parts,
)


def test_and_parts_are_averaged_by_the_size_of_their_weights():
    where = LineRows(slice(4), (0, 0, 1, 1), (1.0, -3.0, 0.0, 0.0))
    rows = torch.tensor([[4.0], [8.0], [1.0], [3.0]])
    assert torch.equal(average_parts(rows, where), torch.tensor([[0.25 * 4 + 0.75 * 8], [2.0]]))


def test_one_row_a_picture_stays_as_it_is():
    rows = torch.rand(3, 5)
    assert average_parts(rows, LineRows.one_each(3)) is rows


def test_rows_per_site_are_put_together_over_several_calls():
    first, second = RowsPerSite({}, (0,), (1.0,)), RowsPerSite({}, (1, 1), (1.0, 1.0))
    first.add(3, torch.tensor([[1.0]]))
    second.add(3, torch.tensor([[2.0], [4.0]]))
    together = RowsPerSite()
    together.extend(first)
    together.extend(second)
    (site,) = together.by_image()
    assert torch.equal(site, torch.tensor([[1.0], [3.0]]))
    assert torch.equal(first.by_image()[0], torch.tensor([[1.0]])), "what was put together is not changed"


@pytest.mark.parametrize(
    ("calls", "found", "has_uncond"),
    [
        ([6], [slice(0, 4)], True),
        ([4, 2], [slice(0, 4), None], True),
        ([3, 3], [slice(0, 3), slice(0, 1)], True),
        ([2, 2], [slice(0, 2), slice(0, 2)], False),
    ],
)
def test_ledger_finds_the_first_cond_rows_however_they_are_fed(calls, found, has_uncond):
    ledger, rows = RowLedger(4), []
    for count in calls:
        ledger.begin_call(count)
        rows.append(ledger.current_rows())
    assert rows == found
    assert (ledger.rows_done > ledger.cond_rows) is has_uncond


@pytest.mark.parametrize("rows", [slice(1, 3), [1, 2]])
def test_add_to_rows_leaves_the_others_bit_by_bit(rows):
    x = torch.rand(4, 2)
    before = x.clone()
    found = add_to_rows(x, rows, torch.ones(2, 2))
    assert torch.equal(x, before)
    assert torch.equal(found[[0, 3]], x[[0, 3]])
    assert torch.equal(found[1:3], x[1:3] + 1)
    assert torch.equal(add_to_rows(x, ALL_ROWS, torch.ones(4, 2)), x + 1)


@pytest.mark.parametrize("rows", [slice(1, 3), [1, 2], [2, 1]])
def test_add_into_rows_is_the_same_in_place(rows):
    x, addition = torch.rand(4, 2), torch.rand(2, 2)
    expected = add_to_rows(x, rows, addition)
    add_into_rows(x, rows, addition)
    assert torch.equal(x, expected)
