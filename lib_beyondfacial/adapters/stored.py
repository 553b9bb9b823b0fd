"""A tensor as a weight file holds it, before it is read; and what no file may make of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

MAX_TENSORS = 20_000  # an SDXL adapter with its LoRA has 1300, a whole checkpoint 2500
FP8 = tuple(getattr(torch, name) for name in ("float8_e4m3fn", "float8_e5m2") if hasattr(torch, name))


class RefusedError(ValueError):
    """A file that is not read; the text ends the sentence '"x.bin" ...'."""


@dataclass(frozen=True, eq=False)
class StoredTensor:
    """dtype and shape as stored; read() gives its numbers in memory of our own.

    Nothing is ever mapped: a file that is overwritten while it is mapped ends the process, and on Windows it could
    not be replaced at all.
    """

    dtype: torch.dtype
    shape: tuple[int, ...]
    read: Callable[[], Tensor]

    @property
    def size(self) -> int:
        """Bytes of all its numbers."""
        return size_of(self.dtype, self.shape)


def size_of(dtype: torch.dtype, shape: tuple[int, ...]) -> int:
    """Bytes of a tensor without gaps."""
    count = 1
    for length in shape:
        count *= length
    return count * torch.empty((), dtype=dtype, device="meta").element_size()


def wide_enough(dtype: torch.dtype) -> torch.dtype:
    """What the dtype is computed in: half precision holds every number of 8-bit floats."""
    return torch.float16 if dtype in FP8 else dtype
