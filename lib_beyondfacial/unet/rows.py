"""Which rows of a UNet call belong to which line, and the average over the AND parts of one picture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from .sites import AttentionSite

Rows = slice | list[int]
ALL_ROWS = slice(None)


@dataclass(frozen=True)
class LineRows:
    """The rows of one line.

    rows: their indices in a UNet call; with a RowLedger, counted over several calls.
    images: per row, which picture of the batch it is.
    weights: per row, the weight of its AND part in its picture's prompt.
    is_crop: whether they show a crop of their picture, not all of it.
    landmarks: per row of a crop, the face in it: (5, 2) x, y, as shares of the crop's side; None where there is none.
    """

    rows: Rows
    images: tuple[int, ...]
    weights: tuple[float, ...]
    is_crop: bool = False
    landmarks: tuple[np.ndarray | None, ...] = ()

    @classmethod
    def one_each(cls, batch: int) -> LineRows:
        """All rows of the call, one for each picture."""
        return cls(ALL_ROWS, tuple(range(batch)), (1.0,) * batch)

    def parts_of(self, image: int) -> list[int]:
        """The positions, among these rows, of one picture's AND parts."""
        return [i for i, each in enumerate(self.images) if each == image]

    @property
    def batch(self) -> int:
        return max(self.images) + 1

    @property
    def is_one_each(self) -> bool:
        return self.images == tuple(range(len(self.images)))


@dataclass
class RowLedger:
    """Counts the rows of a host's UNet calls, to find the cond rows, which come first, in one call or in several.

    rows_done: rows of all calls so far; above `cond_rows` if the host also computed unconditional rows.
    current: first and last row (exclusive) of the present call.
    """

    cond_rows: int
    rows_done: int = 0
    current: tuple[int, int] = (0, 0)

    def begin_call(self, rows: int) -> None:
        self.current = (self.rows_done, self.rows_done + rows)
        self.rows_done += rows

    def current_rows(self) -> Rows | None:
        """The rows of the present call that are cond rows; None if there is none."""
        start, end = self.current
        stop = max(0, min(end, self.cond_rows) - start)
        return slice(0, stop) if stop else None

    @contextmanager
    def counting(self, sites: Sequence[AttentionSite]) -> Iterator[None]:
        """Count every UNet call made inside the context, by a hook on the site that each call reaches first."""
        count = sites[0].leaf("to_q").register_forward_hook(lambda module, args, query: self.begin_call(len(query)))
        try:
            yield
        finally:
            count.remove()


@dataclass
class RowsPerSite:
    """Values of one line's rows at each site, over one or several UNet calls.

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
    """x plus `addition` in some of its rows; the other rows stay bit-equal."""
    if rows == ALL_ROWS:
        return x + addition
    x = x.clone()
    x[rows] += addition
    return x


def add_into_rows(x: Tensor, rows: Rows, addition: Tensor) -> None:
    """The same in place, without a copy of x: for tensors in which nobody else reads these rows."""
    if isinstance(rows, slice):
        x[rows].add_(addition)
    else:
        x[rows] += addition
