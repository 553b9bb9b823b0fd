"""The identity branch: decoupled cross-attention to the identity tokens, and the adapter's LoRA."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import BeyondFacialError
from .checkpoints import AdapterSpec, base_model
from .files import Weights
from .sites import Site

Place = tuple[torch.dtype, torch.device]


@dataclass(eq=False)
class LoraDelta:
    """One leaf's low-rank addition, weight 1, no alpha: delta(x) = (x down^T) up^T."""

    down: Tensor
    up: Tensor
    _placed: dict[Place, tuple[Tensor, Tensor]] = field(default_factory=dict, repr=False)

    def delta(self, x: Tensor) -> Tensor:
        """What to add to the leaf's output for its input x (..., in); x's dtype and device."""
        place = (x.dtype, x.device)
        if place not in self._placed:
            self._placed[place] = (self.down.to(x.device, x.dtype), self.up.to(x.device, x.dtype))
        down, up = self._placed[place]
        return F.linear(F.linear(x, down), up)


class IdentityBranch:
    """Identity tokens as keys and values of every cross-attention site, computed once.

        attend(query) = SDPA(query, to_k_ip tokens, to_v_ip tokens)

    as IP-Adapter's decoupled attention, *without* its scale: the hook that adds it to the text attention multiplies.
    Sites are numbered from 0 in the order of sites.adapter_order. A branch belongs to one run; it is not changed by
    being used, but for cached copies in other dtypes and devices.
    """

    def __init__(self, spec: AdapterSpec, weights: Weights, tokens: Tensor, sites: Sequence[Site]):
        """Check that the adapter fits the model, then compute K and V in fp32.

        Args:
            tokens: (1, T, C), from projections.project_identity.
            sites: the UNet's cross-attentions in the order of sites.adapter_order.
        """
        check_fits(spec, sites)
        self.spec = spec
        self.sites = tuple(sites)
        with torch.no_grad():
            tokens = tokens.detach().float().cpu()
            ip = weights.ip_adapter
            self._keys_values = [
                (
                    _split_heads(F.linear(tokens, ip[f"{2 * i + 1}.to_k_ip.weight"].float()), site.heads),
                    _split_heads(F.linear(tokens, ip[f"{2 * i + 1}.to_v_ip.weight"].float()), site.heads),
                )
                for i, site in enumerate(self.sites)
            ]
        if not all(bool(torch.isfinite(each).all()) for pair in self._keys_values for each in pair):
            raise BeyondFacialError(
                "The adapter's attention makes no finite numbers of this face; its file is damaged, download it again."
            )
        self._placed: dict[tuple[int, Place], tuple[Tensor, Tensor]] = {}
        self._lora = _make_lora(ip, len(self.sites)) if spec.has_lora else {}

    def attend(self, site: int, query: Tensor) -> Tensor:
        """The identity's part of a site's attention, unscaled.

        Args:
            site: number of the site, from 0.
            query: (rows, n, h), the output of the site's to_q, the LoRA's addition included.

        Returns (rows, n, h) in the query's dtype and device, to be added to the input of to_out[0].
        """
        keys, values = self._place(site, query)
        heads = _split_heads(query, self.sites[site].heads)
        rows = query.shape[0]
        attended = F.scaled_dot_product_attention(
            heads, keys.expand(rows, -1, -1, -1), values.expand(rows, -1, -1, -1)
        )
        return attended.transpose(1, 2).reshape(query.shape)

    def lora(self, kind: str, site: int, leaf: str) -> LoraDelta | None:
        """The LoRA of one leaf, or None where the adapter has none.

        Args:
            kind: "attn1" or "attn2"; site: as in attend (attn1: its twin's number).
            leaf: "to_q", "to_k", "to_v" or "to_out.0". The delta of the leaf's own input goes onto its output; for
                to_out.0 that input is what attend was already added to.
        """
        return self._lora.get((kind, site, leaf))

    def _place(self, site: int, query: Tensor) -> tuple[Tensor, Tensor]:
        place = (site, (query.dtype, query.device))
        if place not in self._placed:
            keys, values = self._keys_values[site]
            self._placed[place] = (keys.to(query.device, query.dtype), values.to(query.device, query.dtype))
        return self._placed[place]


def check_fits(spec: AdapterSpec, sites: Sequence[Site], name: str = "the adapter") -> None:
    """BeyondFacialError in words where the adapter was made for another UNet than the one with these sites."""
    if not sites:
        raise BeyondFacialError(
            "This model's UNet has no cross-attention to attach to; choose an SD1.5 or SDXL model."
        )
    contexts = {site.context_dim for site in sites}
    if contexts != {spec.context_dim}:
        context = next(iter(contexts - {spec.context_dim}))
        raise BeyondFacialError(
            f'"{name}" was made for {base_model(spec.context_dim)} (context {spec.context_dim}), this model is '
            f"{base_model(context)} (context {context}); choose an adapter for {base_model(context)}."
        )
    if len(sites) != len(spec.site_widths):
        raise BeyondFacialError(
            f'"{name}" has {len(spec.site_widths)} attention sites, this model has {len(sites)}; '
            f"choose an adapter made for this kind of model ({base_model(spec.context_dim)} with {len(sites)} sites)."
        )
    for site, width in zip(sites, spec.site_widths, strict=True):
        if site.width != width or site.width % site.heads:
            raise BeyondFacialError(
                f'"{name}" has width {width} where this model\'s {site.name} has {site.width} in {site.heads} heads; '
                "choose an adapter made for this kind of model."
            )


def _split_heads(x: Tensor, heads: int) -> Tensor:
    """(rows, n, h) -> (rows, heads, n, h / heads)."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def _make_lora(ip: dict[str, Tensor], count: int) -> dict[tuple[str, int, str], LoraDelta]:
    leaves = {"to_q": "to_q", "to_k": "to_k", "to_v": "to_v", "to_out.0": "to_out"}
    return {
        (kind, site, leaf): LoraDelta(
            ip[f"{2 * site + offset}.{stored}_lora.down.weight"], ip[f"{2 * site + offset}.{stored}_lora.up.weight"]
        )
        for kind, offset in (("attn1", 0), ("attn2", 1))
        for site in range(count)
        for leaf, stored in leaves.items()
    }
