"""Whose rows are whose in a UNet call, and how the AND parts of one picture are averaged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .sites import AttentionSite

Rows = slice | list[int]
ALL_ROWS = slice(None)


@dataclass(frozen=True)
class LineRows:
    """The rows of one line.

    rows: which rows of a UNet call. With a RowLedger: of the calls that follow, counted through.
    images: per row, which picture of the batch it is.
    weights: per row, the weight of its AND part in its picture's prompt.
    """

    rows: Rows
    images: tuple[int, ...]
    weights: tuple[float, ...]

    @classmethod
    def one_each(cls, batch: int) -> LineRows:
        """All rows of the call, one for each picture."""
        return cls(ALL_ROWS, tuple(range(batch)), (1.0,) * batch)

    def parts_of(self, image: int) -> list[int]:
        """Where among these rows the AND parts of one picture are."""
        return [i for i, each in enumerate(self.images) if each == image]

    @property
    def batch(self) -> int:
        return max(self.images) + 1

    @property
    def is_one_each(self) -> bool:
        return self.images == tuple(range(len(self.images)))


@dataclass
class RowLedger:
    """Finds the first `cond_rows` rows where a host feeds its rows in order, in one UNet call or in several.

    rows_done counts the rows of all calls so far; more than `cond_rows` means that unconditional rows were computed.
    """

    cond_rows: int
    rows_done: int = 0
    current: tuple[int, int] = (0, 0)

    def begin_call(self, rows: int) -> None:
        self.current = (self.rows_done, self.rows_done + rows)
        self.rows_done += rows

    def current_rows(self) -> Rows | None:
        """Which rows of the present call belong to the first `cond_rows`; None where none does."""
        start, end = self.current
        stop = max(0, min(end, self.cond_rows) - start)
        return slice(0, stop) if stop else None

    @contextmanager
    def counting(self, sites: Sequence[AttentionSite]) -> Iterator[None]:
        """Hear of every UNet call made meanwhile; in adapter order the first site is the first that a call reaches."""
        count = sites[0].leaf("to_q").register_forward_hook(lambda module, args, query: self.begin_call(len(query)))
        try:
            yield
        finally:
            count.remove()


@dataclass
class RowsPerSite:
    """What the rows of one line gave at each site, over one or several UNet calls.

    per_site: number of the site -> its values (rows, n), call by call.
    images, weights: of these rows, in the same order.
    """

    per_site: dict[int, list[Tensor]] = field(default_factory=dict)
    images: tuple[int, ...] = ()
    weights: tuple[float, ...] = ()

    def add(self, site: int, values: Tensor) -> None:
        self.per_site.setdefault(site, []).append(values)

    def extend(self, other: RowsPerSite) -> None:
        """Append the rows of a further call."""
        for site, values in other.per_site.items():
            self.per_site.setdefault(site, []).extend(values)
        self.images, self.weights = self.images + other.images, self.weights + other.weights

    def by_image(self) -> list[Tensor]:
        """Per site the average over each picture's AND parts, weighted by the size of their weights: (B, n)."""
        where = LineRows(ALL_ROWS, self.images, self.weights)
        return [average_parts(torch.cat(values), where) for values in self.per_site.values()]


def average_parts(rows: Tensor, where: LineRows) -> Tensor:
    """The average over each picture's AND parts, weighted by the size of their weights: (rows, n) -> (B, n)."""
    if where.is_one_each:
        return rows
    averages = []
    for image in range(where.batch):
        parts = where.parts_of(image)
        sizes = [abs(where.weights[i]) for i in parts]
        shares = [size / sum(sizes) if sum(sizes) else 1 / len(parts) for size in sizes]
        averages.append(torch.stack([share * rows[i] for i, share in zip(parts, shares, strict=True)]).sum(0))
    return torch.stack(averages)


def add_to_rows(x: Tensor, rows: Rows, addition: Tensor) -> Tensor:
    """x with something added to some of its rows; the others stay what they are, bit by bit."""
    if rows == ALL_ROWS:
        return x + addition
    x = x.clone()
    x[rows] += addition
    return x
