"""The spectrum: class Gaussians of low frequencies from three releases, and pictures drawn of them.

What follows the releases sees released tables and public numbers only and is post-processing: what
the noise is known to add is taken out of means (empirical Bayes) and of covariances (shrinkage of
eigenvalues), and the energy that is then left is that of procedural pictures.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from dpgen.data.private import PrivateDataset
from dpgen.networks.spectral import SpectralConfig, SpectralPictures
from dpgen.privacy.mechanisms.declared import NoisySum
from dpgen.privacy.plan import Plan
from dpgen.runs.context import Workplace
from dpgen.stages.counts import shrunk_counts
from dpgen.stages.moments import unstack
from dpgen.stages.release import released
from dpgen.stages.spectrum_moments import (
    ANGLE,
    CENTRE,
    MOMENTS,
    SCALE,
    WEIGHTS,
    SpectrumCentre,
    SpectrumMoments,
    SpectrumScale,
    bin_edges,
)

QUANTILE = 0.85  # of the records that the scale is to hold


def run(
    data: PrivateDataset, plan: Plan, detail: float, mirrors: bool, work: Workplace
) -> SpectralPictures:
    """Makes the three releases and the pictures that they describe.

    Args:
        plan: has the three stages.
        detail: strength of what is outside the bands.
        mirrors: whether mirror images are taken to be as likely as their images.
    """
    checkpoints, n = work.checkpoints, data.facts.n_records
    first, second, third = (plan.required(name, NoisySum) for name in (CENTRE, SCALE, MOMENTS))
    middle, around, moments = first.statistic, second.statistic, third.statistic
    assert isinstance(middle, SpectrumCentre)
    assert isinstance(around, SpectrumScale)
    assert isinstance(moments, SpectrumMoments)
    tables = released(data, CENTRE, first, checkpoints, work.show)
    # What is asked around is written down: computed again, it might be another one.
    asked = checkpoints.once("centre", lambda: _centre(tables, middle, first.noise_std, n, mirrors))
    second = replace(second, statistic=around.around(asked["centre"]))
    bins = released(data, SCALE, second, checkpoints, work.show)["bins"][0]
    scale = scale_of(bins, middle.basis.radius, n)
    moments = moments.around(asked["centre"], scale)
    third = replace(third, statistic=moments)
    found = released(data, MOMENTS, third, checkpoints, work.show)

    def estimated() -> Mapping[str, Tensor]:
        known = estimates(found, asked["counts"], moments, third.noise_std, n, mirrors=mirrors)
        return known | {"outside": detail**2 * known["outside"]}

    basis = moments.basis
    config = SpectralConfig(basis.shape, moments.n_classes, basis.bands, moments.own_spread)
    pictures = SpectralPictures(config)
    pictures.set(**checkpoints.once("spectrum", estimated))
    return pictures


def _centre(
    tables: Mapping[str, Tensor], statistic: SpectrumCentre, noise: float, n_records: int,
    mirrors: bool,
) -> dict[str, Tensor]:
    """Computes the centre (m,) and class counts (K,) from noisy sums."""
    basis = statistic.basis
    unit = basis.radius / math.cos(ANGLE) / n_records
    centre = shrunk(tables["sum"] * unit, torch.tensor([(noise * unit) ** 2]), basis.typical)[0]
    if mirrors:
        centre = centre * basis.even
    weight = statistic.count_scale
    counts = shrunk_counts(tables["counts"][:, 0] / weight, noise / weight, n_records)
    return {"centre": centre, "counts": counts}


def scale_of(bins: Tensor, radius: float, n_records: int) -> float:
    """Finds the least upper end of a bin that holds, with all bins below, most declared records.

    Args:
        bins: noisy counts, (N_BINS,).
        radius: the largest norm of an image.
    """
    edges = bin_edges(radius)
    below = bins.cumsum(0)[: len(edges)] >= QUANTILE * n_records
    held = below.nonzero().flatten()
    return edges[int(held[0]) if len(held) else -1]


def shrunk(values: Tensor, variances: Tensor, typical: Tensor) -> Tensor:
    """Shrinks rows of noisy coefficients (K, m) towards zero by what their noise is known to add.

    The signal of a coefficient is taken to be half what the rows show of it, half what pictures in
    general have there.

    Args:
        variances: of the noise, by row, (K,).
        typical: share of each coefficient in the energy of pictures, (m,), of sum 1.

    Reference: Efron and Morris (1973), empirical Bayes estimation of several normal means.
    """
    seen = (values.square().mean(0) - variances.mean()).clamp_min(0)
    expected = (values.square().sum(1) - variances * values.shape[1]).mean().clamp_min(0) * typical
    signal = (seen + expected) / 2
    return values * signal / (signal + variances[:, None]).clamp_min(1e-12)


def estimates(
    tables: Mapping[str, Tensor],
    counts: Tensor,
    moments: SpectrumMoments,
    noise: float,
    n_records: int,
    *,
    mirrors: bool = False,
) -> dict[str, Tensor]:
    """Computes what `SpectralPictures.set` takes, by name, from noisy tables.

    Args:
        mirrors: whether mirror images are as likely as their images: then the means of odd
            coefficients, and their covariances with even ones, are zero, and what is there is noise
            or one side of a left and a right.
    """
    assert moments.centre is not None
    basis, k = moments.basis, moments.n_classes
    f, g, h = WEIGHTS
    sums = tables["sums"] * basis.even if mirrors else tables["sums"]
    common = sums.sum(0, keepdim=True) / f / n_records
    own = sums / f / counts[:, None]
    variance = (noise / f) ** 2 * torch.ones(1) * k / n_records**2
    means = shrunk(common, variance, basis.typical).expand(k, -1)
    if k > 1:
        means = means + shrunk(own - common, (noise / f / counts).square(), basis.typical)
    energies, outside = _energies(tables["energies"] / h, counts, noise / h, n_records)
    parts = [basis.even, ~basis.even] if mirrors else [torch.ones_like(basis.even)]
    squares = unstack(tables["squares"] / g)
    covariances = _covariances(squares, counts, means, noise / g, n_records, parts)
    factors = torch.stack([_root(matrix) for matrix in covariances])
    known = means.square().sum(1) + factors.square().sum((1, 2))
    return {
        "means": moments.centre + moments.scale * means,
        "factors": moments.scale * factors,
        "inside": moments.scale**2 * (energies - known).clamp_min(0),
        "outside": moments.scale**2 * outside,
    }


def _energies(table: Tensor, counts: Tensor, noise: float, n_records: int) -> tuple[Tensor, Tensor]:
    """Computes mean energies of the classes, (K,) each, inside the bands and outside, at least 0:
    those of the classes are drawn towards that of all.
    """
    common = table.sum(0) / n_records
    own = table / counts[:, None] - common
    variances = (noise / counts).square()[:, None]
    spread = (own.square().mean(0) - variances.mean()).clamp_min(0)
    inside, outside = (common + own * spread / (spread + variances)).clamp_min(0).T
    return inside, outside


def _covariances(
    squares: Tensor, counts: Tensor, means: Tensor, noise: float, n_records: int,
    parts: Sequence[Tensor],
) -> list[Tensor]:
    """Computes what the noise lets through of covariances: one of all classes, or one of each.

    That of a class is found around the one of all, unless classes differ so much that they have
    little to learn from each other.
    """
    between = means[:, :, None] * means[:, None, :]
    rows = len(squares)
    pooled = (squares.sum(0) - (counts[:, None, None] * between).sum(0)) / n_records
    std = noise * math.sqrt(rows) / n_records
    if rows == 1:
        return [_above_noise(pooled, std, parts)]
    own = squares / counts[:, None, None] - between
    common, noises = _above_noise(pooled, std, parts), (noise / counts).tolist()

    def clean(matrices: Tensor) -> list[Tensor]:
        pairs = zip(matrices, noises, strict=True)
        return [_above_noise(one, own_std, parts) for one, own_std in pairs]

    apart = clean(own - common)
    if torch.stack(apart).square().sum() / rows < common.square().sum() / 2:
        return [common + one for one in apart]
    return clean(own)


def _above_noise(matrix: Tensor, noise: float, parts: Sequence[Tensor]) -> Tensor:
    """Takes from a symmetric matrix what noise of std ``noise`` per stacked coordinate adds to it.

    Eigenvalues beyond the edge of the noise are shrunk, the others dropped; both signs.

    Args:
        parts: which rows belong together, (m,) bool each; between parts there is nothing.

    Reference: Gavish and Donoho (2017), "Optimal shrinkage of singular values", equation 7.
    """
    found = torch.zeros_like(matrix)
    for part in parts:
        rows = part.nonzero().flatten()
        values, vectors = torch.linalg.eigh(matrix[rows[:, None], rows])
        edge = noise * math.sqrt(2 * len(rows))
        kept = values.sign() * (values.square() - edge**2).clamp_min(0).sqrt()
        found[rows[:, None], rows] = (vectors * kept) @ vectors.T
    return found


def _root(matrix: Tensor) -> Tensor:
    """Computes the symmetric root of the positive part of a symmetric matrix."""
    values, vectors = torch.linalg.eigh(matrix)
    return (vectors * values.clamp_min(0).sqrt()) @ vectors.T
