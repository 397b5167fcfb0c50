r"""The statistics of the warm start: class-wise sums and counts, then second moments around the
released means.

Two Gaussian releases, the second adaptive. A record x with label y, c a public grey, B
low-frequency cosines:

    means    row y:  (x - c, r)                     clipped to R, so norm at most sqrt(R^2 + r^2)
    spread   row y:  sym(b b'), b = B'(x - c - m_y) clipped to Q, so norm at most Q^2

where m_y are the *released* class means and sym stacks the upper triangle of a symmetric matrix,
off-diagonal entries times sqrt(2), so that its norm is the matrix's Frobenius norm. More classes
cost nothing, because a record is in one of them. A second release around the released means is
worth its price: the squared norm of residuals is half that of records, and so is the noise
(measured).

Privacy: theorem B2; adaptive composition of Gaussians is exact (theorem F3).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self

from dpgen.networks.fixed.cosines import Cosines
from dpgen.privacy.mechanisms.contributions import Block

if TYPE_CHECKING:
    from torch import Tensor

MEANS, SPREAD = "class means", "class spread"  # labels of the two releases' charges


@dataclass(frozen=True)
class ClassMeans:
    """Class-wise sums of centred pixels, and counts.

    Args:
        shape: (C, H, W).
        n_classes: rows of the table.
        centre: c, in [-1, 1].
        radius: R, the largest norm of a centred record.
        count_weight: r, the weight of the counts.
    """

    shape: tuple[int, int, int]
    n_classes: int
    centre: float
    radius: float
    count_weight: float

    def __post_init__(self) -> None:
        for name in ("radius", "count_weight"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be greater than 0, got {getattr(self, name)}")

    @property
    def bound(self) -> float:
        return math.hypot(self.radius, self.count_weight)

    @property
    def count_scale(self) -> float:
        return self.count_weight

    @property
    def tables(self) -> dict[str, tuple[int, int]]:
        return {"sums": (self.n_classes, math.prod(self.shape) + 1)}

    @property
    def settings(self) -> dict[str, Any]:
        return {
            "name": "ClassMeans",
            "shape": list(self.shape),
            "n_classes": self.n_classes,
            "centre": self.centre,
            "radius": self.radius,
            "count_weight": self.count_weight,
        }

    def __call__(self, pixels: Tensor, labels: Tensor) -> dict[str, Block]:
        import torch

        x = shorten(pixels.flatten(1).double() - self.centre, self.radius)
        counts = torch.full((len(x), 1), self.count_weight, dtype=torch.float64)
        return {"sums": Block(torch.cat([x, counts], 1), labels)}


@dataclass(frozen=True)
class ClassSpread:
    """Class-wise second moments around released class means, in a basis of cosines.

    Args:
        cosines: the basis.
        n_classes: rows of the table.
        radius: Q, the largest norm of a record's residual in the basis.
        means: the released class means, (K, C H W), which are not a setting.
    """

    cosines: Cosines
    n_classes: int
    radius: float
    means: Tensor | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        if not self.radius > 0:
            raise ValueError(f"radius must be greater than 0, got {self.radius}")

    def around(self, means: Tensor) -> Self:
        return replace(self, means=means)

    @property
    def bound(self) -> float:
        return self.radius**2

    @property
    def tables(self) -> dict[str, tuple[int, int]]:
        m = self.cosines.n_coefficients
        return {"squares": (self.n_classes, m * (m + 1) // 2)}

    @property
    def settings(self) -> dict[str, Any]:
        return {
            "name": "ClassSpread",
            "shape": list(self.cosines.shape),
            "bands": self.cosines.bands,
            "n_classes": self.n_classes,
            "radius": self.radius,
        }

    def __call__(self, pixels: Tensor, labels: Tensor) -> dict[str, Block]:
        if self.means is None:
            raise RuntimeError(
                "ClassSpread measures around released means: call around(means) first"
            )
        b = shorten(
            self.cosines.analyse(pixels.flatten(1).double() - self.means[labels]), self.radius
        )
        return {"squares": Block(stack(b[:, :, None] * b[:, None, :]), labels)}


def shorten(x: Tensor, radius: float) -> Tensor:
    """Clips the rows of x, (B, D), to norm ``radius``."""
    return x * (radius / x.norm(dim=1, keepdim=True).clamp_min(1e-12)).clamp(max=1)


def stack(symmetric: Tensor) -> Tensor:
    """Maps symmetric matrices (..., m, m) to vectors (..., m (m + 1) / 2), isometrically."""
    import torch

    m = symmetric.shape[-1]
    i, j = torch.triu_indices(m, m)
    return symmetric[..., i, j] * _scales(i, j, symmetric)


def unstack(stacked: Tensor) -> Tensor:
    """Inverts `stack`."""
    import torch

    m = round((math.sqrt(8 * stacked.shape[-1] + 1) - 1) / 2)
    i, j = torch.triu_indices(m, m)
    values = stacked / _scales(i, j, stacked)
    out = stacked.new_zeros(*stacked.shape[:-1], m, m)
    out[..., i, j] = values
    out[..., j, i] = values
    return out


def _scales(i: Tensor, j: Tensor, like: Tensor) -> Tensor:
    """Returns 1 on the diagonal and sqrt(2) off it, in the precision of ``like``."""
    return 1 + (math.sqrt(2) - 1) * (i != j).to(like)
