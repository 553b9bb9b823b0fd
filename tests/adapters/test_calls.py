"""How many of torch's operations an identity line adds to a UNet's call: a fast GPU waits for them, one by one."""

from __future__ import annotations

from collections import Counter
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from demo.nets.unet import UNetModel
from lib_beyondfacial.adapters.attention import AdapterInjection
from lib_beyondfacial.adapters.checkpoints import describe
from lib_beyondfacial.adapters.registry import LoadedAdapter
from lib_beyondfacial.unet.probe import Probe
from lib_beyondfacial.unet.rows import LineRows
from lib_beyondfacial.unet.sites import enumerate_sites

CONTEXT, TOKENS, LEAVES = 12, 4, 8  # leaves: of a site, with its self-attention's
FREE = {"detach", "empty", "empty_like", "resolve_conj", "_unsafe_view"}


class Calls(TorchDispatchMode):
    """Counts operations by name, those left out that compute nothing."""

    def __init__(self):
        super().__init__()
        self.names = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        if not func.is_view and name not in FREE:
            self.names[name] += 1
        return func(*args, **(kwargs or {}))


@pytest.fixture(scope="module")
def unet():
    torch.manual_seed(0)
    return UNetModel(
        model_channels=32, channel_mult=(1, 2), num_res_blocks=1, attention_resolutions=(1, 2), context_dim=CONTEXT,
        num_heads=2,
    ).eval()  # fmt: skip


@pytest.fixture(scope="module")
def sites(unet):
    return enumerate_sites(unet)


def count(unet, scope):
    """The operations of one call of three rows, the scope entered before."""
    x, text = torch.randn(3, 4, 8, 8), torch.randn(3, 7, CONTEXT)
    with torch.no_grad(), scope, Calls() as calls:
        unet(x, torch.full((3,), 500.0), text)
    return calls.names


def test_a_line_adds_two_operations_a_layer(unet, sites, make_adapter):
    weights = make_adapter(tuple(site.site.width for site in sites), CONTEXT, lora_rank=3)
    adapter = LoadedAdapter("a", Path("a"), describe(weights), weights, "0" * 10)
    injection, where = AdapterInjection(adapter, torch.randn(1, TOKENS, CONTEXT)), LineRows(slice(2, 3), (0,), (1.0,))
    count(unet, injection.attached(sites, where, 1.0))  # the first call moves weights
    more = count(unet, injection.attached(sites, where, 1.0)) - count(unet, nullcontext())
    assert more["mm"] == more["addmm_"] == LEAVES * len(sites)
    assert more["add_"] == len(sites)
    assert not more["clone"] + more["copy_"], "nothing is copied to be changed"
    assert sum(more.values()) <= (2 * LEAVES + 12) * len(sites), more


def test_the_probe_asks_for_all_words_at_once(unet, sites):
    def more(groups):
        probe = Probe(sites, {name: torch.randn(2, CONTEXT) for name in groups}, torch.randn(4, CONTEXT))
        return count(unet, probe.attached(LineRows(slice(1), (0,), (1.0,)))) - count(unet, nullcontext())

    one, three = more(["head"]), more(["head", "first", "second"])
    decoders = sum(site.in_decoder for site in sites)
    assert three["logsumexp"] == one["logsumexp"] == decoders
    assert sum((three - one).values()) <= 2 * 5 * decoders, "a group is its margin's arithmetic alone"
