import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lib_beyondfacial.method import attention_maps as maps


@pytest.mark.parametrize(
    ("tokens", "size", "grid"),
    [
        (256, (16, 16), (16, 16)),
        (64, (16, 16), (8, 8)),
        (15, (9, 17), (3, 5)),
        (45, (9, 17), (5, 9)),
        (77, (16, 16), None),
        (1, (2, 2), (1, 1)),
    ],
)
def test_a_sites_grid_follows_from_its_number_of_queries(tokens, size, grid):
    assert maps.grid_of(tokens, *size) == grid


def test_probe_share_equals_the_softmax_with_the_word():
    torch.manual_seed(0)
    heads, dim = 2, 8
    query, text, probes = torch.randn(1, 5, heads * dim), torch.randn(1, 7, heads * dim), torch.randn(3, heads * dim)
    got = maps.compute_probe_shares(query, text, probes, heads)
    for number in range(3):
        expected = torch.zeros(5, dtype=torch.float64)
        for head in range(heads):
            part = slice(head * dim, (head + 1) * dim)
            keys = torch.cat([text[0, :, part], probes[number : number + 1, part]]).double()
            expected += torch.softmax(query[0, :, part].double() @ keys.T / math.sqrt(dim), -1)[:, -1] / heads
        assert torch.allclose(got[0, :, number].double(), expected, atol=1e-6)


def test_the_margin_is_the_log_ratio_to_the_reference_words():
    shares, reference = torch.tensor([[[0.2, 0.05]]]), torch.tensor([[[0.1, 0.1, 0.1]]])
    assert maps.compute_margin(shares, reference).item() == pytest.approx(0.5 * math.log(0.2 * 0.05) - math.log(0.1))
    assert maps.compute_margin(reference, reference).item() == 0


def test_a_constant_map_is_zero_not_noise():
    assert not maps.normalise(torch.full((1, 1, 4, 4), 0.37)).any()
    nearly = torch.full((1, 1, 4, 4), 0.37) + 1e-8 * torch.rand(1, 1, 4, 4)
    assert not maps.normalise(nearly).any()


def test_normalise_by_hand():
    a = torch.tensor([[[[1.0, 2.0], [3.0, 5.0]]]])
    assert torch.equal(maps.normalise(a), torch.tensor([[[[0.0, 0.25], [0.5, 1.0]]]]))


def test_confidence_is_one_for_a_point_and_zero_for_even_or_empty():
    point = torch.zeros(1, 1, 8, 8)
    point[0, 0, 2, 3] = 0.4
    assert maps.confidence(point).item() == pytest.approx(1)
    assert maps.confidence(torch.ones(1, 1, 8, 8)).item() == pytest.approx(0, abs=1e-6)
    assert maps.confidence(torch.zeros(1, 1, 8, 8)).item() == 0


def test_mix_prefers_the_more_confident_map():
    point, even = torch.zeros(1, 1, 8, 8), torch.full((1, 1, 8, 8), 0.25)
    point[0, 0, 2, 3] = 1
    assert torch.allclose(maps.mix(point, even), point, atol=1e-5)
    assert torch.allclose(maps.mix(even, torch.full_like(even, 0.04)), torch.full_like(even, 0.1), atol=1e-6)


def test_layers_of_any_scale_count_alike():
    torch.manual_seed(1)
    fine, coarse = torch.rand(2, 256) + 0.1, torch.rand(2, 64) + 0.1
    once = maps.average_sites([fine, coarse], 16, 16)
    again = maps.average_sites([fine * 300, coarse * 0.05], 16, 16)
    assert torch.allclose(once, again, atol=1e-3)
    assert not torch.allclose(once, maps.average_sites([fine * 300, coarse * 0.05], 16, 16, relative=False), atol=1e-3)


def test_coarse_sites_count_only_without_finer_ones():
    torch.manual_seed(2)
    fine, tiny = torch.rand(1, 256), torch.rand(1, 16)
    assert torch.equal(maps.average_sites([fine, tiny], 16, 16), maps.average_sites([fine], 16, 16))
    alone = maps.average_sites([tiny], 16, 16)
    assert torch.equal(maps.average_sites([tiny, torch.rand(1, 4)], 16, 16), alone), "of coarse ones the finest"
    assert maps.average_sites([torch.rand(1, 7)], 16, 16) is None, "no grid of this latent"
    assert [maps.is_fine((g, g), (64, 64)) for g in (8, 16, 32, 64)] == [False, True, True, True]
    assert [maps.is_fine((g, g), (16, 16)) for g in (4, 8, 16)] == [False, True, True]
    assert maps.is_fine((4, 4), (4, 4))


@given(st.integers(2, 20), st.integers(2, 20), st.integers(0, 10**6))
def test_maps_of_any_size_lie_between_zero_and_one(height, width, seed):
    generator = torch.Generator().manual_seed(seed)
    a, b = (maps.normalise(torch.rand(2, 1, height, width, generator=generator) ** 4) for _ in range(2))
    mixed = maps.mix(a, b)
    assert torch.isfinite(mixed).all()
    assert (mixed >= 0).all()
    assert (mixed <= 1).all()
