"""Conditions as the family's samplers take them: tensors that know how to be joined into one batch."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

FARTHEST_REPEAT = 4  # prompts are joined by repeating the shorter one, if that is not more often


class Condition:
    """Just a tensor with a row for every picture."""

    def __init__(self, cond: Tensor):
        self.cond = cond

    def process_cond(self, batch_size: int, device: Any, **_where: Any) -> Condition:
        repeats = math.ceil(batch_size / len(self.cond))
        rows = self.cond.repeat(repeats, *[1] * (self.cond.ndim - 1))[:batch_size]
        return type(self)(rows.to(device))

    def can_concat(self, other: Condition) -> bool:
        return self.cond.shape == other.cond.shape

    def concat(self, others: list[Condition]) -> Tensor:
        return torch.cat([self.cond, *(other.cond for other in others)])


class TextCondition(Condition):
    """Encoded prompts; repeating a prompt's tokens leaves its attention as it is, so lengths may differ."""

    def can_concat(self, other: Condition) -> bool:
        this_length, other_length = self.cond.shape[1], other.cond.shape[1]
        is_alike = self.cond.shape[::2] == other.cond.shape[::2]
        return is_alike and math.lcm(this_length, other_length) // min(this_length, other_length) <= FARTHEST_REPEAT

    def concat(self, others: list[Condition]) -> Tensor:
        length = math.lcm(*(c.cond.shape[1] for c in (self, *others)))
        return torch.cat([c.cond.repeat(1, length // c.cond.shape[1], 1) for c in (self, *others)])


def compile_conditions(cond: Tensor | None) -> list[dict[str, Any]] | None:
    if cond is None:
        return None
    return [{"cross_attn": cond, "model_conds": {"c_crossattn": TextCondition(cond)}}]


def compile_weighted(cond: Tensor, parts_of_images: list[list[tuple[int, float]]]) -> list[dict[str, Any]]:
    """One entry an AND part, over all images; of the images' weights the last one's counts."""
    entries = []
    for parts in zip(*parts_of_images, strict=False):
        (entry,) = compile_conditions(cond[[row for row, _ in parts]])
        entries.append({**entry, "strength": parts[-1][1]})
    return entries
