"""What an identity line adds to some rows of a UNet call: hooks on the leaves of its attentions.

`to_q`'s forward hook hands over the query; a forward pre-hook on `to_out[0]` adds to the text attention's output what
IP-Adapter adds to it, whatever attention optimisation runs between the two. Nothing of the host is replaced.
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
from .rows import LineRows, Rows, RowsPerSite, add_to_rows
from .sites import AttentionSite, Site

LORA_LEAVES = ("to_q", "to_k", "to_v", "to_out.0")


class LeafDelta(Protocol):
    """What a LoRA adds to one leaf's output for its input (..., in), in the input's dtype and device."""

    def delta(self, x: Tensor) -> Tensor: ...


class IdentityAttention(Protocol):
    """What an identity adapter adds to the text attention of each site."""

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
    """What an injection did while it was attached.

    fired: at how many sites, over all calls.
    energy: the norm of the addition at each query, of the decoder's sites.
    """

    fired: int = 0
    energy: RowsPerSite = field(default_factory=RowsPerSite)


class Injection(Protocol):
    """What one line adds to its rows of a UNet call.

    device_bytes: what it keeps on the UNet's device.
    """

    @property
    def device_bytes(self) -> int: ...

    def check_fits(self, sites: Sequence[Site]) -> None:
        """Raise BeyondFacialError where it was made for another UNet than the one with these sites."""
        ...

    def attached(
        self, sites: Sequence[AttentionSite], where: LineRows, weight: float
    ) -> AbstractContextManager[Attached]:
        """Act on these rows of the call made meanwhile; nothing is left on any exit."""
        ...


@contextmanager
def attach_attention(
    attention: IdentityAttention, sites: Sequence[AttentionSite], where: LineRows, weight: float
) -> Iterator[Attached]:
    """Add weight * attention to the text attention of `where`'s rows, at every site; so does the LoRA."""
    attached = Attached(energy=RowsPerSite({}, where.images, where.weights))
    queries: dict[int, Tensor] = {}

    def adder(number: int, site: AttentionSite) -> Callable[..., tuple | None]:
        def hook(module: nn.Module, args: tuple) -> tuple | None:
            query, text_out = queries.pop(number, None), args[0]
            if query is None or query.shape != text_out.shape:
                return None
            attached.fired += 1
            addition = attention(number, query[where.rows], text_out[where.rows], where.images)
            if site.in_decoder:
                attached.energy.add(number, compute_identity_energy(addition))
            return (add_to_rows(text_out, where.rows, weight * addition.to(text_out.dtype)), *args[1:])

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
    """Each leaf of the site's attentions that the adapter's LoRA changes, with the change."""
    for kind, module in (("attn1", site.attn1), ("attn2", site.attn2)):
        for leaf in LORA_LEAVES:
            delta = attention.lora(kind, number, leaf)
            if delta is not None and module is not None:
                yield module.get_submodule(leaf), delta


def add_delta(delta: LeafDelta, rows: Rows) -> Callable[..., Tensor]:
    """A forward hook that adds a LoRA's delta to some rows of a leaf's output."""

    def hook(module: nn.Module, args: tuple, output: Tensor) -> Tensor:
        return add_to_rows(output, rows, delta.delta(args[0][rows]))

    return hook


def check_fired(attached: Sequence[Attached]) -> None:
    """BeyondFacialError where an identity call reached no site: never a plain picture without a word."""
    if attached and not any(each.fired for each in attached):
        raise BeyondFacialError(
            "BeyondFacial: the host's UNet is compiled or replaced by another engine (torch.compile, TensorRT or the "
            "like), so no identity can enter it; switch that off (SD Unet: None)."
        )
