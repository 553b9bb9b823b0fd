"""Fusing the two lines' predictions (docs/method.md eq. 8-9)."""

from __future__ import annotations

import torch
from torch import Tensor


def compute_delta(pred_semantic: Tensor, pred_identity: Tensor, mask: Tensor, rho: float = 1.0) -> Tensor:
    """What to add to the semantic prediction, before CFG (docs/method.md eq. 8).

        delta = rho * mask * (pred_identity - pred_semantic)

    Args:
        pred_semantic: (B, C, H, W), x0 or eps space, before CFG.
        pred_identity: same shape, space, device, dtype.
        mask: (B, 1, H, W) in [0, 1]; 1 = identity line.
        rho: damping, [0, 2].

    Exactly zero where mask is zero, whatever the lines say there. fp32. Inputs are not modified.
    """
    difference = pred_identity.float() - pred_semantic.float()
    return torch.where(mask > 0, rho * mask * difference, torch.zeros_like(difference))


def align_style(pred_identity: Tensor, pred_semantic: Tensor, mask: Tensor, style: float) -> Tensor:
    """Move the identity line's channel means inside the mask to the semantic line's (docs/method.md eq. 9).

        pred_identity + style * mask * (mean_mask(pred_semantic) - mean_mask(pred_identity))

    AdaIN's mean alone. Channel means also carry skin tone, so `style` 0 is the default and changes nothing.
    """
    if style == 0:
        return pred_identity
    total = mask.sum((-1, -2), keepdim=True)
    weights = torch.where(total > 0, mask / total.clamp(min=1e-6), torch.zeros_like(mask))
    shift = (weights * (pred_semantic.float() - pred_identity.float())).sum((-1, -2), keepdim=True)
    return pred_identity + (style * mask * shift).to(pred_identity.dtype)
