"""Classifier guidance: Bayes' rule on laws where both sides are known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from samplers import DDIM, Annealed, Hamiltonian, Karras, classifier_guided, posterior_guided
from tests.samplers.conftest import Gaussian, Mixture

WEIGHTS = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
MEANS = torch.tensor([[0.0, 0.0], [3.0, 1.0], [-2.0, 2.0]], dtype=torch.float64)
STDS = torch.tensor([0.5, 0.8, 0.3], dtype=torch.float64)
WHOLE = Mixture(WEIGHTS, MEANS, STDS)


def component(k: int) -> Mixture:
    return Mixture(torch.ones(1, dtype=torch.float64), MEANS[k : k + 1], STDS[k : k + 1])


def log_likelihood(labels: Tensor):  # noqa: ANN201
    """log p_sigma(y | x) of the mixture: the share of component y in the density at x."""

    def of(x: Tensor, sigma: Tensor) -> Tensor:
        parts = WHOLE._terms(x, sigma)[0].log_softmax(-1)
        return parts[torch.arange(len(x)), labels]

    return of


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("sigma", [0.05, 0.7, 5.0])
def test_a_mixture_guided_by_its_own_posterior_has_the_score_of_one_component(sigma: float) -> None:
    x, labels = 2 * normal(60, 2), torch.arange(60) % 3
    level = torch.tensor(sigma, dtype=torch.float64)
    with torch.no_grad():  # as a sampler calls it
        guided = classifier_guided(WHOLE.score, log_likelihood(labels))(x, level)
    assert not guided.requires_grad
    for k in range(3):
        mine = labels == k
        torch.testing.assert_close(guided[mine], component(k).score(x[mine], level))


def test_weight_zero_is_the_score_and_the_tilt_is_linear_in_the_weight() -> None:
    x, labels, level = normal(9, 2), torch.arange(9) % 3, torch.tensor(0.4, dtype=torch.float64)
    none, one, two = (
        classifier_guided(WHOLE.score, log_likelihood(labels), w)(x, level) for w in (0.0, 1.0, 2.0)
    )
    torch.testing.assert_close(none, WHOLE.score(x, level))
    torch.testing.assert_close(two - one, one - none)


@pytest.mark.parametrize("kernel", [None, Hamiltonian(0.3, 2)])
def test_guided_sampling_is_sampling_of_the_component(kernel: Hamiltonian | None) -> None:
    """Step by step, with the same noise."""
    score_fn = classifier_guided(WHOLE.score, log_likelihood(torch.full((50,), 1)))
    sampler = Annealed(Karras(12, sigma_min=0.05, sigma_max=10.0), DDIM(), kernel)
    start = normal(50, 2, seed=1)
    one, other = (
        sampler(score, start, generator=torch.Generator().manual_seed(1))
        for score in (score_fn, component(1).score)
    )
    torch.testing.assert_close(one, other, rtol=0, atol=1e-9)


def test_a_linear_observation_of_a_gaussian_tilts_by_its_known_amount() -> None:
    """D is linear for a Gaussian, D = m + C (C + sigma^2)^-1 (x - m), and log p(y | x_0) =
    -|x_0 - y|^2 / (2 r^2), so the tilt is (C + sigma^2)^-1 C (y - D) / r^2.
    """
    covariance = torch.tensor([[1.0, 0.4], [0.4, 0.5]], dtype=torch.float64)
    law = Gaussian(torch.tensor([0.5, -1.0], dtype=torch.float64), covariance)
    y, r, level = normal(7, 2, seed=3), 0.6, torch.tensor(0.8, dtype=torch.float64)
    x = normal(7, 2, seed=4)

    def observed(clean: Tensor) -> Tensor:
        return -(clean - y).square().sum(1) / (2 * r**2)

    with torch.no_grad():
        guided = posterior_guided(law.score, observed, 1.7)(x, level)
    denoised = x + level**2 * law.score(x, level)
    tilt = (y - denoised) / r**2 @ (covariance @ law.at(level).inverse())
    assert not guided.requires_grad
    torch.testing.assert_close(guided, law.score(x, level) + 1.7 * tilt)


def test_an_item_is_tilted_by_its_own_likelihood_alone() -> None:
    x, labels, level = normal(6, 2), torch.arange(6) % 3, torch.tensor(0.4, dtype=torch.float64)
    whole = classifier_guided(WHOLE.score, log_likelihood(labels))(x, level)
    alone = classifier_guided(WHOLE.score, log_likelihood(labels[2:3]))(x[2:3], level)
    torch.testing.assert_close(whole[2:3], alone)


def test_the_given_state_is_left_as_it_is() -> None:
    x, level = normal(4, 2), torch.tensor(0.4, dtype=torch.float64)
    before = x.clone()
    classifier_guided(WHOLE.score, log_likelihood(torch.zeros(4, dtype=torch.long)))(x, level)
    posterior_guided(WHOLE.score, lambda clean: -clean.square().sum(1))(x, level)
    assert torch.equal(x, before) and not x.requires_grad
