r"""Distances between two sets of features, each (N, D).

    FID        |m - m'|^2 + tr(S + S' - 2 (S S')^(1/2))     of feature means m and covariances S
    KID        mean over subsets of the unbiased MMD^2 with kernel (x.y / D + 1)^3
    score      exp E KL(p(y|x) || p(y)), of the synthetic images alone; mean over parts
    precision  share of synthetic images within the k-th neighbour radius of some real one
    recall     the same with the roles exchanged
    density    mean number of real k-th neighbour balls that hold a synthetic image, over k
    coverage   share of real images whose ball holds a synthetic one

The first five are torch-fidelity's functions, called on float64: in single precision a mean over
50,000 features, or a small difference of large kernel sums, loses several digits.

Sources: Heusel et al. 2017 (FID), Binkowski et al. 2018 (KID), Salimans et al. 2016 (score),
Kynkaanniemi et al. 2019 (precision, recall), Naeem et al. 2020 (density, coverage).
"""

from __future__ import annotations

import torch
from torch import Tensor

from dpgen._torchvision import repair
from dpgen.evaluation.extraction import Statistics

__all__ = [
    "density_coverage",
    "frechet_distance",
    "kernel_distance",
    "precision_recall",
    "score",
]

CHUNK = 1024  # rows of a distance matrix that are held at once


def frechet_distance(synthetic: Statistics, reference: Statistics) -> float:
    """Computes FID; zero for equal statistics, up to rounding."""
    repair()
    from torch_fidelity.metric_fid import fid_statistics_to_metric

    both = [
        {"mu": of.mean.numpy(), "sigma": of.covariance.numpy()} for of in (synthetic, reference)
    ]
    return fid_statistics_to_metric(*both, verbose=False)["frechet_inception_distance"]


def kernel_distance(
    synthetic: Tensor, reference: Tensor, *, n_subsets: int, subset_size: int, seed: int
) -> tuple[float, float]:
    """Computes KID, mean and standard deviation over subsets; unbiased, so it may be negative."""
    repair()
    from torch_fidelity.metric_kid import kid_features_to_metric

    found = kid_features_to_metric(
        synthetic.double(),
        reference.double(),
        kid_subsets=n_subsets,
        kid_subset_size=subset_size,
        rng_seed=seed,
        verbose=False,
    )
    return found["kernel_inception_distance_mean"], found["kernel_inception_distance_std"]


def score(logits: Tensor, *, n_parts: int, seed: int) -> tuple[float, float]:
    """Computes the inception score, mean and standard deviation over parts; between 1 and the
    number of classes.
    """
    repair()
    from torch_fidelity.metric_isc import isc_features_to_metric

    found = isc_features_to_metric(logits, splits=n_parts, rng_seed=seed)
    return found["inception_score_mean"], found["inception_score_std"]


def precision_recall(synthetic: Tensor, reference: Tensor, *, k: int) -> tuple[float, float]:
    """Computes precision and recall, each in [0, 1]; memory O(CHUNK N).

    A ball is closed and reaches to the k-th nearest other image of its set.
    """
    repair()
    from torch_fidelity.metric_prc import prc_features_to_metric

    found = prc_features_to_metric(
        synthetic.double(),
        reference.double(),
        prc_neighborhood=k,
        prc_batch_size=CHUNK,
        save_cpu_ram=True,
        verbose=False,
    )
    return found["precision"], found["recall"]


def density_coverage(synthetic: Tensor, reference: Tensor, *, k: int) -> tuple[float, float]:
    """Computes density and coverage; memory O(CHUNK N).

    The ball of a real image is open and reaches to its k-th nearest other real image. Where the
    distributions are equal, density averages 1, and coverage of N by M images averages
    1 - (N - 1)! (M + N - k - 1)! / ((N - k - 1)! (M + N - 1)!), about 1 - 2**-k for equal numbers.

    Args:
        synthetic: features, (M, D).
        reference: features, (N, D).
        k: from 1 to N - 1.

    Reference: Naeem et al. (2020), "Reliable Fidelity and Diversity Metrics", section 3.
    """
    # Squares of large numbers cancel here, so they are computed in float64 about a common centre.
    centre = reference.double().mean(dim=0)
    fake, real = synthetic.double() - centre, reference.double() - centre
    n_inside, n_covered = 0, 0
    for rows in torch.arange(len(real)).split(CHUNK):
        to_others = torch.cdist(real[rows], real)
        to_others[torch.arange(len(rows)), rows] = torch.inf
        radii = to_others.kthvalue(k, dim=1).values
        inside = torch.cdist(real[rows], fake) < radii[:, None]
        n_inside += int(inside.sum())
        n_covered += int(inside.any(dim=1).sum())
    return n_inside / (k * len(fake)), n_covered / len(real)
