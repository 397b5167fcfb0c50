r"""The objective of the private classifier: softmax regression of fixed features, record by record.

    p = unit((g(x) - c) U)                      features g, axes public or of released samples
    gradient = (p, b) / sqrt(1 + b^2)  (softmax - onehot(y))'

An outer product, clipped at norm 1. Every step is a Gaussian release of the sum over all records,
which depends on the earlier ones through the weights alone: T steps at sqrt(T) times the noise are
together exactly one release. Privacy: theorems B2 and F3.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dpgen.networks.labeller import Axes, FeatureMap
from dpgen.privacy.mechanisms.softmax import SoftmaxLoss

if TYPE_CHECKING:
    from torch import Tensor

    from dpgen.privacy.mechanisms.draws import Draws

BIAS = 0.3  # of the constant feature, beside features of norm 1


@dataclass(frozen=True)
class SoftmaxObjective:
    """The loss of softmax regression of a record's features; there are no draws.

    Args:
        features: the public map g.
        axes: centre and directions.
    """

    features: FeatureMap
    axes: Axes

    def draw(self, draws: Draws) -> dict[str, Tensor]:
        """Draws nothing: every record enters every step as it is."""
        return {}

    def prepare(self, pixels: Tensor) -> Tensor:
        """Makes the rows (B, d + 1) of images, the constant last, float64 of norm at most one."""
        import torch

        # In double precision: what a kernel rounds differently from row to row is then far below
        # the margin of the clip, however many records there are.
        rows = self.axes.project(self.features(pixels.double()).double())
        constant = torch.full((len(rows), 1), BIAS, dtype=rows.dtype)
        return torch.cat([rows, constant], 1) / math.hypot(1.0, BIAS)

    @property
    def loss(self) -> SoftmaxLoss:
        """Returns the loss of one prepared row."""
        return SoftmaxLoss()
