"""AND prompts on A1111: a composition as the host makes it, and delta added to it once."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from demo.miniwebui.denoiser import CFGDenoiser
from lib_beyondfacial.hosts.a1111.and_prompts import add_to_cond_rows, compose
from lib_beyondfacial.unet.rows import LineRows

WEIGHTS = [(1.0,), (1.0, 0.5), (0.25, -2.0, 1.0)]


def host_composition(rows: torch.Tensor, uncond: torch.Tensor, where: LineRows) -> torch.Tensor:
    """The host's own CFG at scale 1."""
    conds_list = [[(row, where.weights[row]) for row in where.parts_of(image)] for image in range(where.batch)]
    return CFGDenoiser.combine_denoised(SimpleNamespace(), torch.cat([rows, uncond]), conds_list, uncond, 1.0)


@pytest.fixture(params=WEIGHTS, ids=str)
def case(request):
    """(rows, uncond, where) of two pictures with the same AND parts."""
    weights = request.param
    where = LineRows(slice(2 * len(weights)), tuple(i for i in range(2) for _ in weights), weights * 2)
    generator = torch.Generator().manual_seed(1)
    return (
        torch.randn(2 * len(weights), 4, 3, 3, generator=generator),
        torch.randn(2, 4, 3, 3, generator=generator),
        where,
    )


def test_compose_is_the_hosts_composition(case):
    rows, uncond, where = case
    assert torch.allclose(compose(rows, uncond, where), host_composition(rows, uncond, where), atol=1e-5)


def test_compose_without_uncond_is_from_the_first_part():
    rows = torch.tensor([1.0, 3.0])[:, None, None, None].expand(2, 4, 2, 2)
    assert torch.allclose(compose(rows, None, LineRows(slice(2), (0, 0), (1.0, 0.5))), torch.full((1, 4, 2, 2), 2.0))


def test_delta_is_what_the_hosts_composition_gains(case):
    rows, uncond, where = case
    delta, before = torch.full((2, 4, 3, 3), 0.7), host_composition(rows, uncond, where)
    add_to_cond_rows(rows, delta, where)
    assert torch.allclose(host_composition(rows, uncond, where), before + delta, atol=1e-5)


def test_delta_goes_nowhere_where_all_weights_are_zero():
    rows = torch.zeros(2, 4, 2, 2)
    add_to_cond_rows(rows, torch.ones(1, 4, 2, 2), LineRows(slice(2), (0, 0), (0.0, 0.0)))
    assert not rows.any()
