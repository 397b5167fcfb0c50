r"""The statistic of the sketch: class-wise sums of a bounded feature map, and counts.

    embedding   row y:  (phi(x), r),   ||phi(x)|| at most 1, so norm at most sqrt(1 + r^2)

It is a kernel mean embedding of every class, released once. phi is public or made from earlier
releases only. More classes cost nothing, because a record is in one of them; replacing a record
moves the table by at most twice the norm, which the accountant knows.

Source: Harder, Adamczewski, Park (2021), "DP-MERF: Differentially Private Mean Embeddings with
Random Features", arXiv 2002.11603, with the sensitivity of a sum. Privacy: theorem B2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from dpgen.privacy.mechanisms.contributions import Block
from dpgen.stages.counts import shrunk_counts

if TYPE_CHECKING:
    from torch import Tensor


class FeatureMap(Protocol):
    """Features of single images: a public function, or one made from released values."""

    @property
    def n_features(self) -> int: ...

    @property
    def settings(self) -> dict[str, Any]:
        """Returns the public numbers that define the map, for the charge."""

    def __call__(self, pixels: Tensor, /) -> Tensor:
        """Computes features of images (B, C, H, W) in [-1, 1], (B, n_features), one by one."""


class KernelMap(FeatureMap, Protocol):
    """Features whose inner products are those of kernels of several bandwidths."""

    @property
    def bands(self) -> Tensor:
        """Returns which of the bandwidths each feature is of, (n_features,), int64."""


@dataclass(frozen=True)
class StackedFeatures:
    """Several feature maps, side by side, each divided by the root of their number: of norm one
    where all of them are.

    Args:
        parts: the maps, at least one.
    """

    parts: tuple[KernelMap, ...]

    def __post_init__(self) -> None:
        if not self.parts:
            raise ValueError("parts must hold at least one feature map, got none")

    @property
    def n_features(self) -> int:
        return sum(part.n_features for part in self.parts)

    @property
    def settings(self) -> dict[str, Any]:
        return {"name": "StackedFeatures", "parts": [part.settings for part in self.parts]}

    def parted(self, means: Tensor) -> list[Tensor]:
        """Splits mean embeddings of the stack (K, D) into those of each map by itself, (K, d)."""
        sizes = [part.n_features for part in self.parts]
        return list((math.sqrt(len(self.parts)) * means).split(sizes, dim=1))

    def __call__(self, pixels: Tensor) -> Tensor:
        """Computes the features of images, (B, C, H, W) -> (B, n_features), float64."""
        import torch

        stacked = torch.cat([part(pixels).double() for part in self.parts], 1)
        return stacked / math.sqrt(len(self.parts))


@dataclass(frozen=True)
class ClassEmbeddings:
    """Class-wise sums of features clipped to norm 1, and counts.

    Args:
        features: the feature map phi.
        n_classes: rows of the table.
        count_weight: r, the weight of the counts.
    """

    features: FeatureMap
    n_classes: int
    count_weight: float = 0.15

    def __post_init__(self) -> None:
        if not self.count_weight > 0:
            raise ValueError(f"count_weight must be greater than 0, got {self.count_weight}")

    @property
    def bound(self) -> float:
        return math.hypot(1.0, self.count_weight)

    @property
    def count_scale(self) -> float:
        return self.count_weight

    @property
    def tables(self) -> dict[str, tuple[int, int]]:
        return {"sums": (self.n_classes, self.features.n_features + 1)}

    @property
    def settings(self) -> dict[str, Any]:
        return {
            "name": "ClassEmbeddings",
            "features": self.features.settings,
            "n_classes": self.n_classes,
            "count_weight": self.count_weight,
        }

    def __call__(self, pixels: Tensor, labels: Tensor) -> dict[str, Block]:
        import torch

        phi = self.features(pixels.double()).double()
        phi = phi / phi.norm(dim=1, keepdim=True).clamp_min(1.0)
        counts = torch.full((len(phi), 1), self.count_weight, dtype=torch.float64)
        return {"sums": Block(torch.cat([phi, counts], 1), labels)}


def class_embeddings(
    sums: Tensor, statistic: ClassEmbeddings, noise: float, n_records: int
) -> tuple[Tensor, Tensor]:
    """Estimates mean embeddings (K, D) and counts (K,) of the classes, float64, from noisy sums.

    Args:
        sums: the released table.
        noise: standard deviation of its noise.
        n_records: the public, declared number of records.
    """
    r = statistic.count_weight
    counts = shrunk_counts(sums[:, -1] / r, noise / r, n_records)
    return sums[:, :-1] / counts[:, None], counts
