"""The noise decision mask: which line is used at each position (docs/method.md eq. 4-7). All in fp32."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .precision import without_autocast

EPS = 1e-6
MASK_FLOOR = 1 / 255


def smoothstep(x: Tensor, a0: float, a1: float) -> Tensor:
    """0 up to a0, 1 from a1 on, 3t^2 - 2t^3 between; a hard step where a0 = a1."""
    if a1 <= a0:
        return (x > a0).to(x.dtype)
    t = ((x - a0) / (a1 - a0)).clamp(0, 1)
    return t * t * (3 - 2 * t)


def blur(x: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of (B, 1, H, W), `sigma` in latent px, replicated border; the mean of a constant stays."""
    if sigma <= 0:
        return x
    radius = max(1, math.ceil(3 * sigma))
    taps = torch.exp(-0.5 * (torch.arange(-radius, radius + 1, dtype=x.dtype, device=x.device) / sigma) ** 2)
    taps = taps / taps.sum()
    with without_autocast(x.device):
        x = F.conv2d(F.pad(x, (radius, radius, 0, 0), mode="replicate"), taps[None, None, None, :])
        return F.conv2d(F.pad(x, (0, 0, radius, radius), mode="replicate"), taps[None, None, :, None])


def compute_saliency(response: Tensor, region: Tensor, sigma: float) -> Tensor:
    """S = blur(mean_c |R|), divided by its mean over the candidate region (docs/method.md eq. 5).

    Args:
        response: (B, C, H, W), a difference of predictions; any scale, which drops out.
        region: (B, 1, H, W) bool. If it is empty, the mean of the whole picture is used (the gate is 0 then anyway).
        sigma: blur in latent px.
    """
    s = blur(response.float().abs().mean(1, keepdim=True), sigma)
    inside = region.to(s.dtype)
    count = inside.sum((-1, -2), keepdim=True)
    mean = torch.where(
        count > 0, (s * inside).sum((-1, -2), keepdim=True) / count.clamp(min=1), s.mean((-1, -2), keepdim=True)
    )
    return s / (mean + EPS)


def compute_decision(  # noqa: PLR0913  the equation's own parameters
    a: Tensor,
    s_identity: Tensor,
    s_semantic: Tensor | float,
    gate: tuple[float, float],
    kappa: float = 8.0,
    lam: float = 1.0,
    tau: float = 0.2,
) -> Tensor:
    """M* = G sigmoid(kappa (A S_i - lambda (1 - A) S_s - tau)), below 1/255 -> 0 (docs/method.md eq. 6).

    Args:
        a: (B, 1, H, W) in [0, 1].
        s_identity, s_semantic: saliencies; the semantic one is 1 if there is no uncond row to compute it from.
        gate: (a0, a1) of G = smoothstep(A): outside {A > a0} the mask is 0.
    """
    mask = smoothstep(a, *gate) * torch.sigmoid(kappa * (a * s_identity - lam * (1 - a) * s_semantic - tau))
    return torch.where(mask < MASK_FLOOR, torch.zeros_like(mask), mask)


def smooth(mask_before: Tensor | None, mask: Tensor, beta: float, distance: float) -> Tensor:
    """M <- beta^d M + (1 - beta^d) M*; the first mask is not smoothed (docs/method.md eq. 7)."""
    if mask_before is None or mask_before.shape != mask.shape:
        return mask
    kept = beta**distance
    return kept * mask_before + (1 - kept) * mask
