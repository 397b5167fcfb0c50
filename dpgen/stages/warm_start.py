"""The warm start: a class-conditional Gaussian model of images from two noisy releases of moments.

The computation after the releases uses released tables and public numbers only, and is
post-processing: class means are shrunk towards the common mean by the known noise (empirical Bayes,
per frequency), and covariances are denoised by its known distribution.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from dpgen.data.private import PrivateDataset
from dpgen.networks.fixed.cosines import Cosines
from dpgen.privacy.mechanisms.declared import NoisySum
from dpgen.runs.checkpoint import Checkpoints
from dpgen.stages.counts import shrunk_counts
from dpgen.stages.moments import MEANS, SPREAD, ClassMeans, ClassSpread, unstack
from dpgen.stages.release import released

CENTRES = "class centres"  # name of the saved means around which the second release is made


class ClassGaussians(NamedTuple):
    """Released moments: images of class y are N(mean_y, B C_y B' + rest^2 (1 - B B')).

    means: (K, C H W); covariances: of the cosines' coefficients, (K, m, m), positive definite;
    rest: standard deviation outside the basis.
    """

    means: Tensor
    covariances: Tensor
    rest: float


def run(
    data: PrivateDataset,
    means: NoisySum,
    spread: NoisySum,
    n_records: int,
    blend: float,
    checkpoints: Checkpoints,
    *,
    show: bool,
) -> ClassGaussians:
    """Makes both releases, and the model that they describe.

    Args:
        data: the private records.
        means, spread: the mechanisms, of a ClassMeans and a ClassSpread.
        n_records: the public, declared number of records.
        blend: weight of a class's own covariance against the pooled one, in [0, 1].
    """
    statistic, around = means.statistic, spread.statistic
    if not isinstance(statistic, ClassMeans) or not isinstance(around, ClassSpread):
        raise TypeError("the warm start takes a NoisySum of ClassMeans and one of ClassSpread")
    sums = released(data, MEANS, means, checkpoints, show)["sums"]
    centres, counts = class_means(sums, statistic, means.noise_std, n_records)
    # The means of the second release's question are saved: computed again, they might differ.
    asked = checkpoints.once(CENTRES, lambda: {"centres": centres})["centres"]
    spread = replace(spread, statistic=around.around(asked))
    squares = released(data, SPREAD, spread, checkpoints, show)["squares"]
    covariances = class_covariances(squares, counts, spread.noise_std, n_records, blend)
    # Outside the basis is fine detail; a small variance there keeps the model's support complete.
    complete = around.cosines.n_coefficients == math.prod(statistic.shape)
    return ClassGaussians(asked, covariances, 0.0 if complete else 0.1)


def class_means(
    sums: Tensor, statistic: ClassMeans, noise: float, n_records: int
) -> tuple[Tensor, Tensor]:
    """Estimates class means (K, D) and class counts (K,) from noisy sums, shrunk by the variance
    that the noise adds.

    Reference: Efron and Morris (1973), empirical Bayes estimation of several normal means.
    """
    n_classes, r = statistic.n_classes, statistic.count_weight
    counts = shrunk_counts(sums[:, -1] / r, noise / r, n_records)
    own, common = sums[:, :-1] / counts[:, None], sums[:, :-1].sum(0) / n_records
    if n_classes == 1:
        return common[None] + statistic.centre, counts
    # Deviations of the classes from the common mean, by frequency: signal decreases with frequency,
    # noise does not.
    _, height, width = statistic.shape
    cosines = Cosines(statistic.shape, height + width - 1)
    deviations = cosines.analyse(own - common)
    variance = (noise / counts[:, None]).square()
    signal = (
        deviations.square().mean(0) * n_classes / (n_classes - 1) - variance.mean()
    ).clamp_min(0)
    signal = _smooth(signal)
    return common + cosines.synthesise(
        deviations * signal / (signal + variance)
    ) + statistic.centre, counts


def _smooth(spectrum: Tensor) -> Tensor:
    """Smooths a noisy spectrum by a quadratic fit to its logarithm."""
    x = torch.linspace(-1, 1, len(spectrum), dtype=spectrum.dtype)
    x = x - x.mean()
    target = (spectrum + 0.02 * spectrum.mean() + 1e-4).log()
    # Orthogonal on a symmetric grid. A solver's rounding would depend on the memory layout, and a
    # resumed run would then ask the second release around other means.
    fit = torch.zeros_like(target)
    for column in (torch.ones_like(x), x, x.square() - x.square().mean()):
        fit += column * (column * target).sum() / column.square().sum().clamp_min(1e-12)
    return fit.exp()


def class_covariances(
    squares: Tensor, counts: Tensor, noise: float, n_records: int, blend: float
) -> Tensor:
    """Estimates class covariances (K, m, m), positive definite, from noisy sums of squares."""
    moments = unstack(squares)
    pooled = denoise(moments.sum(0) / n_records, noise * math.sqrt(len(counts)) / n_records)
    floor = 0.3 * torch.linalg.eigvalsh(pooled)[0] + 1e-3
    mixed = pooled + blend * (moments / counts[:, None, None] - pooled)
    values, vectors = torch.linalg.eigh(mixed)
    return (vectors * values.clamp_min(floor)[:, None, :]) @ vectors.mT


def denoise(matrix: Tensor, noise: float) -> Tensor:
    """Estimates a covariance from a symmetric matrix with noise of std ``noise`` per stacked
    coordinate.

    Eigenvalues above the edge of the noise are shrunk by what noise adds to them, the others set to
    zero; the lost trace is distributed evenly.

    Reference: Gavish and Donoho (2017), "Optimal shrinkage of singular values", equation 7, with
    the edge of a symmetric matrix whose off-diagonal entries have std ``noise / sqrt(2)``.
    """
    m = len(matrix)
    values, vectors = torch.linalg.eigh(matrix)
    edge = noise * math.sqrt(2 * m)
    kept = torch.where(values > edge, (values.square() - edge**2).clamp_min(0).sqrt(), 0.0)
    tail = ((matrix.trace() - kept.sum()) / m).clamp_min(1e-4)
    return (vectors * kept) @ vectors.T + tail * torch.eye(m, dtype=matrix.dtype)
