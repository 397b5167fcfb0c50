from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from samplers import Hamiltonian, Langevin, LogDensityFn, ScoreFn, UnderdampedLangevin

Stationary = Callable[[Any, float, float], Tensor]


def _seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=_seeded(seed), dtype=torch.float64)


@pytest.mark.parametrize("step_size", [0.1, 0.8, 1.7])
@pytest.mark.parametrize(("variance", "sigma"), [(0.0, 3.0), (2.0, 0.7)])
def test_unadjusted_variance_is_the_one_of_the_closed_form(
    step_size: float, variance: float, sigma: float, stationary_law: Stationary
) -> None:
    curvature, h = 1 / (variance + sigma**2), step_size * sigma
    found = stationary_law(Langevin(step_size), variance, sigma).item()
    assert found == pytest.approx(1 / curvature / (1 - h**2 * curvature / 4), rel=1e-12)


def test_the_bias_of_the_unadjusted_kernel_has_order_two(stationary_law: Stationary) -> None:
    bias = [stationary_law(Langevin(h), 1.0, 1.0).item() / 2 - 1 for h in (0.4, 0.2, 0.1)]
    orders = [math.log2(a / b) for a, b in zip(bias, bias[1:], strict=False)]
    assert orders == pytest.approx([2.0, 2.0], abs=0.05)


def test_a_move_is_half_the_squared_step_along_the_score_and_a_step_of_noise(
    mixture_score: ScoreFn,
) -> None:
    x, sigma, kernel = _normal(5, 2), torch.tensor(0.6, dtype=torch.float64), Langevin(0.5)
    state = kernel.init(mixture_score, x, sigma, generator=_seeded())
    moved, _ = kernel.step(mixture_score, state, sigma, generator=_seeded(1))
    z, alpha = _normal(5, 2, seed=1), 0.3**2
    expected = x + alpha / 2 * mixture_score(x, sigma) + math.sqrt(alpha) * z
    torch.testing.assert_close(moved.x, expected)


def test_acceptance_is_the_ratio_of_target_and_proposal_densities(
    mixture_score: ScoreFn, mixture_log_density: LogDensityFn
) -> None:
    x, sigma, step_size = _normal(400, 2), torch.tensor(0.6, dtype=torch.float64), 1.5
    kernel, h = Langevin(step_size, mixture_log_density), step_size * 0.6
    state = kernel.init(mixture_score, x, sigma, generator=_seeded())
    moved, info = kernel.step(mixture_score, state, sigma, generator=_seeded(1))
    assert info.acceptance is not None and info.rejected is not None

    def log_proposal(there: Tensor, here: Tensor) -> Tensor:
        mean = here + h**2 / 2 * mixture_score(here, sigma)
        return -((there - mean) ** 2).sum(1) / (2 * h**2)

    y = x + h**2 / 2 * mixture_score(x, sigma) + h * _normal(400, 2, seed=1)
    log_ratio = mixture_log_density(y, sigma) - mixture_log_density(x, sigma)
    log_ratio = log_ratio + log_proposal(x, y) - log_proposal(y, x)
    torch.testing.assert_close(info.acceptance, log_ratio.exp().clamp(max=1))
    torch.testing.assert_close(moved.x[~info.rejected], y[~info.rejected])
    assert torch.equal(moved.x[info.rejected], x[info.rejected])
    assert 0 < int(info.rejected.sum()) < 400


@pytest.mark.parametrize("adjusted", [False, True])
def test_langevin_is_hamiltonian_with_one_leapfrog_step(
    adjusted: bool, mixture_score: ScoreFn, mixture_log_density: LogDensityFn
) -> None:
    x, sigma = _normal(200, 2), torch.tensor(0.6, dtype=torch.float64)
    log_density_fn = mixture_log_density if adjusted else None
    ends = []
    for kernel in (
        Langevin(1.3, log_density_fn),
        Hamiltonian(1.3, 1, log_density_fn=log_density_fn),
    ):
        state: Any = kernel.init(mixture_score, x, sigma, generator=_seeded())
        generator = _seeded(1)
        for _ in range(3):
            state, info = kernel.step(mixture_score, state, sigma, generator=generator)  # type: ignore[arg-type]
        ends.append((state.x, info.rejected, info.acceptance))
    for one, other in zip(*ends, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("step_size", [0.1, 0.8, 1.7])
@pytest.mark.parametrize("friction", [0.2, 1.0, 30.0])
@pytest.mark.parametrize(("variance", "sigma"), [(0.0, 3.0), (2.0, 0.7)])
def test_underdamped_positions_are_exact_on_a_gaussian_and_momenta_too_narrow(
    step_size: float, friction: float, variance: float, sigma: float, stationary_law: Stationary
) -> None:
    found = stationary_law(UnderdampedLangevin(step_size, friction), variance, sigma)
    curvature, h = 1 / (variance + sigma**2), step_size * sigma
    expected = torch.tensor([1 / curvature, 1 - h**2 * curvature / 4], dtype=torch.float64).diag()
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("friction", [0.3, 1.5])
def test_a_free_momentum_forgets_at_the_rate_of_the_friction(friction: float) -> None:
    # Without a force p' = c p + sqrt(1 - c^2) n after each step, c = exp(-friction step_size).
    kernel, sigma, p = UnderdampedLangevin(0.4, friction), torch.tensor(2.0), _normal(3, 2)

    def after(momentum: Tensor) -> tuple[Tensor, Tensor]:
        state = kernel.init(lambda x, s: 0 * x, torch.zeros(3, 2), sigma, generator=_seeded())
        state = state._replace(momentum=momentum, x=torch.zeros_like(momentum))
        state = kernel.step(lambda x, s: 0 * x, state, sigma, generator=_seeded(1))[0]
        return state.momentum, state.x

    c, n = math.exp(-friction * 0.4), _normal(3, 2, seed=1)
    momentum, x = after(p)
    torch.testing.assert_close(momentum, c * p + math.sqrt(1 - c**2) * n)
    # Half the drift before the friction, half after it; sigma is the unit of length.
    torch.testing.assert_close(x, 0.4 * 2.0 / 2 * (p + momentum))


def test_the_first_momentum_is_unit_noise() -> None:
    x, sigma = torch.zeros(50, 400), torch.tensor(7.0)
    state = UnderdampedLangevin().init(lambda x, s: x, x, sigma, generator=_seeded(1))
    assert torch.equal(state.momentum, torch.randn(50, 400, generator=_seeded(1)))


@pytest.mark.parametrize("friction", [0.0, -1.0, math.inf, math.nan])
def test_friction_out_of_range_is_refused(friction: float) -> None:
    with pytest.raises(ValueError, match=f"friction must be finite and greater.* got {friction}"):
        UnderdampedLangevin(friction=friction)
