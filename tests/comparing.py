"""Whether lists of pictures are the same, and whether a model is as it was."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import nn

ALMOST = 1  # levels of 255: an extra row changes the batch, and with it rounding (1e-4 of the latents)
Pictures = Sequence[np.ndarray]


def same(one: Pictures, other: Pictures) -> bool:
    return len(one) == len(other) and all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def almost(one: Pictures, other: Pictures, levels: int = ALMOST) -> bool:
    """Within some levels of 255."""
    pairs = zip(one, other, strict=True)
    return len(one) == len(other) and all(np.abs(a.astype(int) - b).max() <= levels for a, b in pairs)


HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_load_state_dict_post_hooks")


def hooks_on(model: nn.Module) -> int:
    return sum(len(getattr(module, kind)) for module in model.modules() for kind in HOOKS)
