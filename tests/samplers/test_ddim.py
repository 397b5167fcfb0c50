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
    to_variance_exploding,
    to_variance_preserving,
)


def _seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=_seeded(seed), dtype=torch.float64)


@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("n_levels", [1, 2, 9])
def test_a_point_mass_is_hit_exactly(eta: float, n_levels: int) -> None:
    target = _normal(5, 3, seed=3)
    sampler = Annealed(Karras(n_levels), DDIM(eta))
    x = sampler(lambda x, s: (target - x) / s**2, _normal(5, 3), generator=_seeded())
    # 80 z is rounded at 1e-14.
    torch.testing.assert_close(x, target, rtol=0, atol=1e-13)


@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0])
def test_every_level_of_a_point_mass_has_its_variance_whatever_eta(
    eta: float, affine_law: Callable[..., tuple[float, float]]
) -> None:
    gain, std = affine_law(DDIM(eta), variance=0.0, sigma=5.0, sigma_next=2.0)
    assert gain**2 * 5.0**2 + std**2 == pytest.approx(2.0**2, rel=1e-13)
    assert std == pytest.approx(eta * 2 / 5 * math.sqrt(21), rel=1e-13)


def test_one_step_on_a_gaussian_has_its_closed_form() -> None:
    mean, variance, s, s_next = 0.5, 2.0, 3.0, 1.0
    x = _normal(6, 2)
    moved = DDIM().step(
        lambda x, sigma: -(x - mean) / (variance + sigma**2),
        x,
        torch.tensor(s),
        torch.tensor(s_next),
        generator=_seeded(),
    )
    # D = mean + variance / (variance + s^2) (x - mean), x' = D + s_next / s (x - D)
    ratio = variance / (variance + s**2)
    expected = mean + (ratio + s_next / s * (1 - ratio)) * (x - mean)
    torch.testing.assert_close(moved, expected, rtol=1e-13, atol=1e-13)


def test_eta_one_is_the_ancestral_step(affine_law: Callable[..., tuple[float, float]]) -> None:
    variance, s, s_next = 0.7, 3.0, 1.2
    gain, std = affine_law(DDIM(1.0), variance=variance, sigma=s, sigma_next=s_next)
    # Ho et al. (2020), equation 7, in the variance exploding scale: the posterior of x' given x
    # and x_0 = D(x) has mean r x + (1 - r) D and variance s_next^2 (1 - r), r = s_next^2 / s^2.
    r = s_next**2 / s**2
    assert gain == pytest.approx(r + (1 - r) * variance / (variance + s**2), rel=1e-13)
    assert std == pytest.approx(s_next * math.sqrt(1 - r), rel=1e-13)


@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0])
def test_the_step_to_zero_returns_the_denoised_estimate(eta: float, mixture_score: ScoreFn) -> None:
    x, sigma = 2 * _normal(6, 2), torch.tensor(1.3, dtype=torch.float64)
    zero = torch.zeros((), dtype=torch.float64)
    moved = DDIM(eta).step(mixture_score, x, sigma, zero, generator=_seeded())
    denoised = denoised_from_score(mixture_score(x, sigma), x, sigma)
    torch.testing.assert_close(moved, denoised, rtol=1e-15, atol=1e-15)


@pytest.mark.parametrize("ladder", [Karras, Geometric])
def test_the_flow_is_followed_with_order_one(
    ladder: type[Karras] | type[Geometric], mixture_score: ScoreFn
) -> None:
    z = _normal(16, 2)

    def end(n_levels: int, transport: DDIM | Heun) -> Tensor:
        sampler = Annealed(ladder(n_levels, sigma_min=0.05, sigma_max=10.0), transport)
        return sampler(mixture_score, z, generator=_seeded())

    reference = end(1024, Heun())
    errors = [float((end(n, DDIM()) - reference).norm()) for n in (64, 128, 256)]
    orders = [math.log2(a / b) for a, b in zip(errors, errors[1:], strict=False)]
    assert orders == pytest.approx([1.0, 1.0], abs=0.05)


@pytest.mark.parametrize("eta", [0.5, 1.0])
def test_the_law_of_a_gaussian_converges_with_order_one(
    eta: float, affine_law: Callable[..., tuple[float, float]]
) -> None:
    def variance_at_the_end(n_levels: int) -> float:
        sigmas: list[float] = Geometric(n_levels, sigma_min=0.05, sigma_max=10.0)().tolist()[:-1]
        variance = 0.5 + sigmas[0] ** 2
        for s, s_next in zip(sigmas, sigmas[1:], strict=False):
            gain, std = affine_law(DDIM(eta), variance=0.5, sigma=s, sigma_next=s_next)
            variance = gain**2 * variance + std**2
        return variance

    errors = [variance_at_the_end(n) - (0.5 + 0.05**2) for n in (65, 129, 257)]
    orders = [math.log2(a / b) for a, b in zip(errors, errors[1:], strict=False)]
    assert orders == pytest.approx([1.0, 1.0], abs=0.1)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_trajectory_equals_diffusers_ddim_from_the_same_noise(
    eta: float, mixture_score: ScoreFn, schedulers: ModuleType
) -> None:
    scheduler = schedulers.DDIMScheduler(clip_sample=False, set_alpha_to_one=True)
    scheduler.alphas_cumprod = scheduler.alphas_cumprod.double()
    scheduler.final_alpha_cumprod = scheduler.final_alpha_cumprod.double()
    scheduler.set_timesteps(20)
    ladder = Explicit.from_alphas_cumprod(scheduler.alphas_cumprod, scheduler.timesteps)
    sigmas = ladder()
    x_vp = _normal(16, 2)
    unit = to_variance_exploding(x_vp, sigmas[0]) / sigmas[0]

    theirs, generator = [], _seeded(7)
    for t, sigma in zip(scheduler.timesteps, sigmas, strict=False):
        x = to_variance_exploding(x_vp, sigma)
        noise = noise_from_score(mixture_score(x, sigma), x, sigma)
        x_vp = scheduler.step(noise, t, x_vp, eta=eta, generator=generator).prev_sample
        theirs.append(x_vp)

    ours: list[Tensor] = []
    Annealed(ladder, DDIM(eta))(
        mixture_score,
        unit,
        generator=_seeded(7),
        observe=lambda x, sigma, info: ours.append(to_variance_preserving(x, sigma)),
    )
    assert len(ours) == 20
    torch.testing.assert_close(torch.stack(ours), torch.stack(theirs), rtol=1e-10, atol=1e-10)


def test_trajectory_equals_diffusers_edm_euler_from_the_same_noise(
    mixture_score: ScoreFn, schedulers: ModuleType
) -> None:
    scheduler = schedulers.EDMEulerScheduler(sigma_min=0.02, sigma_max=10.0)
    scheduler.set_timesteps(20)
    scheduler.sigmas = scheduler.sigmas.double()
    ladder = Explicit(tuple(scheduler.sigmas.tolist()))
    unit = _normal(16, 2)
    x = unit * scheduler.sigmas[0]
    for t, sigma in zip(scheduler.timesteps, scheduler.sigmas, strict=False):
        scheduler.scale_model_input(x, t)
        denoised = denoised_from_score(mixture_score(x, sigma), x, sigma)
        # The oracle wants the raw network's output: F = (D - c_skip x) / c_out.
        c_skip = 0.25 / (sigma**2 + 0.25)
        c_out = sigma * 0.5 / (sigma**2 + 0.25).sqrt()
        x = scheduler.step((denoised - c_skip * x) / c_out, t, x).prev_sample
    ours = Annealed(ladder, DDIM())(mixture_score, unit, generator=_seeded())
    # The oracle works in float32 inside.
    torch.testing.assert_close(ours, x.double(), rtol=1e-4, atol=1e-5)


def test_one_sigma_a_row_equals_row_by_row(mixture_score: ScoreFn) -> None:
    x = _normal(3, 2)
    sigma = torch.tensor([2.0, 1.0, 0.5], dtype=torch.float64)
    sigma_next = torch.tensor([1.0, 0.9, 0.0], dtype=torch.float64)
    together = DDIM().step(mixture_score, x, sigma, sigma_next, generator=_seeded())
    for i in range(3):
        alone = DDIM().step(
            mixture_score, x[i : i + 1], sigma[i], sigma_next[i], generator=_seeded()
        )
        torch.testing.assert_close(together[i : i + 1], alone, rtol=1e-14, atol=1e-14)


def test_the_cpu_samples_agree_in_single_and_double_precision(mixture_score: ScoreFn) -> None:
    z = _normal(16, 2)
    wide = Annealed(Karras(20), DDIM())(mixture_score, z, generator=_seeded())
    narrow = Annealed(Karras(20), DDIM())(mixture_score, z.float(), generator=_seeded())
    # float32 rounds at 6e-8, on a state of 80 to 200 at first.
    torch.testing.assert_close(narrow.double(), wide, rtol=0, atol=20 * 200 * 6e-8)


def test_eta_zero_draws_nothing_and_eta_changes_the_result(mixture_score: ScoreFn) -> None:
    generator = _seeded()
    before = generator.get_state()
    plain = Annealed(Karras(8), DDIM())(mixture_score, _normal(4, 2), generator=generator)
    assert torch.equal(generator.get_state(), before)
    noisy = Annealed(Karras(8), DDIM(0.3))(mixture_score, _normal(4, 2), generator=generator)
    assert not torch.allclose(plain, noisy)


@pytest.mark.parametrize("eta", [-0.1, 1.1, math.nan])
def test_an_eta_outside_its_range_is_refused(eta: float) -> None:
    with pytest.raises(ValueError, match=r"eta must lie in \[0, 1\], got"):
        DDIM(eta)
