"""Noise levels and solvers. A solver is `solve(model, x, levels, draw, callback, eta) -> x`: `model(x, level)` gives
x0 (levels are sigmas, falling to 0) or, for DDIM, eps (levels are timesteps, rising); `draw()` is noise like x."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


def append_zero(sigmas: Tensor) -> Tensor:
    return torch.cat([sigmas, sigmas.new_zeros(1)])


def karras_sigmas(n: int, sigma_min: float, sigma_max: float, rho: float = 7.0, device: Any = "cpu") -> Tensor:
    """Karras et al. 2022, eq. 5."""
    low, high = sigma_min ** (1 / rho), sigma_max ** (1 / rho)
    return append_zero((high + torch.linspace(0, 1, n, device=device) * (low - high)) ** rho)


class CompVisDenoiser(nn.Module):
    """x0 = D(x, sigma) of an eps model trained on discrete noise levels (Karras et al. 2022, appendix C.3.4)."""

    def __init__(self, model: Any):
        super().__init__()
        self.inner_model = model
        self.register_buffer("sigmas", ((1 - model.alphas_cumprod) / model.alphas_cumprod) ** 0.5)
        self.register_buffer("log_sigmas", self.sigmas.log())

    def sigma_to_t(self, sigma: Tensor) -> Tensor:
        """Fractional timestep, linear in log sigma between the levels."""
        log_sigma = sigma.log()
        low = (torch.searchsorted(self.log_sigmas, log_sigma, right=True) - 1).clamp(0, len(self.log_sigmas) - 2)
        a, b = self.log_sigmas[low], self.log_sigmas[low + 1]
        w = ((a - log_sigma) / (a - b)).clamp(0, 1)
        return (1 - w) * low + w * (low + 1)

    def t_to_sigma(self, t: Tensor) -> Tensor:
        low, high, w = t.floor().long(), t.ceil().long(), t.frac()
        return ((1 - w) * self.log_sigmas[low] + w * self.log_sigmas[high]).exp()

    def get_sigmas(self, n: int) -> Tensor:
        return append_zero(self.t_to_sigma(torch.linspace(len(self.sigmas) - 1, 0, n, device=self.sigmas.device)))

    def forward(self, x: Tensor, sigma: Tensor, cond: dict) -> Tensor:
        scale = sigma[:, None, None, None]
        return x - scale * self.inner_model.apply_model(x / (scale**2 + 1) ** 0.5, self.sigma_to_t(sigma), cond=cond)


class CompVisTimestepsDenoiser(nn.Module):
    """eps(x, t): what a timestep solver's host calls sigma is a timestep."""

    def __init__(self, model: Any):
        super().__init__()
        self.inner_model = model

    def forward(self, x: Tensor, timesteps: Tensor, cond: dict) -> Tensor:
        return self.inner_model.apply_model(x, timesteps, cond=cond)


def ancestral_step(sigma: Tensor, sigma_next: Tensor, eta: float) -> tuple[Tensor, Tensor]:
    """The sigma to go down to, and the noise that leads from there up to the next one."""
    up = min(sigma_next, eta * (sigma_next**2 * (sigma**2 - sigma_next**2) / sigma**2) ** 0.5)
    return (sigma_next**2 - up**2) ** 0.5, up


def euler_ancestral(
    model: Callable, x: Tensor, sigmas: Tensor, draw: Callable[[], Tensor], callback: Callable, eta: float
) -> Tensor:
    """Euler steps to below the next sigma, and fresh noise back up to it; eta 0 is plain Euler."""
    for i, (sigma, sigma_next) in enumerate(zip(sigmas[:-1], sigmas[1:], strict=True)):
        denoised = model(x, sigma.expand(len(x)))
        callback({"x": x, "i": i, "sigma": sigma, "sigma_hat": sigma, "denoised": denoised})
        down, up = ancestral_step(sigma, sigma_next, eta)
        x = x + (x - denoised) / sigma * (down - sigma)
        if eta and sigma_next > 0:
            x = x + draw() * up
    return x


def euler(
    model: Callable, x: Tensor, sigmas: Tensor, draw: Callable[[], Tensor], callback: Callable, eta: float
) -> Tensor:
    return euler_ancestral(model, x, sigmas, draw, callback, 0.0)


def dpmpp_2m(
    model: Callable, x: Tensor, sigmas: Tensor, draw: Callable[[], Tensor], callback: Callable, eta: float
) -> Tensor:
    """DPM-Solver++(2M), Lu et al. 2022."""
    previous, h_last = None, None
    for i, (sigma, sigma_next) in enumerate(zip(sigmas[:-1], sigmas[1:], strict=True)):
        denoised = model(x, sigma.expand(len(x)))
        callback({"x": x, "i": i, "sigma": sigma, "sigma_hat": sigma, "denoised": denoised})
        h, target = sigma.log() - sigma_next.log(), denoised
        if previous is not None and sigma_next > 0:
            target = denoised + (denoised - previous) * h / (2 * h_last)
        x = sigma_next / sigma * x - (-h).expm1() * target
        previous, h_last = denoised, h
    return x


def dpmpp_sde(
    model: Callable, x: Tensor, sigmas: Tensor, draw: Callable[[], Tensor], callback: Callable, eta: float
) -> Tensor:
    """DPM-Solver++ (stochastic), Lu et al. 2022: a second call at the middle of each step in log sigma. The noise of
    its two halves is drawn independently."""
    for i, (sigma, sigma_next) in enumerate(zip(sigmas[:-1], sigmas[1:], strict=True)):
        denoised = model(x, sigma.expand(len(x)))
        callback({"x": x, "i": i, "sigma": sigma, "sigma_hat": sigma, "denoised": denoised})
        if sigma_next == 0:
            return denoised
        middle = (sigma * sigma_next) ** 0.5
        for target in (middle, sigma_next):
            down, up = ancestral_step(sigma, target, eta)
            moved = down / sigma * x + (1 - down / sigma) * denoised + draw() * up
            if target is middle:
                denoised = model(moved, middle.expand(len(x)))
        x = moved
    return x


def lcm(
    model: Callable, x: Tensor, sigmas: Tensor, draw: Callable[[], Tensor], callback: Callable, eta: float
) -> Tensor:
    """Latent consistency sampling, Luo et al. 2023: to x0, and with fresh noise back up to the next level."""
    for i, (sigma, sigma_next) in enumerate(zip(sigmas[:-1], sigmas[1:], strict=True)):
        x = model(x, sigma.expand(len(x)))
        callback({"x": x, "i": i, "sigma": sigma, "sigma_hat": sigma, "denoised": x})
        if sigma_next > 0:
            x = x + draw() * sigma_next
    return x


def ddim(
    model: Callable,
    x: Tensor,
    timesteps: Tensor,
    draw: Callable[[], Tensor],
    callback: Callable,
    eta: float,
    *,
    alphas: Tensor,
) -> Tensor:
    """Song et al. 2020, eq. 12; `alphas` is the cumulative product. As in A1111, N timesteps make N - 1 calls."""
    levels, alphas = timesteps.flip(0), alphas.double()
    for i, (t, t_next) in enumerate(zip(levels[:-1], levels[1:], strict=True)):
        a, a_next = alphas[t], alphas[t_next]
        eps = model(x, t.float().expand(len(x)))
        noise = eta * ((1 - a_next) / (1 - a) * (1 - a / a_next)).sqrt().item()
        pred_x0 = (x - (1 - a).sqrt().item() * eps) / a.sqrt().item()
        x = a_next.sqrt().item() * pred_x0 + (1 - a_next - noise**2).sqrt().item() * eps
        x = x + noise * draw() if eta else x
        callback({"x": x, "i": i, "sigma": 0, "sigma_hat": 0, "denoised": pred_x0})
    return x
