"""The exact denoiser of a Gaussian against linear algebra in float64, and its samples' moments."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from dpgen.networks.fixed.cosines import Cosines
from dpgen.networks.gaussian import GaussianDenoiser

SHAPE, BANDS, N_CLASSES, REST = (2, 4, 4), 3, 3, 0.2
SIGMAS = (0.01, 0.3, 2.0, 50.0)


class Truth:
    """The law itself: means (K + 1, D) and covariances (K + 1, D, D), the null class last."""

    def __init__(self, rest: float = REST, bands: int = BANDS) -> None:
        generator = torch.Generator().manual_seed(0)
        self.cosines = Cosines(SHAPE, bands)
        m, d = self.cosines.n_coefficients, 32
        basis = self.cosines.synthesise(torch.eye(m, dtype=torch.float64)).T  # (D, m)
        root = 0.3 * torch.randn(N_CLASSES, m, m, generator=generator, dtype=torch.float64)
        self.class_means = 0.2 * torch.randn(N_CLASSES, d, generator=generator).double()
        self.coefficients = root @ root.mT + 0.01 * torch.eye(m, dtype=torch.float64)
        outside = torch.eye(d, dtype=torch.float64) - basis @ basis.T
        common = self.class_means.mean(0)
        # What the basis cannot show of the classes' distances is left to the rest.
        spread = (self.class_means - common) @ basis
        mixed = self.coefficients.mean(0) + spread.T @ spread / N_CLASSES
        inside = torch.cat([self.coefficients, mixed[None]])
        self.means = torch.cat([self.class_means, common[None]])
        self.covariances = basis @ inside @ basis.T + rest**2 * outside

    def posterior_mean(self, x: Tensor, sigma: float, label: int) -> Tensor:
        """E[x_0 | x_0 + sigma z = x] = m + S (S + sigma^2 I)^-1 (x - m), for rows x (B, D)."""
        s, m = self.covariances[label], self.means[label]
        noisy = s + sigma**2 * torch.eye(len(m), dtype=torch.float64)
        return m + torch.linalg.solve(noisy, (x.double() - m).T).T @ s

    def denoiser(self, rest: float = REST) -> GaussianDenoiser:
        network = GaussianDenoiser(self.cosines, N_CLASSES, 0.5)
        network.set(self.class_means, self.coefficients, rest)
        return network


@pytest.mark.parametrize("sigma", SIGMAS)
@pytest.mark.parametrize("bands", [BANDS, 7])
def test_it_is_the_posterior_mean_of_every_class_and_of_their_mixture(
    sigma: float, bands: int
) -> None:
    truth = Truth(bands=bands)
    network = truth.denoiser()
    x = sigma * torch.randn(5, *SHAPE, generator=torch.Generator().manual_seed(1))
    for label in range(N_CLASSES + 1):
        found = network(x, torch.full((5,), sigma), torch.full((5,), label))
        expected = truth.posterior_mean(x.flatten(1), sigma, label)
        torch.testing.assert_close(
            found.flatten(1).double(), expected, atol=2e-5 * max(1, sigma), rtol=1e-4
        )


def test_images_of_one_batch_do_not_meet() -> None:
    network = Truth().denoiser()
    x = torch.randn(4, *SHAPE, generator=torch.Generator().manual_seed(2))
    sigma, labels = torch.tensor([0.1, 1.0, 3.0, 0.5]), torch.tensor([0, 2, 1, 3])
    together = network(x, sigma, labels)
    for i in range(4):
        alone = network(x[i : i + 1], sigma[i : i + 1], labels[i : i + 1])
        torch.testing.assert_close(together[i : i + 1], alone)


def test_labels_above_the_null_class_are_the_null_class() -> None:
    network = Truth().denoiser()
    x, sigma = torch.randn(1, *SHAPE), torch.ones(1)
    null = network(x, sigma, torch.tensor([N_CLASSES]))
    assert torch.equal(null, network(x, sigma, torch.tensor([N_CLASSES + 4])))
    assert not torch.allclose(null, network(x, sigma, torch.tensor([0])))


def test_before_set_it_is_the_posterior_mean_of_white_noise() -> None:
    network = GaussianDenoiser(Cosines(SHAPE, BANDS), N_CLASSES, 0.5)
    x = torch.randn(3, *SHAPE, generator=torch.Generator().manual_seed(3))
    found = network(x, torch.full((3,), 0.7), torch.tensor([0, 1, 3]))
    torch.testing.assert_close(found, x * 0.25 / (0.25 + 0.49))


@pytest.mark.parametrize("label", [0, 2, N_CLASSES])
def test_samples_have_the_law_that_the_denoiser_denoises(label: int) -> None:
    """Moments of 40,000 draws within five standard errors; clipping, at 0.5 std, does not reach."""
    truth = Truth()
    network, n = truth.denoiser(), 40_000
    network.means *= 0.1  # far from the clip at 1
    network.values *= 0.01
    network.rest *= 0.01
    labels = torch.full((n,), label)
    x = network.sample(labels, torch.Generator().manual_seed(4)).flatten(1).double()
    assert x.abs().max() < 1
    mean, covariance = 0.1 * truth.means[label], 0.01 * truth.covariances[label]
    variance = covariance.diagonal()
    assert ((x.mean(0) - mean).abs() < 5 * (variance / n).sqrt()).all()
    centred = x - mean
    found = centred.T @ centred / n
    error = ((variance[:, None] * variance + covariance**2) / n).sqrt()
    assert ((found - covariance).abs() < 5 * error).all()


def test_samples_are_images_and_follow_their_generator() -> None:
    network = Truth().denoiser()
    network.values *= 100
    draws = [
        network.sample(torch.tensor([0, 1, 2, 0]), torch.Generator().manual_seed(seed))
        for seed in (5, 5, 6)
    ]
    assert draws[0].shape == (4, *SHAPE) and draws[0].abs().max() == 1
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])


def test_what_was_set_travels_with_the_weights() -> None:
    network = Truth().denoiser()
    fresh = GaussianDenoiser(Cosines(SHAPE, BANDS), N_CLASSES, 0.5)
    fresh.load_state_dict(network.state_dict())
    x = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(7))
    sigma, labels = torch.tensor([0.5, 2.0]), torch.tensor([1, 3])
    assert torch.equal(fresh(x, sigma, labels), network(x, sigma, labels))
    assert not list(network.parameters()), "released numbers are not trained"
