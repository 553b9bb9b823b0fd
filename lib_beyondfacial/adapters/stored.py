"""A tensor in a weight file before it is read, and limits for files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

MAX_TENSORS = 20_000  # an SDXL adapter with its LoRA has 1300, a whole checkpoint 2500
FP8 = tuple(getattr(torch, name) for name in ("float8_e4m3fn", "float8_e5m2") if hasattr(torch, name))


class RefusedError(ValueError):
    """The file is refused; the message completes the sentence '"x.bin" ...'."""


@dataclass(frozen=True, eq=False)
class StoredTensor:
    """dtype and shape as stored; read() copies its numbers to memory.

    Files are never mapped: overwriting a mapped file kills the process, and on Windows it could not be replaced.
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
    """The dtype to compute in: float16 for 8-bit floats, which it represents exactly; else the same."""
    return torch.float16 if dtype in FP8 else dtype
