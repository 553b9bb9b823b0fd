"""IP-Adapter's decoupled cross-attention to the identity tokens, and the adapter's LoRA."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import BeyondFacialError
from ..unet.injection import Attached, attach_attention
from ..unet.rows import LineRows
from ..unet.sites import AttentionSite, Site
from .checkpoints import AdapterSpec, base_model
from .files import Weights
from .registry import LoadedAdapter

Placement = tuple[torch.dtype, torch.device]


@dataclass(eq=False)
class LoraDelta:
    """One leaf's low-rank addition, weight 1, no alpha: (x down^T) up^T."""

    down: Tensor
    up: Tensor
    _placed: dict[Placement, tuple[Tensor, Tensor]] = field(default_factory=dict, repr=False)

    def add_to(self, out: Tensor, x: Tensor) -> None:
        """Add it, in place, to the layer's output (..., out) for its input x (..., in); in out's dtype and device."""
        place = (out.dtype, out.device)
        if place not in self._placed:
            self._placed[place] = (self.down.to(out.device, out.dtype), self.up.to(out.device, out.dtype))
        down, up = self._placed[place]
        low = F.linear(x.to(out.dtype), down).to(out.dtype)  # autocast knows linear, and no addmm_
        if out.is_contiguous():  # one call in place of two: there are hundreds of layers in a UNet
            out.view(-1, out.shape[-1]).addmm_(low.reshape(-1, low.shape[-1]), up.t())
        else:
            out.add_(F.linear(low, up))


class DecoupledAttention:
    """The identity tokens as keys and values of every site, computed once (unet.injection.IdentityAttention).

        attention(site, query) = SDPA(query, to_k_ip tokens, to_v_ip tokens)

    IP-Adapter's decoupled attention *without* its scale; unet.injection multiplies by the weight.
    """

    def __init__(self, spec: AdapterSpec, weights: Weights, tokens: Tensor, sites: Sequence[Site]):
        """Check that the adapter fits the model, then compute keys and values in fp32.

        Args:
            tokens: (P, T, C), from projections.project_identity; one person for the whole batch, or one a picture.
            sites: the UNet's cross-attentions in the order of unet.sites.adapter_order.
        """
        check_fits(spec, sites)
        self.spec = spec
        self.sites = tuple(sites)
        self.persons = len(tokens)
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
                "The adapter's attention gives numbers that are not finite; its file is damaged, download it again."
            )
        self._placed: dict[tuple[int, Placement], tuple[Tensor, Tensor]] = {}
        self._lora = _make_lora(ip, len(self.sites)) if spec.has_lora else {}

    def __call__(self, site: int, query: Tensor, text_out: Tensor, images: Sequence[int]) -> Tensor:
        """The identity's part of a site's attention, unscaled: (rows, n, h) in the query's dtype and device.

        Args:
            site: its number, from 0.
            query: (rows, n, h), the output of the site's to_q, the LoRA's addition included.
            text_out: not used; other adapters scale by it.
            images: per row, which picture of the batch it is; with several persons, person i belongs to picture i.
        """
        heads = _split_heads(query, self.sites[site].heads)
        keys, values = (
            each.expand(len(query), -1, -1, -1) if self.persons == 1 else each[list(images)]
            for each in self._on_device(site, query)
        )
        return F.scaled_dot_product_attention(heads, keys, values).transpose(1, 2).reshape(query.shape)

    def lora(self, module: str, site: int, leaf: str) -> LoraDelta | None:
        """The LoRA of one leaf, or None where the adapter has none.

        Args:
            module: "attn1" or "attn2"; site: as in __call__ (attn1: its twin's number).
            leaf: "to_q", "to_k", "to_v" or "to_out.0". What follows from the leaf's own input goes onto its output;
                for to_out.0 that input is what the attention was already added to.
        """
        return self._lora.get((module, site, leaf))

    def _on_device(self, site: int, query: Tensor) -> tuple[Tensor, Tensor]:
        key = (site, (query.dtype, query.device))
        if key not in self._placed:
            keys, values = self._keys_values[site]
            self._placed[key] = (keys.to(query.device, query.dtype), values.to(query.device, query.dtype))
        return self._placed[key]


class AdapterInjection:
    """The unet.injection.Injection of an adapter file and its tokens.

    Keys and values are computed at the first use, and again if the UNet has other sites.
    """

    def __init__(self, adapter: LoadedAdapter, tokens: Tensor):
        self.adapter, self.tokens = adapter, tokens
        self._attention: DecoupledAttention | None = None

    def check_fits(self, sites: Sequence[Site]) -> None:
        check_fits(self.adapter.spec, sites, self.adapter.name)

    @property
    def device_bytes(self) -> int:
        """The size of the adapter's LoRA; the keys and values of a few tokens need far less."""
        tensors = self.adapter.weights.ip_adapter
        return sum(t.numel() * t.element_size() for name, t in tensors.items() if "lora" in name)

    @contextmanager
    def attached(self, sites: Sequence[AttentionSite], where: LineRows, weight: float) -> Iterator[Attached]:
        shapes = tuple(site.site for site in sites)
        if self._attention is None or self._attention.sites != shapes:
            self._attention = DecoupledAttention(self.adapter.spec, self.adapter.weights, self.tokens, shapes)
        with attach_attention(self._attention, sites, where, weight) as attached:
            yield attached


def check_fits(spec: AdapterSpec, sites: Sequence[Site], name: str = "the adapter") -> None:
    """BeyondFacialError if the adapter was made for a UNet with other sites."""
    if not sites:
        raise BeyondFacialError(
            "This model's UNet has no cross-attention to attach to; choose an SD1.5 or SDXL model."
        )
    contexts = {site.context_dim for site in sites}
    if contexts != {spec.context_dim}:
        context = next(iter(contexts - {spec.context_dim}))
        raise BeyondFacialError(
            f'"{name}" was made for {with_context(spec.context_dim)}, this model is {with_context(context)}; '
            f"choose an adapter for {base_model(context)}."
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


def with_context(context_dim: int) -> str:
    """The kind of model, with the width of its text context."""
    name = base_model(context_dim)
    return name if str(context_dim) in name else f"{name} (context {context_dim})"


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
