"""The head probe: reads how strongly the semantic line would attend to words outside its prompt; changes nothing."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ..method.attention_maps import compute_margin, compute_probe_shares
from .rows import LineRows, RowLedger, Rows, RowsPerSite
from .sites import AttentionSite


@dataclass
class ProbeReading:
    """Readings of the semantic rows: by group of words and site, the margin at each query, (rows, n)."""

    groups: dict[str, RowsPerSite] = field(default_factory=dict)

    def margins(self, group: str) -> list[Tensor]:
        """By site, the margin of a group's words, (B, n), averaged over AND parts; empty if nothing was read."""
        return self.groups[group].by_image() if group in self.groups else []

    def extend(self, other: ProbeReading) -> None:
        """Append the readings of another call."""
        for group, rows in other.groups.items():
            self.groups.setdefault(group, RowsPerSite()).extend(rows)


@dataclass(frozen=True, eq=False)
class Probe:
    """Computes the attention to groups of words with each decoder site's own `to_k`; the site's softmax is unchanged.

    Args:
        contexts: group -> (p, context_dim), the text encoder's output at the group's words.
        reference: (r, context_dim), the same for words that are no part of a person.
    """

    sites: Sequence[AttentionSite]
    contexts: Mapping[str, Tensor]
    reference: Tensor

    @contextmanager
    def attached(self, where: LineRows, ledger: RowLedger | None = None) -> Iterator[ProbeReading]:
        """Read the rows of the UNet calls made inside the context; the hooks are removed on every exit.

        Args:
            where: the semantic line's rows of the call.
            ledger: counts the rows, for hosts that split these rows into several calls; it must be counting already.
        """
        reading = ProbeReading({g: RowsPerSite({}, where.images, where.weights) for g in self.contexts})
        queries: dict[int, Tensor] = {}
        words = torch.cat([self.reference, *(context.to(self.reference) for context in self.contexts.values())])
        words_on = functools.cache(words.to)

        def current_rows() -> Rows | None:
            return where.rows if ledger is None else ledger.current_rows()

        with ExitStack() as hooks:
            for number, site in enumerate(self.sites):
                if site.in_decoder:
                    read = self._reader(reading, queries, words_on, number, current_rows)
                    hooks.callback(site.leaf("to_q").register_forward_hook(keep_query(queries, number)).remove)
                    hooks.callback(site.leaf("to_k").register_forward_hook(read).remove)
            yield reading

    def _reader(
        self,
        reading: ProbeReading,
        queries: dict[int, Tensor],
        words_on: Callable[[torch.device, torch.dtype], Tensor],
        number: int,
        current_rows: Callable[[], Rows | None],
    ) -> Callable[..., None]:
        """words_on: the reference's words and all groups', in this order, on a device and in a dtype."""
        heads, counts = self.sites[number].site.heads, [len(self.reference), *map(len, self.contexts.values())]

        def hook(module: nn.Module, args: tuple, key: Tensor) -> None:
            query, rows = queries.pop(number, None), current_rows()
            if query is None or query.shape[0] != key.shape[0] or rows is None:
                return
            words = words_on(key.device, key.dtype)
            # module.forward, because calling the module would run this hook again; and not its weight, which may be
            # offloaded, quantised or patched by a LoRA.
            shares = compute_probe_shares(query[rows], key[rows], module.forward(words), heads)
            reference, *of_groups = shares.split(counts, dim=-1)
            for group, of_group in zip(self.contexts, of_groups, strict=True):
                reading.groups[group].add(number, compute_margin(of_group, reference))

        return hook


def keep_query(queries: dict[int, Tensor], number: int) -> Callable[..., None]:
    """A forward hook for `to_q` that keeps its output under the site's number."""

    def hook(module: nn.Module, args: tuple, query: Tensor) -> None:
        queries[number] = query

    return hook
