"""AND prompts in A1111: a picture has several cond rows; compose them, and add delta once per picture."""

from __future__ import annotations

import torch
from torch import Tensor

from ...unet.rows import LineRows


def compose(rows: Tensor, uncond: Tensor | None, where: LineRows) -> Tensor:
    """The host's own AND composition of cond rows: D_u + sum w_k (D_k - D_u); one row of weight 1 stays as it is.

    Args:
        rows: (rows, C, H, W); `where` says which picture each belongs to. uncond: (B, C, H, W), None if not computed.
    """
    composed = []
    for image in range(where.batch):
        parts = where.parts_of(image)
        weights = [where.weights[i] for i in parts]
        if weights == [1.0]:
            composed.append(rows[parts[0]])
            continue
        base = rows[parts[0]] if uncond is None else uncond[image]
        composed.append(base + sum(w * (rows[i] - base) for i, w in zip(parts, weights, strict=True)))
    return torch.stack(composed)


def add_to_cond_rows(x: Tensor, delta: Tensor, where: LineRows) -> None:
    """Add delta / weight to each picture's AND part of largest weight, so that the weighted sum grows by delta."""
    for image in range(where.batch):
        heaviest = max(where.parts_of(image), key=lambda i: abs(where.weights[i]))
        if where.weights[heaviest]:
            x[heaviest] += (delta[image] / where.weights[heaviest]).to(x.dtype)
