"""Adds what a ControlNet predicts to some rows of a UNet call, by hooks on the UNet's blocks (ldm's names)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from .rows import Rows, add_to_rows

Residuals = Callable[[Tensor, Tensor, Tensor | None], Sequence[Tensor]]


@contextmanager
def attach_control(unet: nn.Module, rows: Rows, residuals: Residuals) -> Iterator[None]:
    """While the context is open, add a ControlNet's residuals to these rows of every call of the UNet.

    Args:
        residuals: (x, timesteps, SDXL's vector or None), each of these rows, -> one tensor for each input block, in
            order, and one for the middle block. They are added to the skip connections, which follow the other
            channels of an output block's input, and to the middle block's output.
    """
    waiting: list[Tensor] = []

    def begin(module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        vector = kwargs.get("y")
        waiting[:] = residuals(args[0][rows], args[1][rows], None if vector is None else vector[rows])

    def after_middle(module: nn.Module, args: tuple, out: Tensor) -> Tensor:
        return add_to_rows(out, rows, waiting.pop().to(out))

    def before_output(module: nn.Module, args: tuple) -> tuple:
        joined, residual = args[0], waiting.pop().to(args[0])
        padding = (0, 0, 0, 0, joined.shape[1] - residual.shape[1], 0)
        return (add_to_rows(joined, rows, F.pad(residual, padding)), *args[1:])

    with ExitStack() as hooks:
        hooks.callback(unet.register_forward_pre_hook(begin, with_kwargs=True).remove)
        hooks.callback(unet.get_submodule("middle_block").register_forward_hook(after_middle).remove)
        for block in unet.get_submodule("output_blocks").children():
            hooks.callback(block.register_forward_pre_hook(before_output).remove)
        yield
