"""The spectrum's statistics: what one record can move, by brute force, and what the sums mean."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from dpgen.networks.fixed.colour_cosines import ColourCosines
from dpgen.privacy.mechanisms.declared import NoisySum
from dpgen.stages.moments import unstack
from dpgen.stages.spectrum_moments import (
    ANGLE,
    N_BINS,
    WEIGHTS,
    SpectrumCentre,
    SpectrumMoments,
    SpectrumScale,
    bin_edges,
)
from tests.stages.test_moments import Held, Noiseless

SHAPE, K, N = (3, 4, 4), 3, 4000
BASIS = ColourCosines(SHAPE, 3)
M = BASIS.n_coefficients
Statistic = SpectrumCentre | SpectrumScale | SpectrumMoments


def centre() -> Tensor:
    return 0.5 * torch.randn(M, generator=torch.Generator().manual_seed(1)).double()


STATISTICS: dict[str, Statistic] = {
    "centre": SpectrumCentre(BASIS, K),
    "scale": SpectrumScale(BASIS, K).around(centre()),
    "moments": SpectrumMoments(BASIS, K, own_spread=False).around(centre(), 1.5),
    "own moments": SpectrumMoments(BASIS, K, own_spread=True).around(centre(), 1.5),
}


def worst_records() -> tuple[Tensor, Tensor]:
    """Records of every kind: uniform, corners of the cube, flat, at the centre, far outside."""
    generator = torch.Generator().manual_seed(0)
    part = N // 5
    uniform = 2 * torch.rand(part, *SHAPE, generator=generator) - 1
    corners = torch.rand(part, *SHAPE, generator=generator).round() * 2 - 1
    flat = torch.linspace(-1, 1, part)[:, None, None, None].expand(part, *SHAPE)
    at = BASIS.synthesise(centre()[None]).float()
    near = at + 1e-3 * torch.randn(part, *SHAPE, generator=generator)
    # No reader hands out such pixels; the bound does not lean on that.
    far = 1e4 * torch.randn(part, *SHAPE, generator=generator)
    pixels = torch.cat([uniform, corners, flat, near, far])
    return pixels, torch.randint(K, (N,), generator=generator)


def whole(statistic: Statistic, pixels: Tensor, labels: Tensor) -> Tensor:
    """What each record adds to all tables together, (N, numbers)."""
    found = []
    for name, block in statistic(pixels, labels).items():
        table = torch.zeros(len(labels), *statistic.tables[name], dtype=torch.float64)
        table[torch.arange(len(labels)), block.rows] = block.values.double()
        found.append(table.flatten(1))
    return torch.cat(found, 1)


@pytest.mark.parametrize("name", list(STATISTICS))
def test_no_pair_of_neighbours_is_further_apart_than_declared_and_some_are_that_far(
    name: str,
) -> None:
    statistic = STATISTICS[name]
    assert statistic.bound == 1.0
    added = whole(statistic, *worst_records())
    assert added.norm(dim=1).max() <= 1 + 1e-12
    assert added.norm(dim=1).max() >= 0.99
    apart = (added[:, None] - added[None, ::40]).flatten(0, 1).norm(dim=1)
    assert apart.max() <= 2 * (1 + 1e-12)
    assert apart.max() >= math.sqrt(2) * 0.99


@pytest.mark.parametrize("name", list(STATISTICS))
def test_a_release_moves_by_the_record_that_came_and_its_noise_is_that_of_the_bound(
    name: str,
) -> None:
    pixels, labels = worst_records()
    mechanism = NoisySum(STATISTICS[name], 2.0)
    assert mechanism.noise_std == 2.0
    base = mechanism.release(Held(pixels[:200], labels[:200]), Noiseless())  # type: ignore[arg-type]
    for i in (900, 1700, 2500, 3300):
        rows = [*range(200), i]
        more = mechanism.release(Held(pixels[rows], labels[rows]), Noiseless())  # type: ignore[arg-type]
        moved = torch.cat([(more[name] - base[name]).flatten() for name in base])
        assert 0 < moved.norm() <= 1.0


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", list(STATISTICS))
def test_a_record_that_is_no_number_adds_nothing(name: str, value: float) -> None:
    pixels, labels = (part[:50].clone() for part in worst_records())
    mechanism = NoisySum(STATISTICS[name], 1.0)
    without = mechanism.release(Held(pixels[:-1], labels[:-1]), Noiseless())  # type: ignore[arg-type]
    pixels[-1, 0, 1, 2] = value
    found = mechanism.release(Held(pixels, labels), Noiseless())  # type: ignore[arg-type]
    assert all(torch.equal(found[table], without[table]) for table in without)


def test_the_centre_is_the_sum_of_coefficients_and_counts_of_classes() -> None:
    pixels, labels = (part[:1600] for part in worst_records())
    mechanism = NoisySum(STATISTICS["centre"], 1.0)
    found = mechanism.release(Held(pixels, labels), Noiseless())  # type: ignore[arg-type]
    total = BASIS.analyse(pixels).sum(0) / BASIS.radius * math.cos(ANGLE)
    torch.testing.assert_close(found["sum"][0], total, rtol=1e-4, atol=1e-4)
    counts = torch.bincount(labels, minlength=K) * math.sin(ANGLE)
    torch.testing.assert_close(found["counts"][:, 0], counts.double(), rtol=1e-4, atol=1e-4)


def test_a_record_falls_into_the_bin_of_its_distance_from_the_centre() -> None:
    edges = [0.0, *bin_edges(BASIS.radius), math.inf]
    assert len(edges) == N_BINS + 1
    assert edges[-2] == pytest.approx(math.sqrt(2) * BASIS.radius)
    pixels, labels = worst_records()
    scale = STATISTICS["scale"]
    bins = scale(pixels, labels)["bins"].values.argmax(1)
    distances = (BASIS.analyse(pixels) - centre()).norm(dim=1)
    for distance, k in zip(distances.tolist(), bins.tolist(), strict=True):
        assert edges[k] * (1 - 1e-6) <= distance <= edges[k + 1] * (1 + 1e-6)


@pytest.mark.parametrize("own_spread", [False, True])
def test_moments_are_those_of_residuals_where_nothing_is_clipped(own_spread: bool) -> None:
    pixels, labels = (part[:1600] for part in worst_records())
    statistic = SpectrumMoments(BASIS, K, own_spread).around(centre(), 20.0)
    found = NoisySum(statistic, 1.0).release(Held(pixels, labels), Noiseless())  # type: ignore[arg-type]
    v = (BASIS.analyse(pixels) - centre()) / 20.0
    rest = pixels.double() - BASIS.synthesise(BASIS.analyse(pixels))
    f, g, h = WEIGHTS
    for k in range(K):
        own = v[labels == k]
        torch.testing.assert_close(found["sums"][k], f * own.sum(0), rtol=1e-4, atol=1e-4)
        energies = h * torch.stack([own.square().sum(), rest[labels == k].square().sum() / 20.0**2])
        torch.testing.assert_close(found["energies"][k], energies, rtol=1e-4, atol=1e-4)
        part = own if own_spread else v
        squares = unstack(found["squares"][k if own_spread else 0])
        torch.testing.assert_close(squares, g * part.T @ part, rtol=1e-4, atol=1e-4)


def test_releases_around_a_centre_are_refused_without_one() -> None:
    pixels, labels = (part[:2] for part in worst_records())
    for statistic in (SpectrumScale(BASIS, K), SpectrumMoments(BASIS, K, own_spread=True)):
        with pytest.raises(RuntimeError, match="around another one"):
            statistic(pixels, labels)
