"""Muon beside AdamW, for runs that are short: fewer steps to the same loss (demo/dollhouse/README.md).

A weight matrix (a convolution's is outputs x all else) moves along its momentum's nearest half-orthogonal matrix,
found by Newton and Schulz's iteration (K. Jordan et al., 2024), at the root mean square of an AdamW step; biases,
norms and whatever has few channels in or out take AdamW's own. Matrices of one shape are moved together: on a GPU the
iteration is hundreds of small products, and their launches would take longer than the training itself.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

MOMENTUM, RMS = 0.95, 0.2
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
LEAST_SIDE = 16  # of a matrix: a few channels in or out are no matrix


def orthogonalise(matrices: Tensor, iterations: int = 5) -> Tensor:
    """The matrices (..., rows, columns) with all their singular values near 1. The iteration runs on the smaller Gram
    matrix; the matrix itself, which is longer, is multiplied once."""
    a, b, c = NEWTON_SCHULZ
    is_tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if is_tall else matrices
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    gram, eye = x @ x.mT, torch.eye(x.shape[-2], dtype=x.dtype, device=x.device)
    product = eye
    for _ in range(iterations):
        factor = a * eye + b * gram + c * gram @ gram
        product = factor @ product
        gram = factor @ factor @ gram
    x = product @ x
    return x.mT if is_tall else x


def is_matrix(p: nn.Parameter) -> bool:
    return p.ndim >= 2 and min(p.shape[0], p[0].numel()) >= LEAST_SIDE and p.shape[1] >= LEAST_SIDE


class Muon(torch.optim.AdamW):
    """AdamW, but for matrices, whose first moment is orthogonalised."""

    def __init__(self, parameters: list[nn.Parameter], **options: Any):
        matrices = [p for p in parameters if is_matrix(p)]
        others = [p for p in parameters if not is_matrix(p)]
        super().__init__([{"params": others}], **options)
        self.matrices, self.momenta = matrices, [torch.zeros_like(p) for p in matrices]

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        super().step(closure)
        group = self.param_groups[0]
        alike: dict[torch.Size, list[tuple[Tensor, Tensor]]] = {}
        for p, momentum in zip(self.matrices, self.momenta, strict=True):
            if p.grad is not None:
                momentum.lerp_(p.grad, 1 - MOMENTUM)
                alike.setdefault(p.flatten(1).shape, []).append((p, p.grad.lerp(momentum, MOMENTUM).flatten(1)))
        for shape, members in alike.items():
            rate, kept = group["lr"] * RMS * max(shape) ** 0.5, 1 - group["lr"] * group["weight_decay"]
            directions = orthogonalise(torch.stack([direction for _, direction in members]))
            for (p, _), direction in zip(members, directions, strict=True):
                p.mul_(kept).add_(direction.view(p.shape), alpha=-rate)

    def zero_grad(self, set_to_none: bool = True) -> None:
        super().zero_grad(set_to_none)
        for p in self.matrices:
            p.grad = None

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"momenta": self.momenta}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict({k: v for k, v in state.items() if k != "momenta"})
        for momentum, saved in zip(self.momenta, state["momenta"], strict=True):
            momentum.copy_(saved)
