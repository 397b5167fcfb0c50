"""The inputs of metrics: two sets of images, or their features."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from torch import Tensor

from dpgen.evaluation.extraction import Statistics
from dpgen.evaluation.feature_distances import density_coverage, precision_recall
from dpgen.evaluation.fidelity_protocol import FidelityProtocol
from dpgen.images.images import Images


class Value(NamedTuple):
    """The value of a metric: a number and, if it is a mean over parts, their standard deviation."""

    mean: float
    std: float | None = None


@dataclass(frozen=True)
class ComparedImages:
    """Images and labels of both sides, pixels rounded as in a file.

    Args:
        synthetic: images of a generator.
        reference: real images of the same shape.
        n_classes: number of classes of both.
    """

    synthetic: Images
    reference: Images
    n_classes: int


@dataclass(frozen=True)
class ComparedFeatures:
    """Features of both sides, by one network.

    Args:
        synthetic: features of the synthetic images, (N, D).
        logits: logits of the synthetic images, (N, K).
        reference: features of the real images, with their mean and covariance.
        near, near_real: equally many features of each side, for metrics of nearest neighbours.
        protocol: the protocol, with every number filled in.
    """

    synthetic: Tensor
    logits: Tensor
    reference: Statistics
    near: Tensor
    near_real: Tensor
    protocol: FidelityProtocol

    @cached_property
    def precision_recall(self) -> tuple[float, float]:
        k = self.protocol.n_neighbours_precision
        return precision_recall(self.near, self.near_real, k=k)

    @cached_property
    def density_coverage(self) -> tuple[float, float]:
        k = self.protocol.n_neighbours_density
        return density_coverage(self.near, self.near_real, k=k)
