"""Fusing the lines' predictions (docs/method.md eq. 8-9)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from .predictions import Predictions


def fuse(differences: Mapping[str, Tensor], masks: Mapping[str, Tensor], rho: float = 1.0) -> Tensor:
    """What to add to the semantic prediction, before CFG (docs/method.md eq. 8).

        delta = rho * sum over the lines of mask * difference

    Args:
        differences: by line, (B, C, H, W) fp32, from compute_differences; at least one.
        masks: by line, (B, 1, H, W) in [0, 1]; 1 = identity line.
        rho: damping, [0, 2].

    Returns fp32, exactly zero where all masks are zero. Inputs are not modified.
    """
    deltas = [
        torch.where(masks[name] > 0, rho * masks[name] * difference, torch.zeros_like(difference))
        for name, difference in differences.items()
    ]
    return sum(deltas[1:], start=deltas[0])


def compute_differences(
    predictions: Predictions, masks: Mapping[str, Tensor], style: float = 0.0
) -> Mapping[str, Tensor]:
    """D_i - D_s of every line, (B, C, H, W) fp32, the identity's style aligned (docs/method.md eq. 9)."""
    semantic = predictions.semantic
    return {
        name: align_style(identity, semantic, masks[name], style).float() - semantic.float()
        for name, identity in predictions.identity.items()
    }


def align_style(pred_identity: Tensor, pred_semantic: Tensor, mask: Tensor, style: float) -> Tensor:
    """Move the identity line's channel means inside the mask to the semantic line's (docs/method.md eq. 9).

        pred_identity + style * mask * (mean_mask(pred_semantic) - mean_mask(pred_identity))

    The mean part of AdaIN. Channel means also carry skin tone, so the default is `style` 0, which changes nothing.
    """
    if style == 0:
        return pred_identity
    total = mask.sum((-1, -2), keepdim=True)
    weights = torch.where(total > 0, mask / total.clamp(min=1e-6), torch.zeros_like(mask))
    shift = (weights * (pred_semantic.float() - pred_identity.float())).sum((-1, -2), keepdim=True)
    return pred_identity + (style * mask * shift).to(pred_identity.dtype)
