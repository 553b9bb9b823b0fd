"""AND prompts: composing several cond rows of one image as A1111 does, and adding delta to the composition once.

`weights` holds, per image, the weights of its AND parts in the order of the cond rows.
"""

from __future__ import annotations

import torch
from torch import Tensor


def compose(rows: Tensor, uncond: Tensor | None, weights: list[list[float]]) -> Tensor:
    """The host's own AND composition of cond rows: D_u + sum w_k (D_k - D_u); one row of weight 1 stays as it is."""
    out, at = [], 0
    for i, own in enumerate(weights):
        if own == [1.0]:
            out.append(rows[at])
        else:
            base = rows[at] if uncond is None else uncond[i]
            out.append(base + sum(w * (rows[at + k] - base) for k, w in enumerate(own)))
        at += len(own)
    return torch.stack(out)


def compose_maps(rows: Tensor, weights: list[list[float]]) -> Tensor:
    """Attention of an image's AND parts, averaged by their weights' size: (rows, n) -> (B, n)."""
    out, at = [], 0
    for own in weights:
        size = torch.tensor([abs(w) for w in own], device=rows.device)
        share = size / size.sum() if float(size.sum()) > 0 else torch.full_like(size, 1 / len(own))
        out.append((rows[at : at + len(own)] * share[:, None]).sum(0))
        at += len(own)
    return torch.stack(out)


def add_to_cond_rows(x: Tensor, delta: Tensor, weights: list[list[float]]) -> None:
    """Add delta once per image: to its heaviest AND part, over that part's weight, so that the sum gains delta."""
    at = 0
    for i, own in enumerate(weights):
        k = max(range(len(own)), key=lambda j: abs(own[j]))
        if own[k]:
            x[at + k] += (delta[i] / own[k]).to(x.dtype)
        at += len(own)
