from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import pytest
import torch
from torch import Tensor

from samplers import (
    alphas_cumprod_from_sigma,
    denoised_from_score,
    noise_from_score,
    score_from_denoised,
    score_from_noise,
    score_from_v,
    sigma_from_alphas_cumprod,
    to_variance_exploding,
    to_variance_preserving,
    v_from_score,
)

Conversion = Callable[[Tensor, Tensor, Tensor], Tensor]
PAIRS: list[tuple[Conversion, Conversion]] = [
    (denoised_from_score, score_from_denoised),
    (noise_from_score, score_from_noise),
    (v_from_score, score_from_v),
]
ALL = [function for pair in PAIRS for function in pair]


def _normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


SIGMAS = torch.tensor([0.01, 0.7, 1.0, 30.0], dtype=torch.float64)


def test_a_point_mass_gives_back_the_image_the_noise_and_the_velocity() -> None:
    x0, z = _normal(4, 3, seed=1), _normal(4, 3, seed=2)
    s = SIGMAS[:, None]
    x = x0 + s * z
    score = -z / s
    alpha = (1 + s**2) ** -0.5
    torch.testing.assert_close(denoised_from_score(score, x, SIGMAS), x0)
    torch.testing.assert_close(noise_from_score(score, x, SIGMAS), z)
    # Salimans and Ho: v = alpha_t z - sigma_t x_0 with the variance preserving alpha_t, sigma_t.
    torch.testing.assert_close(v_from_score(score, x, SIGMAS), alpha * z - alpha * s * x0)


def test_the_denoised_estimate_of_a_gaussian_is_its_posterior_mean() -> None:
    mean, variance = 0.3, 2.0
    x, s = _normal(4, 3), SIGMAS[:, None]
    denoised = denoised_from_score(-(x - mean) / (variance + s**2), x, SIGMAS)
    expected = (variance * x + s**2 * mean) / (variance + s**2)
    torch.testing.assert_close(denoised, expected)


@pytest.mark.parametrize(("there", "back"), PAIRS)
def test_each_form_and_back_is_the_identity(there: Conversion, back: Conversion) -> None:
    score, x = _normal(4, 3, seed=1), _normal(4, 3, seed=2)
    # (D - x) / sigma^2 cancels to 1e-16 / sigma^2 at sigma 0.01.
    returned = back(there(score, x, SIGMAS), x, SIGMAS)
    torch.testing.assert_close(returned, score, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("function", ALL)
def test_one_sigma_a_row_equals_row_by_row(function: Conversion) -> None:
    value, x = _normal(4, 2, 3, seed=1), _normal(4, 2, 3, seed=2)
    together = function(value, x, SIGMAS)
    for i, sigma in enumerate(SIGMAS):
        alone = function(value[i : i + 1], x[i : i + 1], sigma)
        torch.testing.assert_close(together[i : i + 1], alone, rtol=0, atol=0)


@pytest.mark.parametrize("function", ALL)
@pytest.mark.parametrize("sigma", [torch.tensor(0.3), torch.tensor([0.3, 2.0])])
def test_half_precision_is_computed_in_float32_and_rounded_once(
    function: Conversion, sigma: Tensor
) -> None:
    value, x = _normal(2, 64, seed=1).bfloat16(), _normal(2, 64, seed=2).bfloat16()
    result = function(value, x, sigma.double())
    assert result.dtype == torch.bfloat16
    torch.testing.assert_close(
        result, function(value.float(), x.float(), sigma).bfloat16(), rtol=0, atol=0
    )


def test_variance_preserving_state_has_the_published_weights() -> None:
    x0, z, a = _normal(4, 3, seed=1), _normal(4, 3, seed=2), torch.tensor([0.99, 0.5, 0.1, 1e-4])
    a = a.double()
    sigma = sigma_from_alphas_cumprod(a)
    x = to_variance_preserving(x0 + sigma[:, None] * z, sigma)
    torch.testing.assert_close(x, a.sqrt()[:, None] * x0 + (1 - a).sqrt()[:, None] * z)
    torch.testing.assert_close(to_variance_exploding(x, sigma), x0 + sigma[:, None] * z)
    torch.testing.assert_close(alphas_cumprod_from_sigma(sigma), a)


def test_velocity_equals_the_one_of_diffusers(schedulers: ModuleType) -> None:
    scheduler = schedulers.DDIMScheduler()
    scheduler.alphas_cumprod = scheduler.alphas_cumprod.double()
    t = torch.tensor([10, 300, 700, 990])
    x0, z = _normal(4, 3, seed=1), _normal(4, 3, seed=2)
    sigma = sigma_from_alphas_cumprod(scheduler.alphas_cumprod[t])
    x = x0 + sigma[:, None] * z
    torch.testing.assert_close(
        to_variance_preserving(x, sigma), scheduler.add_noise(x0, z, t), rtol=1e-10, atol=1e-10
    )
    v = v_from_score(score_from_noise(z, x, sigma), x, sigma)
    torch.testing.assert_close(v, scheduler.get_velocity(x0, z, t), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("a", [0.0, -0.1, 1.1, float("nan")])
def test_a_signal_share_outside_its_range_is_refused(a: float) -> None:
    with pytest.raises(ValueError, match=r"alphas_cumprod must lie in \(0, 1\]"):
        sigma_from_alphas_cumprod(torch.tensor([0.5, a]))


@pytest.mark.parametrize("shape", [(2,), (3, 1), (1,)])
def test_a_sigma_of_another_batch_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"sigma must have shape \(\) or \(B,\) = \(3,\), got"):
        denoised_from_score(torch.zeros(3, 2), torch.zeros(3, 2), torch.ones(shape))
