"""The solvers on data whose denoiser is known: x0 ~ N(0, 1), so D(x, sigma) = x / (1 + sigma^2)."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from demo.sd1 import solvers

BETAS = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
ALPHAS = (1 - BETAS).cumprod(0)
WRAP = solvers.CompVisDenoiser(SimpleNamespace(alphas_cumprod=ALPHAS.float()))


def never() -> torch.Tensor:
    raise AssertionError("a deterministic solver drew noise")


def ideal(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    return x / (1 + sigma[:, None] ** 2)


@pytest.mark.parametrize(("solver", "tolerance"), [(solvers.euler, 0.05), (solvers.dpmpp_2m, 0.003)])
def test_deterministic_solvers_follow_the_exact_flow(solver: object, tolerance: float) -> None:
    sigmas = solvers.karras_sigmas(100, 0.03, 14.6)
    x = torch.tensor([[14.6], [-7.0]])
    out = solver(ideal, x, sigmas, never, lambda d: None, 1.0)
    exact = x / (1 + 14.6**2) ** 0.5
    assert torch.allclose(out, exact, rtol=tolerance)


def test_ddim_follows_the_exact_flow() -> None:
    timesteps = torch.arange(0, 1000, 5) + 1

    def eps(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return (1 - ALPHAS[t.long()]).sqrt().float()[:, None] * x  # unit variance at all times

    x = torch.tensor([[1.0], [-0.5]])
    out = solvers.ddim(eps, x, timesteps, never, lambda d: None, 0.0, alphas=ALPHAS.float())
    assert torch.allclose(out, x, rtol=0.03)


def test_without_its_noise_the_stochastic_solver_is_deterministic() -> None:
    sigmas = solvers.karras_sigmas(100, 0.03, 14.6)
    x = torch.tensor([[14.6], [-7.0]])
    out = solvers.dpmpp_sde(ideal, x, sigmas, lambda: torch.full_like(x, 9.0), lambda d: None, 0.0)
    assert torch.allclose(out, x / (1 + 14.6**2) ** 0.5, rtol=0.003)


def test_consistency_steps_end_at_what_the_model_says_last() -> None:
    sigmas = torch.tensor([14.6, 3.0, 0.5, 0.0])
    asked = []

    def model(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        asked.append((x.clone(), float(sigma[0])))
        return torch.full_like(x, float(len(asked)))

    out = solvers.lcm(model, torch.zeros(2, 1), sigmas, lambda: torch.ones(2, 1), lambda d: None, 0.0)
    assert [sigma for _, sigma in asked] == pytest.approx([14.6, 3.0, 0.5])
    assert [x[0].item() for x, _ in asked] == pytest.approx([0, 1 + 3.0, 2 + 0.5])
    assert out.tolist() == [[3.0], [3.0]]


@pytest.mark.parametrize("solver", [solvers.euler_ancestral, solvers.dpmpp_sde])
def test_ancestral_steps_keep_the_datas_variance(solver: object) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(20000, 1, generator=generator) * (1 + 14.6**2) ** 0.5
    out = solver(
        ideal,
        x,
        solvers.karras_sigmas(300, 0.03, 14.6),
        lambda: torch.randn(20000, 1, generator=generator),
        lambda d: None,
        1.0,
    )
    assert out.std().item() == pytest.approx(1.0, abs=0.03)


def test_sigma_and_timestep_are_inverse() -> None:
    t = torch.tensor([0.0, 0.5, 17.25, 500.0, 998.75, 999.0])
    assert torch.allclose(WRAP.sigma_to_t(WRAP.t_to_sigma(t)), t, atol=2e-2)
    assert WRAP.sigma_to_t(torch.tensor([100.0, 1e-4])).tolist() == [999.0, 0.0]
    assert WRAP.get_sigmas(5)[[0, -1]].tolist() == pytest.approx([14.6146, 0.0], abs=1e-3)


def test_denoiser_undoes_a_known_eps() -> None:
    noise, clean, sigma = torch.randn(2, 4, 3, 3), torch.randn(2, 4, 3, 3), torch.tensor([3.0, 0.2])
    model = SimpleNamespace(alphas_cumprod=ALPHAS.float(), apply_model=lambda x, t, cond: noise)
    out = solvers.CompVisDenoiser(model)(clean + sigma[:, None, None, None] * noise, sigma, cond={})
    assert torch.allclose(out, clean, atol=1e-5)
