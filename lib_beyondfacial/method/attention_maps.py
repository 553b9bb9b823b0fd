"""Maps of where the identity can be, from cross-attention (docs/method.md eq. 3). All are (B, 1, H, W), fp32."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .precision import without_autocast

EPS = 1e-6
ROUNDING = 1e-5
FINEST_COARSE = 8  # measured in Dollhouse: sites of 4 x 4 find the head no better than chance


def grid_of(tokens: int, height: int, width: int) -> tuple[int, int] | None:
    """The (h, w) of a site with that many queries in a height x width latent; each level halves, rounding up."""
    h, w = height, width
    while h * w > tokens and h * w > 1:
        h, w = math.ceil(h / 2), math.ceil(w / 2)
    return (h, w) if h * w == tokens else None


def compute_probe_shares(query: Tensor, key_text: Tensor, key_probe: Tensor, heads: int) -> Tensor:
    """The share of attention that each probe word would get if it were in the prompt; the UNet's softmax is unchanged.

        share = exp(l_probe) / (exp(l_probe) + sum exp(l_text)),  mean over heads

    Args:
        query: (B, n, h) of the semantic rows.
        key_text: (B, t, h), keys of the prompt's tokens.
        key_probe: (p, h), one key a probe word.
        heads: number of heads h is split into.

    Returns: (B, n, p) fp32 in (0, 1).
    """

    def split(t: Tensor) -> Tensor:
        return t.float().unflatten(-1, (heads, -1)).transpose(-3, -2)

    q, k, p = split(query), split(key_text), split(key_probe)
    q = q * q.shape[-1] ** -0.5
    with without_autocast(q.device):
        text = torch.logsumexp(q @ k.transpose(-1, -2), dim=-1, keepdim=True)
        return torch.sigmoid(q @ p.transpose(-1, -2) - text).mean(dim=1)


def compute_margin(shares: Tensor, shares_reference: Tensor) -> Tensor:
    """Mean log share of the probe's words minus that of the reference words, in nats: (B, n, p), (B, n, r) -> (B, n).

    A word's log share also depends on the prompt's tokens, above all on the start token; the difference removes most
    of that.
    """
    return shares.log().mean(-1) - shares_reference.log().mean(-1)


def is_fine(grid: tuple[int, int], size: tuple[int, int]) -> bool:
    """Whether a site's grid is fine enough to locate a head in a latent of that size."""
    return all(4 * g >= s and g >= min(FINEST_COARSE, s) for g, s in zip(grid, size, strict=True))


def compute_identity_energy(branch_output: Tensor) -> Tensor:
    """L2 norm over channels of the ID branch's own output at each query: (B, n, h) -> (B, n) fp32."""
    return branch_output.float().norm(dim=-1)


def normalise(a: Tensor) -> Tensor:
    """Min-max to [0, 1] per image; a constant map gives 0, not noise."""
    low, high = a.amin((-1, -2), keepdim=True), a.amax((-1, -2), keepdim=True)
    span = high - low
    flat = span <= EPS * torch.maximum(high.abs(), low.abs()).clamp(min=EPS)
    return torch.where(flat, torch.zeros_like(a), (a - low) / span.clamp(min=torch.finfo(a.dtype).tiny))


def average_sites(responses: Sequence[Tensor], height: int, width: int, relative: bool = True) -> Tensor | None:
    """The average of the sites whose grid is fine enough, resized to the latent: (B, 1, H, W), not normalised.

    Args:
        responses: per site (B, n).
        relative: divide each site by its spatial mean first, since layers differ in scale (energies; not margins).

    Fine enough is a quarter of the latent's resolution and FINEST_COARSE px; if no site is (small pictures), the
    finest ones are used. Returns None if no site's grid belongs to a latent of this size.
    """
    grids = [grid_of(response.shape[-1], height, width) for response in responses]
    known = {grid for grid in grids if grid is not None}
    finest = {max(known, key=math.prod)} if known else known
    chosen = {grid for grid in known if is_fine(grid, (height, width))} or finest
    maps = []
    for response, grid in zip(responses, grids, strict=True):
        if grid is None or grid not in chosen:
            continue
        site = response.float().unflatten(-1, grid)[:, None]
        if relative:
            site = site / (site.mean((-1, -2), keepdim=True) + EPS)
        maps.append(F.interpolate(site, (height, width), mode="bilinear", align_corners=False))
    return torch.stack(maps).mean(0) if maps else None


def confidence(a: Tensor) -> Tensor:
    """1 - entropy(A / sum A) / log(HW): 1 for a point, 0 for an even or an empty map. (B, 1, 1, 1)."""
    total = a.sum((-1, -2), keepdim=True)
    share = a / total.clamp(min=torch.finfo(a.dtype).tiny)
    entropy = -torch.xlogy(share, share).sum((-1, -2), keepdim=True)
    q = 1 - entropy / math.log(max(a.shape[-1] * a.shape[-2], 2))
    # Below fp32's rounding of the entropy an even map would get a confidence by chance.
    return torch.where((total > 0) & (q > ROUNDING), q.clamp(0, 1), torch.zeros_like(q))


def mix(a_semantic: Tensor, a_identity: Tensor) -> Tensor:
    """A = A_s^alpha * A_i^(1 - alpha), alpha by the maps' confidence (docs/method.md eq. 3)."""
    q_s, q_i = confidence(a_semantic), confidence(a_identity)
    total = q_s + q_i
    alpha = torch.where(total > 0, q_s / total.clamp(min=EPS), torch.full_like(total, 0.5))
    return a_semantic.pow(alpha) * a_identity.pow(1 - alpha)
