r"""The warm start: a class-conditional Gaussian model of images from one noisy release of moments.

`fit` sees the released tables and public numbers only, so everything it does is post-processing: class means shrunk towards
the common mean by the known noise (empirical Bayes per frequency), covariances denoised by the known noise law, and a latent
Gaussian whose values, clipped to [-1, 1], have the released moments (most pixels of a drawing sit at the ends of the range).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from dpgen.data.private import PrivateDataset
from dpgen.checkpoint import Checkpoints
from dpgen.privacy.mechanisms import NoisySum
from dpgen.stages.moments import ClassMoments, cosines, unstack

LABEL = "warm start"


@dataclass(frozen=True)
class ClassGaussians:
    """x = clip(mean_y + factor_y z, -1, 1), z standard normal.

    means: (K, D); factors: (K, D, D'), D = C H W.
    """

    shape: tuple[int, int, int]
    means: Tensor
    factors: Tensor

    def sample(self, labels: Tensor, generator: torch.Generator) -> Tensor:
        """Images (N, C, H, W) float32 in [-1, 1] of these classes."""
        z = torch.randn(len(labels), self.factors.shape[2], generator=generator)
        out = torch.empty(len(labels), self.means.shape[1])
        for y in labels.unique():
            rows = labels == y
            out[rows] = self.means[y] + z[rows] @ self.factors[y].T
        return out.clamp(-1, 1).reshape(-1, *self.shape)


def release_moments(data: PrivateDataset, mechanism: NoisySum, checkpoints: Checkpoints) -> dict[str, Tensor]:
    """The noisy tables; from the checkpoint when they were released before a kill."""
    held = checkpoints.load(LABEL)
    tables = held[0] if held else data.release(mechanism, label=LABEL)
    if held is None:
        checkpoints.save(LABEL, tables)
    data.finish(LABEL, mechanism)
    return tables


def fit(tables: dict[str, Tensor], mechanism: NoisySum, n_records: int, *, blend: float) -> ClassGaussians:
    """The Gaussian model that released tables describe.

    Args:
        tables: what `release_moments` returned.
        mechanism: the release; its statistic must be a ClassMoments.
        n_records: the public, declared number of records.
        blend: weight of a class's own covariance against the pooled one, in [0, 1].
    """
    statistic = mechanism.statistic
    assert isinstance(statistic, ClassMoments)
    means, counts = _means(tables["first"], mechanism, n_records)
    within = _within(tables["second"], means, counts, mechanism)
    noise = mechanism.noise_std * statistic.radius / statistic.second_weight  # per coordinate of the stacked sums
    pooled = _denoise(within.sum(0) / n_records, noise * math.sqrt(statistic.n_classes) / n_records)
    floor = 0.3 * pooled.diagonal().min().clamp_min(1e-3)
    covariances = []
    for own, count in zip(within, counts, strict=True):
        mixed = pooled + blend * (own / count - pooled)
        values, vectors = torch.linalg.eigh(mixed)
        covariances.append((vectors * values.clamp_min(floor)) @ vectors.T)
    return _latent(statistic, means + statistic.centre, torch.stack(covariances))


def _means(first: Tensor, mechanism: NoisySum, n_records: int) -> tuple[Tensor, Tensor]:
    """Centred class means (K, D) and class counts (K,), shrunk by what the noise is known to add."""
    statistic = mechanism.statistic
    assert isinstance(statistic, ClassMoments)
    n_classes = statistic.n_classes
    counts = first[:, -1] / statistic.count_weight
    expected, noise = n_records / n_classes, mechanism.noise_std / statistic.count_weight
    spread = (counts - expected).square().mean() - noise**2
    counts = expected + (counts - expected) * spread.clamp_min(0) / (spread.clamp_min(0) + noise**2)
    counts = counts.clamp_min(0.1 * expected)
    raw, common = first[:, :-1] / counts[:, None], first[:, :-1].sum(0) / n_records
    # Deviations of the classes from the common mean, by frequency: signal falls with frequency, noise does not.
    frequencies = cosines(statistic.shape, max(statistic.shape[1:]) * 2)
    deviations = (raw - common) @ frequencies
    noise_variance = (mechanism.noise_std / counts[:, None]).square()
    if n_classes > 1:
        signal = (deviations.square().mean(0) * n_classes / (n_classes - 1) - noise_variance.mean()).clamp_min(0)
        signal = _smooth(signal)
        deviations = deviations * signal / (signal + noise_variance)
    return common + deviations @ frequencies.T, counts


def _smooth(signal: Tensor) -> Tensor:
    """A quadratic through the logarithm of a noisy spectrum."""
    x = torch.linspace(-1, 1, len(signal), dtype=signal.dtype)
    design = torch.stack([torch.ones_like(x), x, x**2], 1)
    target = (signal + 0.02 * signal.mean() + 1e-4).log()
    return (design @ torch.linalg.lstsq(design, target[:, None]).solution)[:, 0].exp()


def _within(second: Tensor, means: Tensor, counts: Tensor, mechanism: NoisySum) -> Tensor:
    """Sums of squares within each class, in the basis of the statistic, (K, m, m)."""
    statistic = mechanism.statistic
    assert isinstance(statistic, ClassMoments)
    moments = unstack(second) * statistic.radius / statistic.second_weight
    projected = means @ statistic.basis
    return moments - counts[:, None, None] * projected[:, :, None] * projected[:, None, :]


def _denoise(matrix: Tensor, noise: float) -> Tensor:
    """A covariance from a noisy symmetric matrix: Frobenius-optimal shrinkage of eigenvalues, the lost trace given back evenly.

    Reference: Gavish and Donoho (2017), "Optimal shrinkage of singular values", section V, for noise of std ``noise / sqrt(2)``
    off the diagonal.
    """
    m = len(matrix)
    values, vectors = torch.linalg.eigh(matrix)
    edge = 2 * noise * math.sqrt(m / 2)
    kept = torch.where(values > edge, (values.square() - edge**2).clamp_min(0).sqrt(), 0.0)
    tail = (matrix.trace() - kept.sum()).clamp_min(1e-3 * m) / m
    return (vectors * kept) @ vectors.T + tail * torch.eye(m, dtype=matrix.dtype)


def _latent(statistic: ClassMoments, means: Tensor, covariances: Tensor) -> ClassGaussians:
    """Moments of the latent Gaussian per pixel, correlations as released; outside the basis a little independent variance."""
    basis = statistic.basis
    outside = 1 - basis.square().sum(1)
    rest = 0.05 * outside.clamp_min(0)
    variances = torch.einsum("dm,kmn,dn->kd", basis, covariances, basis) + rest
    latent_means, latent_stds = clipped_normal(means, variances)
    scale = latent_stds / variances.sqrt()
    roots = torch.linalg.cholesky(covariances)
    factors = scale[:, :, None] * (basis @ roots)
    if bool((rest > 1e-9).any()):
        own = torch.diag_embed(scale * rest.sqrt())
        factors = torch.cat([factors, own], 2)
    return ClassGaussians(statistic.shape, latent_means.float(), factors.float())


def clipped_normal(mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of a normal which, clipped to [-1, 1], has this mean and variance (fixed point)."""
    mean = mean.clamp(-0.999, 0.999)
    variance = torch.minimum(variance.clamp_min(1e-4), 0.98 * (1 - mean**2))
    m, s = mean.clone(), variance.sqrt()
    for _ in range(200):
        a, b = (-1 - m) / s, (1 - m) / s
        density_a, density_b = _density(a), _density(b)
        below, above = torch.special.ndtr(a), 1 - torch.special.ndtr(b)
        inside = 1 - below - above
        first = above - below + m * inside + s * (density_a - density_b)
        second = (
            below + above + (m**2 + s**2) * inside + 2 * m * s * (density_a - density_b)
            + s**2 * (a * density_a - b * density_b)
        )
        current = (second - first**2).clamp_min(1e-6)
        m = (m + 0.5 * (mean - first)).clamp(-4, 4)
        s = (s * (variance / current) ** 0.25).clamp(0.02, 3)
    return m, s


def _density(x: Tensor) -> Tensor:
    return torch.exp(-x.square() / 2) / math.sqrt(2 * math.pi)
