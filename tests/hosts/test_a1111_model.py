"""A1111's border: its timestep samplers predict eps for latents of unit variance; behind it everything is x0."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from lib_beyondfacial.hosts.a1111.model import A1111Host

ALPHAS = torch.linspace(0.999, 0.005, 1000)


def host_of(*, predicts_eps: bool) -> A1111Host:
    name = "get_timesteps" if predicts_eps else "get_sigmas"
    sampler = SimpleNamespace(**{name: lambda: None})
    model = SimpleNamespace(alphas_cumprod=ALPHAS)
    return A1111Host(SimpleNamespace(sampler=sampler, sd_model=model, width=96, height=64))


def sigma_of(timestep: int) -> float:
    return float(((1 - ALPHAS[timestep]) / ALPHAS[timestep]) ** 0.5)


@pytest.mark.parametrize("timestep", [0, 1, 500, 999])
def test_timestep_is_its_sigma(timestep):
    assert host_of(predicts_eps=True).to_sigma(timestep) == pytest.approx(sigma_of(timestep), rel=1e-5)


def test_timestep_between_two_is_between_their_sigmas():
    assert sigma_of(500) < host_of(predicts_eps=True).to_sigma(500.5) < sigma_of(501)


@pytest.mark.parametrize("timestep", [10, 500, 990])
def test_x0_of_eps_is_the_picture_that_was_noised(timestep):
    x0, eps = torch.randn(2, 1, 4, 8, 8, generator=torch.Generator().manual_seed(1)).double().unbind()
    alpha = ALPHAS[timestep].double()
    x = alpha.sqrt() * x0 + (1 - alpha).sqrt() * eps
    host = host_of(predicts_eps=True)
    sigma = host.to_sigma(timestep)
    assert torch.allclose(host.to_x0(eps, x, sigma), x0, atol=1e-4)
    # What is added to eps adds what was meant to x0.
    delta = torch.full_like(x0, 0.3)
    assert torch.allclose(host.to_x0(eps + host.from_x0(delta, sigma), x, sigma), x0 + delta, atol=1e-4)
    assert torch.allclose(host.start_to_x(x, sigma), x0 + sigma * eps, atol=1e-3)


def test_zero_delta_stays_exactly_zero():
    assert not host_of(predicts_eps=True).from_x0(torch.zeros(1, 4, 2, 2), 3.0).any()


def test_x0_samplers_are_left_as_they_are():
    host, x = host_of(predicts_eps=False), torch.ones(1, 4, 2, 2)
    assert host.to_sigma(3.5) == 3.5
    assert host.to_x0(x, 2 * x, 3.0) is x
    assert host.from_x0(x, 3.0) is x
    assert host.start_to_x(x, 3.0) is x
