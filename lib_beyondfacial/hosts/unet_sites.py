"""The UNet's attention sites: one enumerator, one ledger of whose rows a call holds, and hooks on the leaves.

`to_q`'s forward hook hands the query for free; a forward pre-hook on `to_out[0]` adds to its input what IP-Adapter
adds to the text attention, whatever attention optimisation runs between them. Nothing of the host is replaced, and
every hook comes off.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor, nn

from ..adapters.branch import IdentityBranch
from ..adapters.sites import Site, adapter_order, attn1_twin
from ..errors import BeyondFacialError
from ..method.attention_maps import compute_identity_energy, compute_margin, compute_probe_shares

Rows = slice | list[int]


@dataclass(frozen=True, eq=False)
class AttentionSite:
    """One cross-attention module of the host's UNet, and the self-attention beside it."""

    site: Site
    attn2: nn.Module
    attn1: nn.Module | None

    @property
    def is_read(self) -> bool:
        """Maps are read in the decoder alone: its sites point at the head, the encoder's do not (docs/method.md)."""
        return "output_blocks" in self.site.name or "up_blocks" in self.site.name


def enumerate_sites(unet: nn.Module) -> list[AttentionSite]:
    """The UNet's cross-attentions (modules named `attn2`) in the order in which adapter files number them."""
    modules = dict(unet.named_modules())
    leaves = ("to_q", "to_k", "to_v", "to_out")
    names = [n for n, m in modules.items() if n.split(".")[-1] == "attn2" and all(hasattr(m, leaf) for leaf in leaves)]
    sites = []
    for name in adapter_order(names):
        module = modules[name]
        width, context = module.to_q.weight.shape[0], module.to_k.weight.shape[1]
        site = Site(name, width, int(getattr(module, "heads", 0) or width // 64), context)
        sites.append(AttentionSite(site, module, modules.get(attn1_twin(name))))
    return sites


class Ledger(Protocol):
    """Which rows of the call that runs are to be read; None: none of them."""

    def begin_call(self, rows: int) -> None: ...

    def rows_of_interest(self) -> Rows | None: ...


@dataclass
class RowLedger:
    """Which rows of the coming UNet calls are whose, when a host feeds its rows in order, in one call or in several.

    `begin_call` is told each call's number of rows; `rows_of_interest` says which of them are among the first `count`
    of the whole.
    """

    count: int
    seen: int = 0
    here: tuple[int, int] = (0, 0)

    def begin_call(self, rows: int) -> None:
        self.here = (self.seen, self.seen + rows)
        self.seen += rows

    def rows_of_interest(self) -> Rows | None:
        start, end = self.here
        stop = max(0, min(end, self.count) - start)
        return slice(0, stop) if stop else None


@dataclass
class KnownRows:
    """The ledger of one call whose rows are known beforehand (hosts that say which rows of their batch are whose)."""

    rows: Rows | None

    def begin_call(self, rows: int) -> None:
        """Nothing to count."""

    def rows_of_interest(self) -> Rows | None:
        return self.rows


@contextmanager
def hooked(handles: list[torch.utils.hooks.RemovableHandle]) -> Iterator[None]:
    """Hooks that come off again on every exit."""
    try:
        yield
    finally:
        remove(handles)


def remove(handles: list[torch.utils.hooks.RemovableHandle]) -> None:
    while handles:
        handles.pop().remove()


def count_rows(sites: list[AttentionSite], ledger: Ledger) -> torch.utils.hooks.RemovableHandle:
    """Tell the ledger of every UNet call: adapter order puts the site first that a forward pass comes to first."""
    return sites[0].attn2.to_q.register_forward_hook(lambda module, args, query: ledger.begin_call(query.shape[0]))


@dataclass
class Probe:
    """Reads the semantic line's attention to words that are not in the prompt; changes nothing.

    Args:
        contexts: word group -> (p, context_dim), the text encoder's output at the group's words.
        reference: (r, context_dim), the same for words that mean no part of a person.
    """

    sites: list[AttentionSite]
    contexts: dict[str, Tensor]
    reference: Tensor
    readings: dict[str, dict[int, list[Tensor]]] = field(default_factory=dict)
    _queries: dict[int, Tensor] = field(default_factory=dict)

    def attach(self, ledger: Ledger) -> list[torch.utils.hooks.RemovableHandle]:
        """Hook every site for the coming calls; the rows of interest are the ledger's."""
        self.readings = {group: {} for group in self.contexts}
        self._queries.clear()
        handles = [count_rows(self.sites, ledger)]
        for number, site in enumerate(self.sites):
            if site.is_read:
                handles.append(site.attn2.to_q.register_forward_hook(self._keep_query(number)))
                handles.append(site.attn2.to_k.register_forward_hook(self._read(number, site, ledger)))
        return handles

    def result(self, group: str) -> list[Tensor]:
        """Per site that was seen, the responses of all rows of interest in order: (rows, n)."""
        return [torch.cat(parts) for parts in self.readings.get(group, {}).values()]

    def _keep_query(self, number: int) -> Callable:
        def hook(module: nn.Module, args: tuple, query: Tensor) -> None:
            self._queries[number] = query

        return hook

    def _read(self, number: int, site: AttentionSite, ledger: Ledger) -> Callable:
        def hook(module: nn.Module, args: tuple, key: Tensor) -> None:
            query, rows = self._queries.pop(number, None), ledger.rows_of_interest()
            if query is None or query.shape[0] != key.shape[0] or rows is None:
                return

            def shares(context: Tensor) -> Tensor:
                # Not a call of the module, which would come back to this hook; its own forward knows where its weight
                # is (offloaded, quantised or patched by a LoRA).
                probe_key = module.forward(context.to(key.device, key.dtype))
                return compute_probe_shares(query[rows], key[rows], probe_key, site.site.heads)

            reference = shares(self.reference)
            for group, context in self.contexts.items():
                margin = compute_margin(shares(context), reference)
                self.readings[group].setdefault(number, []).append(margin)

        return hook


@dataclass
class BranchHooks:
    """The identity branch on `rows` of the calls made while attached: `to_out[0]`'s input += weight * attend(query).

    The adapter's LoRA, where it has one, acts on the same rows, in attn1 and attn2, so no other line ever sees it.
    """

    sites: list[AttentionSite]
    branch: IdentityBranch
    weight: float
    rows: Rows | None = None  # None: all of them
    hits: int = 0
    energies: dict[int, list[Tensor]] = field(default_factory=dict)
    _queries: dict[int, Tensor] = field(default_factory=dict)

    def attach(self) -> list[torch.utils.hooks.RemovableHandle]:
        self.hits, self.energies = 0, {}
        self._queries.clear()
        handles = []
        for number, site in enumerate(self.sites):
            handles += self._attach_lora(number, site)
            handles.append(site.attn2.to_q.register_forward_hook(self._keep_query(number)))
            handles.append(site.attn2.to_out[0].register_forward_pre_hook(self._add(number)))
        return handles

    def energy(self) -> list[Tensor]:
        """Per site that is read, the branch output's norm at each query: (rows, n)."""
        return [torch.cat(parts) for number, parts in self.energies.items() if self.sites[number].is_read]

    def check_fired(self) -> None:
        """An identity call in which no site fired is an error in words, never a silent plain picture."""
        if self.hits == 0:
            raise BeyondFacialError(
                "BeyondFacial: the host's UNet is replaced by another engine (TensorRT or the like), so no identity "
                "can enter it; choose the ordinary UNet in the settings (SD Unet: None)."
            )

    def _keep_query(self, number: int) -> Callable:
        def hook(module: nn.Module, args: tuple, query: Tensor) -> None:
            self._queries[number] = query

        return hook

    def _mine(self, x: Tensor) -> Tensor:
        return x if self.rows is None else x[self.rows]

    def _add(self, number: int) -> Callable:
        def hook(module: nn.Module, args: tuple) -> tuple | None:
            query = self._queries.pop(number, None)
            if query is None or query.shape != args[0].shape:
                return None
            self.hits += 1
            attended = self.branch.attend(number, self._mine(query))
            self.energies.setdefault(number, []).append(compute_identity_energy(attended))
            addition = self.weight * attended.to(args[0].dtype)
            return (add_to_rows(args[0], self.rows, addition), *args[1:])

        return hook

    def _attach_lora(self, number: int, site: AttentionSite) -> list[torch.utils.hooks.RemovableHandle]:
        handles = []
        for kind, module in (("attn1", site.attn1), ("attn2", site.attn2)):
            for leaf in ("to_q", "to_k", "to_v", "to_out.0"):
                delta = self.branch.lora(kind, number, leaf)
                if delta is not None and module is not None:
                    handles.append(module.get_submodule(leaf).register_forward_hook(self._add_delta(delta.delta)))
        return handles

    def _add_delta(self, delta: Callable[[Tensor], Tensor]) -> Callable:
        def hook(module: nn.Module, args: tuple, output: Tensor) -> Tensor:
            return add_to_rows(output, self.rows, delta(self._mine(args[0])))

        return hook


def add_to_rows(x: Tensor, rows: Rows | None, addition: Tensor) -> Tensor:
    """x with something added to some of its rows (None: to all); the others stay what they are, bit by bit."""
    if rows is None:
        return x + addition
    x = x.clone()
    x[rows] += addition
    return x
