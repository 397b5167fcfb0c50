from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor

from dpgen.evaluation import feature_distances
from dpgen.evaluation.extraction import Statistics, statistics
from dpgen.evaluation.feature_distances import (
    density_coverage,
    frechet_distance,
    kernel_distance,
    precision_recall,
    score,
)


def normal(n: int, d: int, seed: int) -> Tensor:
    return torch.randn(n, d, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def frechet_by_eigh(a: Statistics, b: Statistics) -> float:
    """With tr (S^(1/2) S' S^(1/2))^(1/2) of symmetric matrices only."""
    values, vectors = torch.linalg.eigh(a.covariance)
    root = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    product = torch.linalg.eigvalsh(root @ b.covariance @ root).clamp(min=0).sqrt().sum()
    trace = a.covariance.trace() + b.covariance.trace()
    return float((a.mean - b.mean).square().sum() + trace - 2 * product)


def mean_and_error(values: list[float]) -> tuple[float, float]:
    return float(np.mean(values)), float(np.std(values, ddof=1) / math.sqrt(len(values)))


def test_frechet_distance_of_diagonal_gaussians_is_exact() -> None:
    a = Statistics(
        torch.empty(0),
        torch.tensor([1.0, 2.0]).double(),
        torch.diag(torch.tensor([4.0, 9.0])).double(),
    )
    b = Statistics(
        torch.empty(0),
        torch.tensor([4.0, -2.0]).double(),
        torch.diag(torch.tensor([1.0, 25.0])).double(),
    )
    # |(3, 4)|^2 + (2 - 1)^2 + (3 - 5)^2
    assert frechet_distance(a, b) == pytest.approx(30, rel=1e-12)


def test_frechet_distance_agrees_with_a_symmetric_formula() -> None:
    mixing = normal(5, 5, 0)
    a, b = statistics(normal(200, 5, 1) @ mixing), statistics(0.7 + normal(150, 5, 2))
    # Square roots of eigenvalues that are right to 1e-16 are right to about 1e-8 at worst.
    assert frechet_distance(a, b) == pytest.approx(frechet_by_eigh(a, b), rel=1e-8)


def test_frechet_distance_stands_fewer_images_than_features() -> None:
    a, b = statistics(normal(20, 50, 0)), statistics(normal(25, 50, 1))
    # 30 eigenvalues that should be 0 come out as about 1e-16 |S|^2: roots of 1e-8 |S| each.
    slack = 2 * 50 * 1e-8 * float(torch.linalg.matrix_norm(a.covariance, 2))
    assert frechet_distance(a, b) == pytest.approx(frechet_by_eigh(a, b), abs=slack)


def test_frechet_distance_of_samples_of_one_gaussian_has_its_known_bias() -> None:
    # To first order E|m - m'|^2 = tr S (1/n + 1/n'), and with dS = S_n - S_n' the rest is
    # sum_ij dS_ij^2 / (2 (l_i + l_j)) with E dS_ij^2 = l_i l_j (1 + [i = j]) (1/(n-1) + 1/(n'-1)).
    eigenvalues, n, m = torch.tensor([4.0, 1.0, 0.25], dtype=torch.float64), 1000, 500
    pairs = eigenvalues[:, None] * eigenvalues * (1 + torch.eye(3))
    covariances = (pairs / (2 * (eigenvalues[:, None] + eigenvalues))).sum()
    expected = float(
        eigenvalues.sum() * (1 / n + 1 / m) + covariances * (1 / (n - 1) + 1 / (m - 1))
    )
    found = [
        frechet_distance(
            statistics(normal(n, 3, 2 * i) * eigenvalues.sqrt()),
            statistics(normal(m, 3, 2 * i + 1) * eigenvalues.sqrt()),
        )
        for i in range(200)
    ]
    mean, error = mean_and_error(found)
    # The next order is smaller by about d / m = 0.006.
    assert abs(mean - expected) < 4 * error + 0.01 * expected
    assert error < 0.1 * expected


def test_frechet_distance_of_two_gaussians_approaches_the_closed_form() -> None:
    # |(1, 0)|^2 + (2 - 1)^2 + (1 - 0.5)^2; n = 20,000 leaves a bias of order d / n = 1e-4.
    found = [
        frechet_distance(
            statistics(normal(20_000, 2, 2 * i) * torch.tensor([2.0, 1.0])),
            statistics(
                normal(20_000, 2, 2 * i + 1) * torch.tensor([1.0, 0.5]) + torch.tensor([1.0, 0.0])
            ),
        )
        for i in range(20)
    ]
    mean, error = mean_and_error(found)
    assert abs(mean - 2.25) < 4 * error + 5e-4
    assert error < 0.02


def test_statistics_of_single_precision_features_are_those_in_double() -> None:
    features = (1000 + normal(5000, 3, 0)).float()
    found = statistics(features)
    exact = features.double()
    # Added up in float32 the mean would be off by about 1e-3.
    assert torch.allclose(found.mean, exact.mean(dim=0), rtol=1e-12)
    assert torch.allclose(found.covariance, exact.T.cov(), rtol=1e-9)
    assert found.covariance.dtype == torch.float64
    assert statistics(features[:, :1]).covariance.shape == (1, 1)


def kernel_by_hand(x: Tensor, y: Tensor) -> float:
    def k(a: Tensor, b: Tensor) -> float:
        return (float(a @ b) / len(a) + 1) ** 3

    n, m = len(x), len(y)
    among_x = sum(k(x[i], x[j]) for i, j in product(range(n), repeat=2) if i != j)
    among_y = sum(k(y[i], y[j]) for i, j in product(range(m), repeat=2) if i != j)
    across = sum(k(a, b) for a in x for b in y)
    return among_x / (n * (n - 1)) + among_y / (m * (m - 1)) - 2 * across / (n * m)


def test_kernel_distance_is_the_unbiased_polynomial_mmd() -> None:
    x, y = normal(12, 3, 0), normal(12, 3, 1) + 1
    mean, std = kernel_distance(x, y, n_subsets=2, subset_size=12, seed=0)
    assert mean == pytest.approx(kernel_by_hand(x, y), rel=1e-12)
    assert std == pytest.approx(0, abs=1e-12)


def test_kernel_distance_averages_to_the_closed_form() -> None:
    # With D = 1: (x y + 1)^3 = sum_j C(3, j) x^j y^j, so MMD^2 = sum_j C(3, j) (E x^j - E y^j)^2,
    # of N(0, 1) and N(1, 1): 3 (0 - 1)^2 + 3 (1 - 2)^2 + (0 - 4)^2.
    found = [
        kernel_distance(
            normal(40, 1, 2 * i), normal(40, 1, 2 * i + 1) + 1, n_subsets=5, subset_size=20, seed=i
        )[0]
        for i in range(1000)
    ]
    mean, error = mean_and_error(found)
    assert abs(mean - 22) < 4 * error
    assert error < 1


def test_kernel_distance_does_not_lose_its_digits_in_single_precision() -> None:
    x, y = (30 + normal(50, 2, 0)).float(), (30 + normal(50, 2, 1)).float()
    mean, _ = kernel_distance(x, y, n_subsets=1, subset_size=50, seed=0)
    # Kernels are about 7e8 and leave 5e2 or so; float32 has 7 digits.
    assert mean == pytest.approx(kernel_by_hand(x.double(), y.double()), rel=1e-9)


def test_score_follows_its_definition() -> None:
    logits = normal(40, 5, 0)
    p = logits.softmax(dim=1)
    divergence = (p * (p.log() - p.mean(dim=0).log())).sum(dim=1).mean()
    mean, std = score(logits, n_parts=1, seed=0)
    assert mean == pytest.approx(float(divergence.exp()), rel=1e-12)
    assert std == 0


def test_score_is_the_number_of_classes_at_best_and_one_at_worst() -> None:
    certain = 100 * torch.eye(7).repeat(3, 1)
    assert score(certain, n_parts=1, seed=0)[0] == pytest.approx(7, rel=1e-12)
    assert score(normal(1, 7, 0).expand(20, -1), n_parts=4, seed=0) == pytest.approx((1, 0))


def radius(points: Tensor, i: int, k: int) -> float:
    return sorted(float((points[i] - p).norm()) for j, p in enumerate(points) if j != i)[k - 1]


def test_precision_and_recall_follow_their_definition() -> None:
    fake, real = normal(30, 2, 0) * 0.7, normal(40, 2, 1)

    def share(points: Tensor, among: Tensor, k: int) -> float:
        radii = [radius(among, j, k) for j in range(len(among))]
        held = [
            any(float((p - q).norm()) <= r for q, r in zip(among, radii, strict=True))
            for p in points
        ]
        return sum(held) / len(held)

    for k in (1, 2, 4):
        found = precision_recall(fake, real, k=k)
        assert found == pytest.approx((share(fake, real, k), share(real, fake, k)), rel=1e-6)
    assert precision_recall(fake, real, k=1) != precision_recall(fake, real, k=4)


def brute_density_coverage(fake: Tensor, real: Tensor, k: int) -> tuple[float, float]:
    radii = [radius(real, j, k) for j in range(len(real))]
    held = [
        [float((f - r).norm()) < limit for f in fake] for r, limit in zip(real, radii, strict=True)
    ]
    density = sum(map(sum, held)) / (k * len(fake))
    return density, sum(map(any, held)) / len(real)


@pytest.mark.parametrize("chunk", [7, 1024])
@pytest.mark.parametrize("k", [1, 3])
def test_density_and_coverage_follow_their_definition(
    chunk: int, k: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feature_distances, "CHUNK", chunk)
    fake, real = normal(25, 2, 0) * 0.7, normal(40, 2, 1)
    assert density_coverage(fake, real, k=k) == brute_density_coverage(fake, real, k)


def test_balls_of_density_are_open() -> None:
    # Distances on this line are exact. Neighbours at 1: with k = 1 no ball holds another point.
    line = torch.arange(6.0)[:, None]
    assert density_coverage(line, line, k=1) == (1.0, 1.0)
    assert density_coverage(line + 1, line, k=1) == (5 / 6, 5 / 6)
    assert density_coverage(line + 0.5, line, k=1) == (11 / 6, 1.0)


def test_density_and_coverage_of_equal_distributions_average_to_their_expectations() -> None:
    # Not covered: the k nearest of N - 1 + M exchangeable points are all real.
    n, m, k = 30, 20, 3
    uncovered = math.comb(n - 1, k) / math.comb(n - 1 + m, k)
    found = [
        density_coverage(normal(m, 3, 2 * i), normal(n, 3, 2 * i + 1), k=k) for i in range(300)
    ]
    density, density_error = mean_and_error([d for d, _ in found])
    coverage, coverage_error = mean_and_error([c for _, c in found])
    assert abs(density - 1) < 4 * density_error < 0.1
    assert abs(coverage - (1 - uncovered)) < 4 * coverage_error < 0.05


def test_distances_survive_features_far_from_the_origin() -> None:
    # |x|^2 is 3e8 and squared distances are about 1: float32 would have none of their digits.
    fake, real = (1e4 + normal(60, 3, 0)).float(), (1e4 + normal(70, 3, 1)).float()
    near_fake, near_real = fake.double() - 1e4, real.double() - 1e4
    assert density_coverage(fake, real, k=3) == brute_density_coverage(near_fake, near_real, 3)
    assert precision_recall(fake, real, k=3) == precision_recall(near_fake, near_real, k=3)
