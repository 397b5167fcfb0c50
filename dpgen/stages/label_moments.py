r"""The statistic of the labeller, for one Gaussian release.

    p = unit((g(x) - c) U)                      Gabor features, axes fitted on released samples
    moments   row y:  cos(a) (p, r) / sqrt(1 + r^2)     one row:  sin(a) sym(p p')

Both parts of a record together have norm at most 1. `dpgen.stages.labeller` needs class means and
counts, and the second moment of all records. Privacy: theorem B2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self

from dpgen.networks.fixed.gabor import GaborFeatures
from dpgen.privacy.mechanisms.contributions import Block
from dpgen.stages.moments import stack

if TYPE_CHECKING:
    from torch import Tensor

    from dpgen.networks.labeller import Axes

LABEL = "label moments"
COUNT_WEIGHT = 0.3
ANGLE = math.pi / 4  # between class sums and second moment: half of mu^2 each


@dataclass(frozen=True)
class LabelMoments:
    """Class-wise sums of unit features, counts, and one second moment.

    Args:
        features: the public map g.
        n_classes: rows of the sums.
        n_axes: d, the length of p.
        axes: centre and directions, which come from earlier releases and are not a setting.
    """

    features: GaborFeatures
    n_classes: int
    n_axes: int = 300
    axes: Axes | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        if not 1 <= self.n_axes <= self.features.n_features:
            raise ValueError(
                f"n_axes must lie in [1, {self.features.n_features}], got {self.n_axes}"
            )

    def along(self, axes: Axes) -> Self:
        return replace(self, axes=axes)

    @property
    def bound(self) -> float:
        return 1.0

    @property
    def count_scale(self) -> float:
        return COUNT_WEIGHT * math.cos(ANGLE) / math.hypot(1, COUNT_WEIGHT)

    @property
    def tables(self) -> dict[str, tuple[int, int]]:
        d = self.n_axes
        return {"sums": (self.n_classes, d + 1), "squares": (1, d * (d + 1) // 2)}

    @property
    def settings(self) -> dict[str, Any]:
        return {
            "name": "LabelMoments",
            "features": self.features.settings,
            "n_classes": self.n_classes,
            "n_axes": self.n_axes,
            "count_weight": COUNT_WEIGHT,
            "angle": ANGLE,
        }

    def project(self, pixels: Tensor) -> Tensor:
        """Projects images on the axes: p, (B, d), of norm one or zero."""
        if self.axes is None:
            raise RuntimeError("LabelMoments needs axes of released samples: call along(axes)")
        return self.axes.project(self.features(pixels))

    def __call__(self, pixels: Tensor, labels: Tensor) -> dict[str, Block]:
        import torch

        p = self.project(pixels).double()
        counts = torch.full((len(p), 1), COUNT_WEIGHT, dtype=torch.float64)
        sums = torch.cat([p, counts], 1) * (math.cos(ANGLE) / math.hypot(1, COUNT_WEIGHT))
        squares = stack(p[:, :, None] * p[:, None, :]) * math.sin(ANGLE)
        return {"sums": Block(sums, labels), "squares": Block(squares, torch.zeros_like(labels))}
