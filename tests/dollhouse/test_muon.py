"""The optimiser of short runs: what a matrix moves along, who is a matrix, and what is left to AdamW."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from demo.dollhouse.train.muon import RMS, Muon, is_matrix, orthogonalise


@pytest.mark.parametrize("shape", [(32, 288), (288, 32), (64, 128)])
def test_singular_values_come_near_one_and_directions_stay(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    found = orthogonalise(matrix)
    values = torch.diag(u.T @ found @ v.T)
    assert 0.6 < float(values.min()) <= float(values.max()) < 1.3
    assert torch.allclose(u @ torch.diag(values) @ v, found, atol=1e-4)


def test_muon_scales_matrices_and_adamw_moves_the_rest():
    def make():
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(32, 48, 3), nn.Conv2d(48, 4, 3))

    model, other = make(), make()
    assert [is_matrix(p) for p in model.parameters()] == [True, False, False, False]
    before = model[0].weight.detach().clone()
    options = {"lr": 1e-2, "weight_decay": 0.0, "betas": (0.9, 0.99)}
    result, reference = Muon(list(model.parameters()), **options), torch.optim.AdamW(other.parameters(), **options)
    x = torch.randn(2, 32, 8, 8, generator=torch.Generator().manual_seed(2))
    for net, optimizer in ((model, result), (other, reference)):
        optimizer.zero_grad()
        net(x).square().mean().backward()
        optimizer.step()
    moved = (model[0].weight.detach() - before).square().mean().sqrt()
    assert float(moved) == pytest.approx(RMS * 1e-2, rel=0.3)
    assert torch.equal(model[1].weight, other[1].weight)
    assert torch.equal(model[0].bias, other[0].bias)


def test_its_state_travels():
    def make():
        torch.manual_seed(0)
        layer = nn.Linear(32, 32)
        return layer, Muon(list(layer.parameters()), lr=1e-2)

    def step(layer, optimizer, seed):
        optimizer.zero_grad()
        layer(torch.randn(4, 32, generator=torch.Generator().manual_seed(seed))).square().mean().backward()
        optimizer.step()

    (layer, whole), (half, first) = make(), make()
    for seed in (1, 2):
        step(layer, whole, seed)
    step(half, first, 1)
    again, second = make()
    again.load_state_dict(half.state_dict())
    second.load_state_dict({k: v for k, v in first.state_dict().items()})
    step(again, second, 2)
    assert torch.equal(layer.weight, again.weight)
    assert torch.equal(layer.bias, again.bias)
