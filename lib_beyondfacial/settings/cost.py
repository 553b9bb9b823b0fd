"""What settings cost, estimated before a run: UNet rows beyond those of the plain picture (docs/cost.md)."""

from __future__ import annotations

import math

from .parameters import MethodParameters

STEPS, CROP_SHARE = 30, 2 / 3  # of the estimate; CROP_SHARE: a 512 x 512 crop's row in rows of 512 x 768
CROP_ROWS = 8  # 5 steps, 3 of them with the prompt and without
FOUND_AT = 0.5  # of the schedule: where sigma falls below 1.6, and the head is looked for, in the usual schedules


def estimate_cost(
    parameters: MethodParameters, persons: int = 1, steps: int = STEPS, crop_share: float = CROP_SHARE
) -> float:
    """The rows of the identity in shares of the plain picture's, which are 2 a step.

    Args:
        crop_share: the refined crop's area in shares of the picture's. A head that is found at once is assumed.
    """
    p = parameters
    if not (p.weight > 0 and p.mask_strength > 0 and p.start < p.stop):
        return 0.0
    refines = p.refine_head and p.mask_mode == "adaptive"
    stop = min(p.stop, max(p.start + 1 / steps, FOUND_AT)) if refines else p.stop
    rows = float(persons * math.ceil(round(steps * (stop - p.start), 6) / p.stride))
    rows += persons * CROP_ROWS * crop_share if refines else 0.0
    rows += 1 if p.idap_strength > 0 else 0
    return rows / (2 * steps)


def cost_in_words(parameters: MethodParameters) -> str:
    """As the page says it before a run."""
    cost = estimate_cost(parameters)
    example = f"Example: {STEPS} steps, 512 x 768, one person: about {cost:.0%} more UNet work."
    if not cost:
        return example
    is_same_at_few_steps = not (parameters.refine_head and parameters.mask_mode == "adaptive")
    return f"{example} {'A' if is_same_at_few_steps else 'Fewer steps or a'} second person: a larger share."
