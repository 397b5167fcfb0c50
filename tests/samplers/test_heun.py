from __future__ import annotations

import math
from collections.abc import Callable
from types import ModuleType

import pytest
import torch
from torch import Tensor

from samplers import (
    DDIM,
    Annealed,
    Explicit,
    Geometric,
    Heun,
    Karras,
    ScoreFn,
    denoised_from_score,
    noise_from_score,
)


def _seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=_seeded(seed), dtype=torch.float64)


@pytest.mark.parametrize("churn", [0.0, 0.3])
@pytest.mark.parametrize("n_levels", [1, 2, 9])
def test_a_point_mass_is_hit_exactly(churn: float, n_levels: int) -> None:
    target = _normal(5, 3, seed=3)
    sampler = Annealed(Karras(n_levels), Heun(churn))
    x = sampler(lambda x, s: (target - x) / s**2, _normal(5, 3), generator=_seeded())
    torch.testing.assert_close(x, target, rtol=0, atol=1e-13)


def test_one_step_on_a_gaussian_has_its_closed_form(
    affine_law: Callable[..., tuple[float, float]],
) -> None:
    variance, s, s_next = 2.0, 3.0, 1.0
    gain, std = affine_law(Heun(), variance=variance, sigma=s, sigma_next=s_next)
    slope, slope_next = s / (variance + s**2), s_next / (variance + s_next**2)
    h = s_next - s
    expected = 1 + h / 2 * (slope + slope_next * (1 + h * slope))
    assert gain == pytest.approx(expected, rel=1e-13)
    assert std == 0.0


@pytest.mark.parametrize("ladder", [Karras, Geometric])
def test_the_flow_is_followed_with_order_two(
    ladder: type[Karras] | type[Geometric], mixture_score: ScoreFn
) -> None:
    z = _normal(16, 2)

    def end(n_levels: int) -> Tensor:
        sampler = Annealed(ladder(n_levels, sigma_min=0.05, sigma_max=10.0), Heun())
        return sampler(mixture_score, z, generator=_seeded())

    reference = end(1024)
    errors = [float((end(n) - reference).norm()) for n in (32, 64, 128)]
    orders = [math.log2(a / b) for a, b in zip(errors, errors[1:], strict=False)]
    assert orders == pytest.approx([2.0, 2.0], abs=0.1)


def test_trajectory_equals_diffusers_heun_from_the_same_noise(
    mixture_score: ScoreFn, schedulers: ModuleType
) -> None:
    scheduler = schedulers.HeunDiscreteScheduler(use_karras_sigmas=True)
    scheduler.set_timesteps(12)
    scheduler.sigmas = scheduler.sigmas.double()
    # The oracle repeats the inner levels, once for each of its two half steps.
    ladder = Explicit(tuple(scheduler.sigmas.unique().flip(0).tolist()))
    assert ladder.n_levels == 12
    unit = _normal(16, 2)
    x = unit * scheduler.sigmas[0]
    for i, t in enumerate(scheduler.timesteps):
        sigma = scheduler.sigmas[i]
        noise = noise_from_score(mixture_score(x, sigma), x, sigma)
        x = scheduler.step(noise, t, x).prev_sample
    ours = Annealed(ladder, Heun())(mixture_score, unit, generator=_seeded())
    torch.testing.assert_close(ours, x, rtol=1e-10, atol=1e-10)


def test_churned_trajectory_equals_diffusers_karras_ve(
    mixture_score: ScoreFn, schedulers: ModuleType
) -> None:
    try:
        from diffusers.schedulers.deprecated.scheduling_karras_ve import KarrasVeScheduler
    except ImportError as error:
        pytest.skip(f"this diffusers no longer has the oracle: {error}")
    numbers = {"s_churn": 4.0, "s_min": 0.1, "s_max": 5.0, "s_noise": 1.01}
    scheduler = KarrasVeScheduler(**numbers)
    scheduler.set_timesteps(12)
    levels = Karras(12, sigma_min=0.02, sigma_max=10.0)
    sigmas = levels()
    # The oracle draws float32, so the state is float32 on both sides.
    unit = _normal(16, 2).float()
    x, generator = unit * sigmas[0], _seeded(7)
    for sigma, sigma_next in zip(sigmas, sigmas[1:], strict=False):
        x_hat, sigma_hat = scheduler.add_noise_to_input(x, sigma, generator)
        output = sigma_hat * mixture_score(x_hat, sigma_hat)
        step = scheduler.step(output, sigma_hat, sigma_next, x_hat)
        if sigma_next > 0:
            output = sigma_next * mixture_score(step.prev_sample, sigma_next)
            step = scheduler.step_correct(
                output, sigma_hat, sigma_next, x_hat, step.prev_sample, step.derivative
            )
        x = step.prev_sample
    ours = Annealed(levels, Heun.edm(12, **numbers))(mixture_score, unit, generator=_seeded(7))
    # float32 rounds at 6e-8 on a state of 10 to 30, twelve times.
    torch.testing.assert_close(ours, x.float(), rtol=0, atol=12 * 30 * 6e-8)


@pytest.mark.parametrize("churn", [0.1, 0.4])
def test_churn_alone_leaves_the_law_of_a_gaussian_exact(
    churn: float, affine_law: Callable[..., tuple[float, float]]
) -> None:
    # A step from sigma to sigma_hat is the churn and a flow of length zero.
    sigma, sigma_hat = 2.0, 2.0 * (1 + churn)
    gain, std = affine_law(Heun(churn), variance=0.7, sigma=sigma, sigma_next=sigma_hat)
    assert gain == pytest.approx(1.0, rel=1e-13)
    assert gain**2 * (0.7 + sigma**2) + std**2 == pytest.approx(0.7 + sigma_hat**2, rel=1e-13)


def test_the_fresh_noise_of_churn_has_standard_deviation_s_noise(
    affine_law: Callable[..., tuple[float, float]],
) -> None:
    _, std = affine_law(Heun(0.4), variance=0.7, sigma=2.0, sigma_next=2.8)
    _, louder = affine_law(Heun(0.4, s_noise=1.1), variance=0.7, sigma=2.0, sigma_next=2.8)
    assert louder == pytest.approx(1.1 * std, rel=1e-13)


@pytest.mark.parametrize(
    ("sigma", "churned"), [(0.99, False), (1.0, True), (3.0, True), (3.01, False)]
)
def test_churn_stays_between_s_min_and_s_max(
    sigma: float, churned: bool, affine_law: Callable[..., tuple[float, float]]
) -> None:
    transport = Heun(0.3, s_min=1.0, s_max=3.0)
    gain, std = affine_law(transport, variance=0.7, sigma=sigma, sigma_next=0.5)
    quiet_gain, _ = affine_law(Heun(), variance=0.7, sigma=sigma, sigma_next=0.5)
    assert (std > 0) == churned
    assert (gain != quiet_gain) == churned


def test_the_law_of_a_churned_gaussian_converges_with_order_two(
    affine_law: Callable[..., tuple[float, float]],
) -> None:
    def variance_at_the_end(n_levels: int) -> float:
        sigmas: list[float] = Geometric(n_levels, sigma_min=0.05, sigma_max=10.0)().tolist()[:-1]
        transport = Heun.edm(n_levels - 1, s_churn=6.4, s_min=0.0, s_noise=1.0)
        variance = 0.5 + sigmas[0] ** 2
        for s, s_next in zip(sigmas, sigmas[1:], strict=False):
            gain, std = affine_law(transport, variance=0.5, sigma=s, sigma_next=s_next)
            variance = gain**2 * variance + std**2
        return variance

    errors = [abs(variance_at_the_end(n) - (0.5 + 0.05**2)) for n in (65, 129, 257)]
    orders = [math.log2(a / b) for a, b in zip(errors, errors[1:], strict=False)]
    assert orders == pytest.approx([2.0, 2.0], abs=0.2)


def test_churned_samples_of_a_gaussian_have_its_moments() -> None:
    n, mean, variance = 50_000, 0.5, 2.0
    sampler = Annealed(Karras(64, sigma_max=40.0), Heun(0.1))
    x = sampler(lambda x, s: -(x - mean) / (variance + s**2), _normal(n, 1), generator=_seeded(3))
    # Five standard errors; the 64 steps and the start without the mean add less than 1e-2 more.
    assert float(x.mean()) == pytest.approx(mean, abs=5 * math.sqrt(variance / n) + 1e-2)
    assert float(x.var()) == pytest.approx(variance, abs=5 * variance * math.sqrt(2 / n) + 1e-2)


@pytest.mark.parametrize("churn", [0.0, 0.3])
def test_the_step_to_zero_is_the_denoised_estimate_and_one_evaluation(
    churn: float, mixture_score: ScoreFn
) -> None:
    asked: list[tuple[Tensor, Tensor]] = []

    def score_fn(x: Tensor, sigma: Tensor) -> Tensor:
        asked.append((x, sigma))
        return mixture_score(x, sigma)

    sigma, zero = (torch.tensor(s, dtype=torch.float64) for s in (1.3, 0.0))
    moved = Heun(churn).step(score_fn, 2 * _normal(6, 2), sigma, zero, generator=_seeded())
    [(x_hat, sigma_hat)] = asked
    assert float(sigma_hat) == pytest.approx(1.3 * (1 + churn))
    denoised = denoised_from_score(mixture_score(x_hat, sigma_hat), x_hat, sigma_hat)
    torch.testing.assert_close(moved, denoised, rtol=1e-14, atol=1e-14)


def test_a_ladder_of_n_levels_costs_two_n_minus_one_evaluations(mixture_score: ScoreFn) -> None:
    sigmas: list[float] = []

    def score_fn(x: Tensor, sigma: Tensor) -> Tensor:
        sigmas.append(float(sigma))
        return mixture_score(x, sigma)

    Annealed(Karras(7), Heun())(score_fn, _normal(2, 2), generator=_seeded())
    assert len(sigmas) == 13
    assert min(sigmas) > 0


def test_one_sigma_a_row_equals_row_by_row_also_where_some_rows_end(mixture_score: ScoreFn) -> None:
    x = _normal(3, 2)
    sigma = torch.tensor([2.0, 1.0, 0.5], dtype=torch.float64)
    sigma_next = torch.tensor([1.0, 0.0, 0.25], dtype=torch.float64)
    together = Heun().step(mixture_score, x, sigma, sigma_next, generator=_seeded())
    for i in range(3):
        alone = Heun().step(
            mixture_score, x[i : i + 1], sigma[i], sigma_next[i], generator=_seeded()
        )
        torch.testing.assert_close(together[i : i + 1], alone, rtol=1e-14, atol=1e-14)


def test_without_churn_nothing_is_drawn_and_churn_changes_the_result(
    mixture_score: ScoreFn,
) -> None:
    generator = _seeded()
    before = generator.get_state()
    plain = Annealed(Karras(8), Heun())(mixture_score, _normal(4, 2), generator=generator)
    assert torch.equal(generator.get_state(), before)
    noisy = Annealed(Karras(8), Heun(0.2))(mixture_score, _normal(4, 2), generator=generator)
    assert not torch.allclose(plain, noisy)
    euler = Annealed(Karras(8), DDIM())(mixture_score, _normal(4, 2), generator=generator)
    assert not torch.allclose(plain, euler)


def test_edm_divides_the_churn_among_the_levels_up_to_its_limit() -> None:
    assert Heun.edm(400) == Heun(0.1, s_min=0.05, s_max=50.0, s_noise=1.003)
    assert Heun.edm(18, s_churn=40).churn == math.sqrt(2) - 1
    assert Heun.edm(18, s_churn=0, s_min=0.0, s_max=math.inf, s_noise=1.0) == Heun()


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"churn": -0.1}, r"churn must lie in \[0, sqrt\(2\) - 1\], got -0.1"),
        ({"churn": 0.5}, "got 0.5"),
        ({"churn": math.nan}, "got nan"),
        ({"s_min": 2.0, "s_max": 1.0}, "0 <= s_min <= s_max, got 2.0 and 1.0"),
        ({"s_min": -1.0}, "0 <= s_min <= s_max, got -1.0 and inf"),
        ({"s_noise": 0.0}, "s_noise must be finite and greater than 0, got 0.0"),
    ],
)
def test_numbers_outside_their_range_are_refused(numbers: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Heun(**numbers)


@pytest.mark.parametrize(("n_levels", "s_churn"), [(0, 1.0), (4, -1.0), (4, math.inf)])
def test_edm_numbers_outside_their_range_are_refused(n_levels: int, s_churn: float) -> None:
    with pytest.raises(ValueError, match="must be"):
        Heun.edm(n_levels, s_churn=s_churn)
