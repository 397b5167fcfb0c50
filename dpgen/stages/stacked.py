"""Releases mean embeddings of the classes under several feature maps, stacked, once.

Privacy: theorem B2. The maps are public, each of norm one, and stacked with one over the root of
their number: a record adds one vector of norm one, and its count, to the row of its class. How much
of a kernel's embedding is noise follows from the release alone.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dpgen.data.private import PrivateDataset
from dpgen.privacy.mechanisms.declared import NoisySum
from dpgen.privacy.plan import Plan
from dpgen.runs.context import Workplace
from dpgen.stages.embedding import ClassEmbeddings, StackedFeatures, class_embeddings
from dpgen.stages.release import released
from dpgen.stages.stacked_plan import LABEL
from dpgen.training.condensation import Target

LEAST = 1e-3  # weight of a kernel whose embedding is all noise, so that a fit has a direction


def run(data: PrivateDataset, plan: Plan, work: Workplace) -> list[Target]:
    """Makes the release, and returns what each feature map has of it."""
    mechanism = plan.required(LABEL, NoisySum)
    statistic, std = mechanism.statistic, mechanism.noise_std
    assert isinstance(statistic, ClassEmbeddings)
    features = statistic.features
    assert isinstance(features, StackedFeatures)
    sums = released(data, LABEL, mechanism, work.checkpoints, work.show)["sums"]
    means, counts = class_embeddings(sums, statistic, std, data.facts.n_records)
    noise = (std / counts)[:, None].expand_as(means)
    return [
        Target(phi, own, trust(own, around, phi.bands))
        for phi, own, around in zip(
            features.parts, features.parted(means), features.parted(noise), strict=True
        )
    ]


def trust(means: Tensor, noise: Tensor, bands: Tensor) -> Tensor:
    """Estimates, for each feature, how much of the squared length of the released embeddings of its
    bandwidth is not noise, (d,), from `LEAST` to 1.

    Args:
        means: released embeddings, (K, d).
        noise: standard deviation of their noise, (K, d).
        bands: which bandwidth each feature is of, (d,).
    """
    weights = torch.empty(len(bands), dtype=means.dtype)
    for band in bands.unique():
        mine = bands == band
        whole, added = (values[:, mine].square().mean() for values in (means, noise))
        weights[mine] = (1 - added / whole).clamp_min(LEAST)
    return weights
