"""Hooks on the UNet's attentions that add the identity to some rows of a call.

A forward hook on `to_q` keeps the query; a forward pre-hook on `to_out[0]` adds the identity's attention to the output
of the text attention. This works with every attention optimisation of the host, and replaces none of its functions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor, nn

from ..errors import BeyondFacialError
from ..method.attention_maps import compute_identity_energy
from .probe import keep_query
from .rows import LineRows, Rows, RowsPerSite, add_into_rows
from .sites import AttentionSite, Site

LORA_LEAVES = ("to_q", "to_k", "to_v", "to_out.0")


class LeafDelta(Protocol):
    """The addition of a LoRA to one linear layer's output (..., out), in place, for its input x (..., in)."""

    def add_to(self, out: Tensor, x: Tensor) -> None: ...


class IdentityAttention(Protocol):
    """The addition of an identity adapter to the text attention of each site."""

    def __call__(self, site: int, query: Tensor, text_out: Tensor, images: Sequence[int]) -> Tensor:
        """The addition at weight 1, (rows, n, h), to the text attention's output.

        Args:
            site: its number, from 0, in adapter order.
            query: (rows, n, h), the output of `to_q`, the LoRA's addition included.
            text_out: (rows, n, h), the text attention's output.
            images: per row, which picture of the batch it is.
        """
        ...

    def lora(self, module: str, site: int, leaf: str) -> LeafDelta | None:
        """The LoRA of one leaf ("to_q", "to_k", "to_v", "to_out.0") of "attn1" or "attn2"; None without one."""
        ...


@dataclass
class Attached:
    """Record of an injection while it is attached.

    fired: how often it added something, counted over sites and calls.
    energy: at the decoder's sites, the norm of the addition at each query.
    """

    fired: int = 0
    energy: RowsPerSite = field(default_factory=RowsPerSite)


class Injection(Protocol):
    """An addition of one identity line to its rows of a UNet call.

    device_bytes: memory that it needs on the UNet's device.
    """

    @property
    def device_bytes(self) -> int: ...

    def check_fits(self, sites: Sequence[Site]) -> None:
        """Raise BeyondFacialError if it was made for a UNet with other sites."""
        ...

    def attached(
        self, sites: Sequence[AttentionSite], where: LineRows, weight: float
    ) -> AbstractContextManager[Attached]:
        """Add to these rows of the UNet call made inside the context; all hooks are removed on every exit."""
        ...


@contextmanager
def attach_attention(
    attention: IdentityAttention, sites: Sequence[AttentionSite], where: LineRows, weight: float
) -> Iterator[Attached]:
    """While the context is open, hooks add the identity to the rows of `where` at every site.

    They add weight * attention at the input of `to_out.0`, and the adapter's LoRA, which weight does not scale. Yields
    the number of sites that fired and the energy of the attention.
    """
    attached = Attached(energy=RowsPerSite({}, where.images, where.weights))
    queries: dict[int, Tensor] = {}

    def adder(number: int, site: AttentionSite) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple) -> None:
            query, text_out = queries.pop(number, None), args[0]
            if query is None or query.shape != text_out.shape:
                return
            attached.fired += 1
            addition = attention(number, query[where.rows], text_out[where.rows], where.images)
            if site.in_decoder:
                attached.energy.add(number, compute_identity_energy(addition))
            addition = addition.to(text_out.dtype)
            add_into_rows(text_out, where.rows, addition if weight == 1 else weight * addition)

        return hook

    with ExitStack() as hooks:
        for number, site in enumerate(sites):
            for leaf, delta in lora_of_site(attention, number, site):
                hooks.callback(leaf.register_forward_hook(add_delta(delta, where.rows)).remove)
            hooks.callback(site.leaf("to_q").register_forward_hook(keep_query(queries, number)).remove)
            hooks.callback(site.leaf("to_out.0").register_forward_pre_hook(adder(number, site)).remove)
        yield attached


def lora_of_site(
    attention: IdentityAttention, number: int, site: AttentionSite
) -> Iterator[tuple[nn.Module, LeafDelta]]:
    """The linear layers of the site's attentions that the adapter's LoRA changes, each with its delta."""
    for kind, module in (("attn1", site.attn1), ("attn2", site.attn2)):
        for leaf in LORA_LEAVES:
            delta = attention.lora(kind, number, leaf)
            if delta is not None and module is not None:
                yield module.get_submodule(leaf), delta


def add_delta(delta: LeafDelta, rows: Rows) -> Callable[..., None]:
    """A forward hook that adds a LoRA's delta to some rows of a leaf's output, in place: nobody else reads them."""

    def hook(module: nn.Module, args: tuple, output: Tensor) -> None:
        out = output[rows]
        delta.add_to(out, args[0][rows])
        if not isinstance(rows, slice):
            output[rows] = out

    return hook


def check_fired(attached: Sequence[Attached]) -> None:
    """BeyondFacialError if an identity call reached no attention site, since the picture would be plain."""
    if attached and not any(each.fired for each in attached):
        raise BeyondFacialError(
            "BeyondFacial: the host's UNet is compiled or replaced by another engine (torch.compile, TensorRT or the "
            "like), so no identity can enter it; switch that off (SD Unet: None)."
        )
