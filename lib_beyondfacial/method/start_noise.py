"""Identity Aggregation Prepending: start noise that contains the identity (docs/method.md eq. 11-12)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

MEAN_SHIFT = 0.019  # eq. 12 allows 0.02 per image and channel


@dataclass(frozen=True)
class Box:
    """A box in latent px, half-open: rows [top, bottom), columns [left, right)."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def size(self) -> tuple[int, int]:
        return self.bottom - self.top, self.right - self.left

    def cut(self, x: Tensor, factor: int = 1) -> Tensor:
        """The view of the box in x (..., H, W); factor: px of x per latent px."""
        top, left, bottom, right = (factor * side for side in (self.top, self.left, self.bottom, self.right))
        return x[..., top:bottom, left:right]


def dct_basis(n: int) -> Tensor:
    """The orthonormal DCT-II basis, (n, n) fp64: row k is the k-th frequency."""
    k, i = np.arange(n)[:, None], np.arange(n)[None, :]
    basis = np.cos(np.pi * (i + 0.5) * k / n) * np.sqrt(2 / n)
    basis[0] /= np.sqrt(2)
    return torch.from_numpy(basis)


def low_band(patch: Tensor, band: float) -> Tensor:
    """The coefficients of the low DCT band: (C, h, w) -> (C, ceil(band h), ceil(band w)) fp64."""
    h, w = patch.shape[-2:]
    rows, cols = dct_basis(h)[: max(1, int(np.ceil(band * h)))], dct_basis(w)[: max(1, int(np.ceil(band * w)))]
    return rows @ patch.double() @ cols.T


def from_band(coefficients: Tensor, size: tuple[int, int]) -> Tensor:
    """The patch of a low band: the adjoint of `low_band`, whose composition is the orthogonal projector P."""
    h, w = size
    rows, cols = coefficients.shape[-2:]
    return dct_basis(h)[:rows].T @ coefficients @ dct_basis(w)[:cols]


def mix_band(noise: Tensor, identity: Tensor, g: float, mean_limit: float) -> Tensor:
    """Mix two low bands (C, i, j) at strength g, keeping the noise's norm per channel, its mean within `mean_limit`.

        sqrt(1 - g^2) Pn + g Pz |Pn| / |Pz|

    Then the constant term is clamped to the noise's +- mean_limit, and the rest of the band is rescaled so that the
    norm of the band stays |Pn|.
    """
    norm_n = noise.flatten(1).norm(dim=1)
    norm_z = identity.flatten(1).norm(dim=1)
    scale = torch.where(norm_z > 0, norm_n / norm_z.clamp(min=1e-12), torch.zeros_like(norm_z))
    mixed = (1 - g * g) ** 0.5 * noise + g * identity * scale[:, None, None]
    mixed = mixed * (norm_n / mixed.flatten(1).norm(dim=1).clamp(min=1e-12))[:, None, None]
    before, constant = noise[:, 0, 0], mixed[:, 0, 0].clone()
    constant = torch.minimum(torch.maximum(constant, before - mean_limit), before + mean_limit)
    mixed[:, 0, 0] = 0
    norm_rest = mixed.flatten(1).norm(dim=1)
    rest = (norm_n**2 - constant**2).clamp(min=0).sqrt()
    mixed = mixed * (rest / norm_rest.clamp(min=1e-12))[:, None, None]
    mixed[:, 0, 0] = constant
    # A band of the constant term alone has no other term to keep the norm with: leave the noise as it is.
    return torch.where((norm_rest > 1e-9)[:, None, None], mixed, noise)


def prepend_identity(noise: Tensor, identity_latent: Tensor, box: Box, g: float, band: float = 1.0) -> Tensor:
    """Mix the identity into the start noise inside `box` (docs/method.md eq. 11).

    Args:
        noise: (C, H, W), unit variance, one image's.
        identity_latent: (C, h, w), the scaled VAE latent of the reference head, cut to the box.
        box: h x w, inside H x W.
        g: strength in [0, 1]; 0 returns `noise` itself.
        band: share of the box's DCT frequencies, per axis, that may change; the other frequencies stay the same.

    Returns: a new tensor of the noise's dtype and device; per channel its energy is the noise's, its mean within 0.02.
    """
    if g == 0:
        return noise
    window = (slice(None), slice(box.top, box.bottom), slice(box.left, box.right))
    patch = noise[window].cpu().double()
    low_n, low_z = low_band(patch, band), low_band(identity_latent.cpu(), band)
    area = box.size[0] * box.size[1]
    mean_limit = MEAN_SHIFT * noise.shape[-1] * noise.shape[-2] / area**0.5
    change = from_band(mix_band(low_n, low_z, g, mean_limit) - low_n, box.size)
    out = noise.clone()
    out[window] = (patch + change).to(out.dtype).to(out.device)
    return out


def prior_box(height: int, width: int, share: float = 0.25) -> Box:
    """The usual box of a full-shot head, for use without a look-ahead: upper middle, `share` of the shorter side."""
    size = max(2, round(share * min(height, width)))
    top, left = round(0.27 * height - size / 2), round((width - size) / 2)
    return fit_box(Box(top, left, top + size, left + size), height, width)


def fit_box(box: Box, height: int, width: int) -> Box:
    """The box moved so that it lies inside height x width; cut if it is too large."""
    h, w = min(box.size[0], height), min(box.size[1], width)
    top, left = min(max(box.top, 0), height - h), min(max(box.left, 0), width - w)
    return Box(top, left, top + h, left + w)


def box_of_region(a: Tensor, gate: float, least: int = 2) -> Box | None:
    """A square box around the connected part of {A > gate} with A's maximum; None if A never exceeds the gate.

    Args:
        a: (H, W) in [0, 1].
    """
    if a.max() <= gate:
        return None
    inside = a > gate
    row, col = divmod(int(a.argmax()), a.shape[1])
    blob = torch.zeros_like(inside)
    blob[row, col] = True
    while True:
        grown = torch.nn.functional.max_pool2d(blob[None, None].float(), 3, 1, 1)[0, 0].bool() & inside
        if torch.equal(grown, blob):
            break
        blob = grown
    rows, cols = blob.any(1).nonzero().flatten(), blob.any(0).nonzero().flatten()
    y, x = (int(rows[0]) + int(rows[-1]) + 1) / 2, (int(cols[0]) + int(cols[-1]) + 1) / 2
    side = max(least, round((len(rows) * len(cols)) ** 0.5), round(float(blob.sum()) ** 0.5))
    top, left = round(y - side / 2), round(x - side / 2)
    return fit_box(Box(top, left, top + side, left + side), *a.shape)
