"""The head probe: reads the margins of words that are not in the prompt, and changes nothing."""

from __future__ import annotations

import pytest
import torch

from lib_beyondfacial.method.attention_maps import compute_margin, compute_probe_shares
from lib_beyondfacial.unet.probe import Probe
from lib_beyondfacial.unet.rows import LineRows, RowLedger
from lib_beyondfacial.unet.sites import enumerate_sites
from tests.comparing import hooks_on
from tests.random_model import CONTEXT_DIM
from tests.sampling.host_double import make_unet


def draw(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def unet():
    return make_unet()


@pytest.fixture
def probe(unet):
    return Probe(enumerate_sites(unet), {"head": draw(1, 3, CONTEXT_DIM)}, draw(2, 4, CONTEXT_DIM))


def call(unet, rows=slice(None)):
    x, text = draw(3, 4, 4, 8, 8)[rows], draw(4, 4, 7, CONTEXT_DIM)[rows]
    with torch.no_grad():
        return unet(x, torch.full((len(x),), 500.0), text)


def test_probe_changes_nothing_and_reads_its_rows(unet, probe):
    plain = call(unet)
    with probe.attached(LineRows(slice(1, 3), (0, 1), (1.0, 1.0))) as reading:
        assert torch.equal(call(unet), plain)
    assert hooks_on(unet) == 0
    decoders = [site for site in probe.sites if site.in_decoder]
    assert len(reading.margins("head")) == len(decoders) > 0
    assert all(len(margin) == 2 for margin in reading.margins("head"))
    assert reading.margins("another group") == []


def test_margin_is_that_of_the_sites_own_queries_and_keys(unet, probe):
    number = max(n for n, site in enumerate(probe.sites) if site.in_decoder)
    site, kept = probe.sites[number], {}
    hooks = [
        site.leaf(name).register_forward_hook(lambda module, args, out, name=name: kept.setdefault(name, out))
        for name in ("to_q", "to_k")
    ]
    with probe.attached(LineRows.one_each(4)) as reading:
        call(unet)
    for hook in hooks:
        hook.remove()
    with torch.no_grad():
        head, reference = (
            compute_probe_shares(kept["to_q"], kept["to_k"], site.leaf("to_k")(context), site.site.heads)
            for context in (probe.contexts["head"], probe.reference)
        )
    (read,) = reading.groups["head"].per_site[number]
    assert torch.allclose(read, compute_margin(head, reference), atol=1e-5)


@pytest.mark.parametrize("calls", [[slice(0, 4)], [slice(0, 2), slice(2, 4)], [slice(0, 1), slice(1, 4)]])
def test_rows_of_several_calls_are_read_in_order(unet, probe, calls):
    """Three cond rows and one uncond row behind them."""
    where, ledger = LineRows(slice(3), (0, 1, 2), (1.0,) * 3), RowLedger(3)
    with ledger.counting(probe.sites), probe.attached(where, ledger) as reading:
        for rows in calls:
            call(unet, rows)
    with probe.attached(where) as at_once:
        call(unet)
    assert ledger.rows_done == 4
    for one, other in zip(reading.margins("head"), at_once.margins("head"), strict=True):
        assert torch.allclose(one, other, atol=1e-4)
    assert hooks_on(unet) == 0


def test_readings_of_several_calls_are_put_together(unet, probe):
    parts = []
    for image in range(2):
        with probe.attached(LineRows(slice(image, image + 1), (image,), (1.0,))) as reading:
            call(unet)
        parts.append(reading)
    with probe.attached(LineRows(slice(2), (0, 1), (1.0, 1.0))) as at_once:
        call(unet)
    parts[0].extend(parts[1])
    for one, other in zip(parts[0].margins("head"), at_once.margins("head"), strict=True):
        assert torch.allclose(one, other, atol=1e-4)
