"""A1111's border: its timestep samplers predict eps for latents of unit variance; behind it everything is x0."""

from __future__ import annotations

import contextlib
import sys
from types import SimpleNamespace

import pytest
import torch
from torch import nn

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


class Autoencoder(nn.Module):
    """As small as an autoencoder can be, with the host's names; its encode as of SD1.5 or of SDXL."""

    def __init__(self, samples: bool):
        super().__init__()
        self.encoder, self.quant_conv, self.samples = nn.Conv2d(3, 8, 8, 8), nn.Conv2d(8, 8, 1), samples

    def encode(self, pixels: torch.Tensor) -> object:
        mean, log_variance = self.quant_conv(self.encoder(pixels)).chunk(2, dim=1)
        if not self.samples:
            return SimpleNamespace(mean=mean, log_variance=log_variance)
        return 0.13 * (mean + torch.exp(0.5 * log_variance) * torch.randn(mean.shape))


@pytest.mark.parametrize("samples", [False, True], ids=["SD1.5", "SDXL"])
def test_encoding_is_the_posteriors_scaled_mean_and_draws_nothing(monkeypatch, samples):
    devices = SimpleNamespace(device=torch.device("cpu"), without_autocast=contextlib.nullcontext)
    monkeypatch.setitem(sys.modules, "modules", SimpleNamespace(devices=devices))
    vae, picture = Autoencoder(samples), torch.rand(3, 16, 24, generator=torch.Generator().manual_seed(1))
    host = host_of(predicts_eps=False)
    host.p.sd_model.first_stage_model, host.p.sd_model.scale_factor = vae, 0.13
    host.p.sd_model.encode_first_stage = vae.encode
    before = torch.get_rng_state()
    (encoded,) = host.encode_images(picture[None])
    assert torch.equal(torch.get_rng_state(), before)
    mean = vae.quant_conv(vae.encoder(picture[None])).detach()[0, :4]
    assert torch.allclose(encoded, 0.13 * mean, atol=1e-6)
    assert not vae.quant_conv._forward_hooks
