r"""The private labeller: a linear classifier of fixed features, from one Gaussian release.

    p = unit((g(x) - c) U)                      Gabor features, axes fitted on released samples
    moments   row y:  cos(a) (p, r) / sqrt(1 + r^2)     one row:  sin(a) sym(p p')

Both parts of a record together have norm at most 1. Linear discriminant analysis needs class means
and counts, and the second moment of all records; where noise hides the within-class covariance,
that of the samples replaces it. Everything after the release, including the labels that it gives,
costs no privacy.

Reference: linear discriminant analysis, Fisher (1936); blend of the two covariances by empirical
Bayes (Efron and Morris 1973). Privacy: theorem B2.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from dpgen.networks.labeller import Labeller, LabellerConfig, in_parts
from dpgen.stages.counts import shrunk_counts
from dpgen.stages.label_moments import ANGLE, COUNT_WEIGHT, LabelMoments
from dpgen.stages.moments import unstack

FLOOR, NOISE_FLOOR = 0.05, 0.5  # of the covariance: share of its mean, share of its noise's norm


def fit(
    moments: LabelMoments,
    tables: dict[str, Tensor],
    noise: float,
    n_records: int,
    samples: Tensor,
    labels: Tensor,
) -> Labeller:
    """Fits the discriminant to the released tables, which costs no privacy.

    Args:
        moments: the statistic that was released, with its axes.
        tables: the release.
        noise: standard deviation of its noise, per coordinate.
        n_records: the public, declared number of records.
        samples, labels: images of the generator and their labels, (M, C, H, W) and (M,).
    """
    d, n_classes = moments.n_axes, moments.n_classes
    found = class_moments(moments, tables, noise, n_records)
    within = covariance_within(in_parts(moments.project, samples).double(), labels, n_classes)
    misfit = ((found.covariance - within).square().mean() - found.variance).clamp_min(0)
    blend = misfit / (misfit + found.variance)
    values, vectors = torch.linalg.eigh(blend * found.covariance + (1 - blend) * within)
    loudness = math.sqrt(2 * d) * noise / math.sin(ANGLE) / found.counts.sum()
    ridge = NOISE_FLOOR * blend * loudness + FLOOR * within.trace() / d
    means = found.means
    weights = vectors @ (vectors.T @ means.T / (values.clamp_min(0) + ridge)[:, None])
    assert moments.axes is not None
    labeller = Labeller(LabellerConfig(moments.features, n_classes, d))
    prior = found.counts / found.counts.sum()
    labeller.set(moments.axes, weights, prior.log() - 0.5 * (means.T * weights).sum(0))
    return labeller


class Moments(NamedTuple):
    """The moments in the released tables: counts (K,); means (K, d); covariance (d, d) around them;
    and variance (), the average variance of the noise in its entries.
    """

    counts: Tensor
    means: Tensor
    covariance: Tensor
    variance: Tensor


def class_moments(
    moments: LabelMoments, tables: dict[str, Tensor], noise: float, n_records: int
) -> Moments:
    """Estimates counts, means and the covariance within classes, less the known part of the noise.
    """
    d, scale = moments.n_axes, math.cos(ANGLE) / math.hypot(1, COUNT_WEIGHT)
    sums = tables["sums"] / scale
    counts = shrunk_counts(sums[:, -1] / COUNT_WEIGHT, noise / scale / COUNT_WEIGHT, n_records)
    means, prior = sums[:, :-1] / counts[:, None], counts / counts.sum()
    # Products of noisy means are too large by this, which is known and subtracted.
    blur = (noise / scale / counts).square()
    between = (means.T * prior) @ means - (prior * blur).sum() * torch.eye(d)
    squares = unstack(tables["squares"][0]) / math.sin(ANGLE) / counts.sum()
    std = noise / math.sin(ANGLE) / counts.sum()  # on the diagonal; off it by sqrt(2) less
    lengths = (means.square().sum(1) - d * blur).clamp_min(0)
    of_means = (prior**2 * blur * (2 * (d + 1) / d**2 * lengths + (d + 1) / d * blur)).sum()
    return Moments(counts, means, squares - between, std**2 * (0.5 + 0.5 / d) + of_means)


def covariance_within(rows: Tensor, labels: Tensor, n_classes: int) -> Tensor:
    """Computes the covariance (d, d) of rows (M, d) around the means of their classes."""
    centred = rows.clone()
    for k in range(n_classes):
        mine = labels == k
        if mine.any():
            centred[mine] -= rows[mine].mean(0)
    return centred.T @ centred / len(rows)
