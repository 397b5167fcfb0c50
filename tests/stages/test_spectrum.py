"""The spectrum: what noise is known to add is taken out, what is left is that of the records."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from dpgen.images.facts import PublicFacts
from dpgen.networks.fixed.colour_cosines import ColourCosines
from dpgen.networks.fixed.dead_leaves import dead_leaves
from dpgen.privacy.mechanisms.declared import NoisySum
from dpgen.stages.spectrum import estimates, scale_of, shrunk
from dpgen.stages.spectrum_moments import N_BINS, SpectrumMoments, bin_edges
from dpgen.stages.spectrum_settings import SpectrumSettings
from tests.stages.test_moments import Held, Noiseless

SHAPE, K, N = (3, 8, 8), 2, 3000
BASIS = ColourCosines(SHAPE, 5)
M = BASIS.n_coefficients


class Noisy(Noiseless):
    """A NoiseSource with a fixed seed."""

    def add(self, total: Tensor, std: float, *, release: int, name: str) -> Tensor:
        seed = sum(map(ord, name))
        noise = torch.randn(total.shape, generator=torch.Generator().manual_seed(seed))
        return total + std * noise.double()


def records() -> tuple[Tensor, Tensor]:
    """Procedural pictures, those of class 1 darker and with less contrast."""
    labels = torch.arange(N) % K
    x = dead_leaves(N, SHAPE, torch.Generator().manual_seed(0))
    return torch.where(labels[:, None, None, None] == 1, 0.5 * x - 0.4, x), labels


def estimated(
    own_spread: bool, noise_multiplier: float, source: Noiseless, mirrors: bool = False
) -> dict[str, Tensor]:
    pixels, labels = records()
    moments = SpectrumMoments(BASIS, K, own_spread).around(torch.zeros(M).double(), 14.0)
    mechanism = NoisySum(moments, noise_multiplier)
    tables = mechanism.release(Held(pixels, labels), source)  # type: ignore[arg-type]
    counts = torch.full((K,), N / K, dtype=torch.float64)
    return estimates(tables, counts, moments, mechanism.noise_std, N, mirrors=mirrors)


def test_without_noise_the_estimates_are_the_moments_of_the_records() -> None:
    pixels, labels = records()
    found = estimated(True, 1e-6, Noiseless())
    factors = found["factors"]
    assert (found["inside"] < 1e-3).all()
    for k in range(K):
        c = BASIS.analyse(pixels[labels == k])
        torch.testing.assert_close(found["means"][k], c.mean(0), rtol=1e-3, atol=1e-3)
        covariance = c.T.cov(correction=0)
        torch.testing.assert_close(factors[k] @ factors[k].T, covariance, rtol=1e-2, atol=2e-2)
        rest = pixels[labels == k].double() - BASIS.synthesise(c)
        energy = rest.square().sum() / (labels == k).sum()
        assert float(found["outside"][k]) == pytest.approx(float(energy), rel=1e-3)
    pooled = estimated(False, 1e-6, Noiseless())["factors"]
    within = sum(BASIS.analyse(pixels[labels == k]).T.cov(correction=0) for k in range(K)) / K
    torch.testing.assert_close(pooled[0] @ pooled[0].T, within, rtol=1e-2, atol=2e-2)


def test_where_mirror_images_are_as_likely_the_estimates_are_of_records_and_their_mirrors() -> None:
    """Without noise they are those of both together, with it they are nearer to them."""
    pixels, labels = records()
    doubled = torch.cat([pixels, pixels.flip(-1)])
    found = estimated(True, 1e-6, Noiseless(), mirrors=True)
    for k in range(K):
        c = BASIS.analyse(doubled[labels.repeat(2) == k])
        torch.testing.assert_close(found["means"][k], c.mean(0), rtol=1e-3, atol=1e-3)
        covariance = found["factors"][k] @ found["factors"][k].T
        torch.testing.assert_close(covariance, c.T.cov(correction=0), rtol=1e-2, atol=2e-2)

    def error(mirrors: bool) -> float:
        found = estimated(True, 3.0, Noisy(), mirrors=mirrors)
        rows = [BASIS.analyse(doubled[labels.repeat(2) == k]) for k in range(K)]
        within = torch.stack([c.T.cov(correction=0) for c in rows])
        return float((found["factors"] @ found["factors"].mT - within).norm())

    assert error(True) < 0.95 * error(False)


@pytest.mark.parametrize("own_spread", [True, False])
def test_with_noise_the_energy_stays_and_means_are_nearer_than_raw_ones(own_spread: bool) -> None:
    pixels, labels = records()
    found = estimated(own_spread, 30.0, Noisy())
    factors = found["factors"]
    truth = torch.stack([BASIS.analyse(pixels[labels == k]).mean(0) for k in range(K)])
    raw_error = 30.0 / math.sqrt(0.45) / (N / K) * 14.0 * math.sqrt(M * K)
    assert float((found["means"] - truth).norm()) < 0.6 * raw_error
    assert all(part.isfinite().all() for part in found.values())
    assert found["inside"].min() >= 0 and found["outside"].min() >= 0
    for k in range(K):
        factor = factors[k if own_spread else 0]
        assert torch.linalg.eigvalsh(factor).min() > -1e-9
        energy = BASIS.analyse(pixels[labels == k]).var(0).sum()
        assert 0.4 * energy < factor.square().sum() + found["inside"][k] < 2.5 * energy


def test_noise_alone_is_shrunk_to_next_to_nothing_and_signal_is_kept() -> None:
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(4, M, generator=generator).double()
    ones = torch.ones(4, dtype=torch.float64)
    assert shrunk(noise, ones, BASIS.typical).norm() < 0.7 * noise.norm()
    strong = 100 * noise
    torch.testing.assert_close(shrunk(strong, ones, BASIS.typical), strong, rtol=0.2, atol=1.0)
    assert not shrunk(torch.zeros(1, M).double(), ones[:1], BASIS.typical).any()


def test_the_scale_holds_most_records_and_noise_cannot_empty_it() -> None:
    edges, bins = bin_edges(BASIS.radius), torch.zeros(N_BINS, dtype=torch.float64)
    bins[3], bins[8] = 900, 100
    assert scale_of(bins, BASIS.radius, 1000) == edges[3]
    bins[3], bins[8] = 500, 500
    assert scale_of(bins, BASIS.radius, 1000) == edges[8]
    assert scale_of(torch.full_like(bins, -50.0), BASIS.radius, 1000) == edges[-1]


def test_open_settings_are_filled_in_from_public_facts() -> None:
    def resolved(n: int, k: int) -> tuple[int | None, bool | None]:
        found = SpectrumSettings().resolved(PublicFacts(SHAPE, tuple(map(str, range(k))), n))
        return found.bands, found.own_spread

    assert resolved(60, 2) == (8, False)
    assert resolved(720, 2) == (14, True)
    assert resolved(50_000, 100) == (14, False)
    assert SpectrumSettings(bands=3).resolved(PublicFacts(SHAPE, ("a",), 60)).bands == 3


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"bands": 0}, "bands must be at least 1, got 0"),
        ({"centre_share": 0.0}, r"centre_share must lie in \(0, 1\), got 0.0"),
        ({"scale_share": 1.0}, r"scale_share must lie in \(0, 1\), got 1.0"),
        ({"centre_share": 0.5, "scale_share": 0.5}, "must leave something, got 0.5 and 0.5"),
        ({"detail": -1.0}, "detail must be at least 0, got -1.0"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, float], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        SpectrumSettings(**settings)  # type: ignore[arg-type]
