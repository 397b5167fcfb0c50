"""From noisy sums to a Gaussian model: the truth where there is no noise, and no more than noise
allows.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from dpgen.networks.fixed.cosines import Cosines
from dpgen.networks.gaussian import GaussianDenoiser
from dpgen.privacy.mechanisms.declared import NoisySum
from dpgen.runs.checkpoint import Checkpoints
from dpgen.stages import warm_start
from dpgen.stages.moments import ClassMeans, ClassSpread, stack
from dpgen.stages.warm_start import class_covariances, class_means, denoise

SHAPE, K, D = (1, 4, 4), 3, 16


def means_statistic(n_classes: int = K) -> ClassMeans:
    return ClassMeans(SHAPE, n_classes, centre=-0.4, radius=50.0, count_weight=1.0)


def law(n_classes: int = K) -> tuple[Tensor, Tensor]:
    """Class means (K, D) and covariances (K, D, D) in pixels."""
    generator = torch.Generator().manual_seed(0)
    mean = 0.2 * torch.randn(n_classes, D, generator=generator).double()
    root = 0.1 * torch.randn(n_classes, D, D, generator=generator).double()
    return mean, root @ root.mT + 0.02 * torch.eye(D, dtype=torch.float64)


def test_without_noise_class_means_and_counts_are_the_truth() -> None:
    truth, _ = law()
    counts = torch.tensor([500.0, 1000.0, 1500.0], dtype=torch.float64)
    sums = torch.cat([(truth + 0.4) * counts[:, None], counts[:, None]], 1)
    found, n = class_means(sums, means_statistic(), 1e-9, 3000)
    torch.testing.assert_close(n, counts)
    torch.testing.assert_close(found, truth, atol=1e-9, rtol=0)


def test_one_class_is_its_own_common_mean() -> None:
    truth, _ = law(1)
    sums = torch.cat([(truth + 0.4) * 800, torch.full((1, 1), 800.0)], 1)
    found, n = class_means(sums, means_statistic(1), 5.0, 800)
    torch.testing.assert_close(found, truth, atol=1e-9, rtol=0)
    assert n.tolist() == [800.0]


def test_means_lie_nearer_the_truth_than_the_noisy_ones_they_are_made_of() -> None:
    """Shrinking by the known noise never hurts much and helps where noise is all there is."""
    generator = torch.Generator().manual_seed(1)
    truth, _ = law()
    truth = truth.mean(0) + 0.2 * (truth - truth.mean(0))
    counts, noise = torch.full((K, 1), 100.0).double(), 20.0
    raw_error = own_error = 0.0
    for _ in range(40):
        sums = torch.cat([(truth + 0.4) * counts, counts], 1)
        sums = sums + noise * torch.randn(sums.shape, generator=generator).double()
        found, _ = class_means(sums, means_statistic(), noise, 100 * K)
        own_error += (found - truth).square().sum().item()
        raw_error += (sums[:, :-1] / counts - 0.4 - truth).square().sum().item()
    assert own_error < 0.6 * raw_error


def test_counts_of_balanced_classes_are_pulled_to_balance_and_never_below_a_tenth() -> None:
    sums = torch.zeros(K, D + 1).double()
    sums[:, -1] = torch.tensor([130.0, 90.0, 80.0])  # deviations that noise of 60 explains
    _, counts = class_means(sums, means_statistic(), 60.0, 300)
    torch.testing.assert_close(counts, torch.full((K,), 100.0).double())
    sums[:, -1] = torch.tensor([10_000.0, -9_000.0, 90.0])
    _, counts = class_means(sums, means_statistic(), 1.0, 300)
    assert counts.min() == pytest.approx(10.0)


@pytest.mark.parametrize("blend", [0.0, 0.5, 1.0])
def test_without_noise_class_covariances_are_the_blend_of_the_truth(blend: float) -> None:
    _, truth = law()
    counts = torch.tensor([500.0, 1000.0, 1500.0], dtype=torch.float64)
    squares = stack(truth * counts[:, None, None])
    found = class_covariances(squares, counts, 1e-9, 3000, blend)
    pooled = (truth * counts[:, None, None]).sum(0) / 3000
    expected = pooled + blend * (truth - pooled)
    floor = 0.3 * torch.linalg.eigvalsh(pooled)[0] + 1e-3
    assert torch.linalg.eigvalsh(expected).min() > floor, "the floor lies below this law"
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-3)


def test_covariances_are_positive_definite_whatever_the_noise() -> None:
    generator = torch.Generator().manual_seed(2)
    counts = torch.full((K,), 10.0).double()
    for noise in (1.0, 100.0, 1e4):
        squares = noise * torch.randn(K, D * (D + 1) // 2, generator=generator).double()
        found = class_covariances(squares, counts, noise, 30, 1.0)
        assert torch.linalg.eigvalsh(found).min() > 0
        torch.testing.assert_close(found, found.mT)


def test_denoising_pure_noise_leaves_a_flat_spectrum() -> None:
    m, noise = 40, 0.3
    generator = torch.Generator().manual_seed(3)
    flatness = []
    for _ in range(10):
        a = torch.randn(m, m, generator=generator).double() * noise
        symmetric = torch.triu(a) / math.sqrt(2)
        symmetric = symmetric + torch.triu(symmetric, 1).mT
        symmetric.diagonal().mul_(math.sqrt(2))
        values = torch.linalg.eigvalsh(denoise(symmetric + torch.eye(m) * 0.05, noise))
        flatness.append((values.max() - values.min()).item())
        # Without it the spectrum has the width of the semicircle.
        assert torch.linalg.eigvalsh(symmetric).max() > 0.8 * noise * math.sqrt(2 * m)
    assert sorted(flatness)[5] < 0.25 * noise * math.sqrt(2 * m)


def test_denoising_keeps_the_trace_and_without_noise_the_matrix() -> None:
    _, truth = law(1)
    torch.testing.assert_close(denoise(truth[0], 0.0), truth[0] + 1e-4 * torch.eye(D))
    noisy = truth[0] + 1e-3
    assert denoise(noisy, 0.02).trace().item() == pytest.approx(noisy.trace().item(), rel=0.02)


def test_denoising_shrinks_a_strong_direction_by_what_noise_adds() -> None:
    """A spike of size s under this noise shows up at s + edge^2 / (4 s), and is put back near s."""
    m, noise, size = 60, 0.1, 5.0
    generator = torch.Generator().manual_seed(4)
    direction = torch.nn.functional.normalize(torch.randn(m, generator=generator).double(), dim=0)
    a = torch.randn(m, m, generator=generator).double() * noise / math.sqrt(2)
    symmetric = torch.triu(a, 1) + torch.triu(a, 1).mT + math.sqrt(2) * torch.diag(a.diagonal())
    noisy = size * torch.outer(direction, direction) + symmetric
    top = torch.linalg.eigvalsh(denoise(noisy, noise))[-1].item()
    assert top == pytest.approx(size, abs=3 * noise + 0.1)


class Quiet:
    """Gaussian records of the law behind the two doors, all but noiseless; counts the answers."""

    def __init__(self, n: int) -> None:
        mean, covariance = law()
        generator = torch.Generator().manual_seed(5)
        self.labels = torch.arange(n) % K
        root = torch.linalg.cholesky(covariance)[self.labels]
        z = torch.randn(n, D, generator=generator).double()
        self.pixels = (mean[self.labels] + torch.einsum("nij,nj->ni", root, z)).float()
        self.n_slots, self.asked, self.finished = n, [], []  # type: ignore[var-annotated]

    def read(self, slots: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
        rows = torch.from_numpy(slots)
        pixels = self.pixels[rows].reshape(-1, *SHAPE)
        return pixels, self.labels[rows], torch.ones(len(rows), dtype=torch.bool)

    def for_question(self, question: str) -> Quiet:
        return self

    def add(self, total: Tensor, std: float, *, release: int, name: str) -> Tensor:
        generator = torch.Generator().manual_seed(6)
        return total + std * torch.randn(total.shape, generator=generator, dtype=torch.float64)

    def release(self, mechanism: NoisySum, *, label: str) -> dict[str, Tensor]:
        self.asked.append(label)
        return mechanism.release(self, self, micro_batch=5_000)  # type: ignore[arg-type]

    def save_state(
        self, checkpoints: Checkpoints, label: str, tables: dict[str, Tensor], *, step: int
    ) -> None:
        checkpoints.save(label, tables, step=step)

    def finish(self, label: str, mechanism: NoisySum) -> None:
        self.finished.append(label)


def test_many_records_and_little_noise_recover_the_law_in_two_releases_that_are_kept(
    tmp_path: Path,
) -> None:
    n = 60_000
    data = Quiet(n)
    means = NoisySum(means_statistic(), 0.02)
    spread = NoisySum(ClassSpread(Cosines(SHAPE, 7), K, radius=20.0), 0.05)
    states = Checkpoints(tmp_path)
    found = warm_start.run(data, means, spread, n, 1.0, states, show=False)  # type: ignore[arg-type]
    mean, covariance = law()
    # Six standard errors of a mean over 20,000 records.
    worst = covariance.diagonal(dim1=1, dim2=2).max().sqrt().item() / math.sqrt(n / K)
    assert (found.means - mean).abs().max() < 6 * worst
    basis = Cosines(SHAPE, 7).synthesise(torch.eye(D, dtype=torch.float64))
    pixels = basis.T @ found.covariances @ basis
    scale = torch.linalg.matrix_norm(covariance)
    assert (torch.linalg.matrix_norm(pixels - covariance) / scale).max() < 0.03
    assert found.rest == 0.0, "every coefficient is in the basis"
    assert data.asked == data.finished == [warm_start.MEANS, warm_start.SPREAD]
    # Asked again after a kill, nothing is released again and the model is the same.
    again = warm_start.run(data, means, spread, n, 1.0, states, show=False)  # type: ignore[arg-type]
    assert data.asked == [warm_start.MEANS, warm_start.SPREAD] and len(data.finished) == 4
    assert torch.equal(again.means, found.means)
    assert torch.equal(again.covariances, found.covariances)
    prior = GaussianDenoiser(Cosines(SHAPE, 7), K, 0.5)
    prior.set(*found)
    torch.testing.assert_close(prior.means[:K].flatten(1).double(), found.means, atol=1e-6, rtol=0)


def test_a_basis_that_is_not_whole_leaves_a_little_for_the_rest(tmp_path: Path) -> None:
    data = Quiet(300)
    means = NoisySum(means_statistic(), 0.02)
    spread = NoisySum(ClassSpread(Cosines(SHAPE, 3), K, radius=20.0), 0.05)
    found = warm_start.run(data, means, spread, 300, 0.5, Checkpoints(tmp_path), show=False)  # type: ignore[arg-type]
    assert found.rest == 0.1 and found.covariances.shape == (K, 6, 6)


def test_the_two_mechanisms_do_not_change_places(tmp_path: Path) -> None:
    means = NoisySum(means_statistic(), 1.0)
    spread = NoisySum(ClassSpread(Cosines(SHAPE, 3), K, radius=1.0), 1.0)
    with pytest.raises(TypeError, match="a NoisySum of ClassMeans and one of ClassSpread"):
        warm_start.run(Quiet(3), spread, means, 3, 0.5, Checkpoints(tmp_path), show=False)  # type: ignore[arg-type]


@pytest.mark.parametrize("n", [3, 7, 64])
def test_smoothing_is_the_least_squares_quadratic_of_the_logarithm(n: int) -> None:
    spectrum = torch.rand(n, generator=torch.Generator().manual_seed(n), dtype=torch.float64)
    x = torch.linspace(-1, 1, n, dtype=torch.float64)
    design = torch.stack([torch.ones_like(x), x, x**2], 1)
    target = (spectrum + 0.02 * spectrum.mean() + 1e-4).log()
    expected = design @ torch.linalg.lstsq(design, target[:, None]).solution
    torch.testing.assert_close(warm_start._smooth(spectrum), expected[:, 0].exp())


def test_means_are_the_same_bits_wherever_their_memory_lies() -> None:
    """A resumed run asks the second release around them; other bits would be another question."""
    truth, _ = law()
    sums = torch.cat([truth * 10, torch.full((K, 1), 10.0)], 1)
    found, held = set(), []
    for size in range(1, 2000):
        held.append(torch.empty(size))  # moves what is allocated next
        means, _ = class_means(sums.clone(), means_statistic(), 0.5, 30)
        found.add(means.numpy().tobytes())
        held = held[-20:]
    assert len(found) == 1
