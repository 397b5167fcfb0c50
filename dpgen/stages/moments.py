r"""What the warm start asks of the records: class-wise sums, counts and second moments, in one release.

A record x with label y, centred at a public constant c, contributes to row y of two tables

    first   (x - c, r)                       r > 0 counts the record
    second  w sym(B'(x - c) (x - c)'B)       B: orthonormal low-frequency cosines (DCT-II)

where sym stacks the upper triangle of a symmetric matrix, off-diagonal entries times sqrt(2), so that its norm is the
matrix's Frobenius norm. With ||x - c|| clipped to R the whole vector has norm at most sqrt(R^2 + r^2 + w^2 R^4): the bound.
Classes cost nothing, a record sits in one of them.

Source: warm-start block of the design, privacy.md section 3.3.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from dpgen.privacy.mechanisms import Block


@dataclass(frozen=True)
class ClassMoments:
    """The statistic of the warm start, all of it public numbers.

    Args:
        shape: (C, H, W).
        n_classes: rows of both tables.
        centre: the grey value, in [-1, 1], that pixels are centred at.
        radius: R, the largest norm of a centred record.
        count_weight: r, how strongly counts are measured.
        second_weight: norm of the second-moment block relative to R: w = second_weight / R.
        bands: second moments are taken of the cosines with u + v < bands, per channel.
    """

    shape: tuple[int, int, int]
    n_classes: int
    centre: float
    radius: float
    count_weight: float
    second_weight: float
    bands: int

    def __post_init__(self) -> None:
        for name in ("radius", "count_weight", "second_weight", "bands"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be greater than 0, got {getattr(self, name)}")

    @property
    def n_pixels(self) -> int:
        return math.prod(self.shape)

    @cached_property
    def basis(self) -> Tensor:
        """B, (n_pixels, m) float64, orthonormal columns, slow cosines first."""
        return cosines(self.shape, self.bands)

    @property
    def bound(self) -> float:
        return math.sqrt(self.radius**2 + self.count_weight**2 + (self.second_weight * self.radius) ** 2)

    @property
    def tables(self) -> dict[str, tuple[int, int]]:
        m = self.basis.shape[1]
        return {"first": (self.n_classes, self.n_pixels + 1), "second": (self.n_classes, m * (m + 1) // 2)}

    @property
    def settings(self) -> dict[str, Any]:
        return {"name": "ClassMoments", **asdict(self), "shape": list(self.shape)}

    def __call__(self, pixels: Tensor, labels: Tensor) -> dict[str, Block]:
        x = pixels.flatten(1).double() - self.centre
        norms = x.norm(dim=1, keepdim=True)
        x = x * (self.radius / norms.clamp_min(1e-12)).clamp(max=1)
        counts = torch.full((len(x), 1), self.count_weight, dtype=torch.float64)
        projected = x @ self.basis
        second = (self.second_weight / self.radius) * stack(projected[:, :, None] * projected[:, None, :])
        return {"first": Block(torch.cat([x, counts], 1), labels), "second": Block(second, labels)}


def cosines(shape: tuple[int, int, int], bands: int) -> Tensor:
    """Orthonormal two-dimensional cosines (DCT-II) with u + v < bands, channel by channel, (C H W, m)."""
    channels, height, width = shape
    rows, columns = _dct(height), _dct(width)
    pairs = sorted(
        ((u, v) for u in range(height) for v in range(width) if u + v < bands),
        key=lambda pair: (pair[0] ** 2 + pair[1] ** 2, pair),
    )
    plane = torch.stack([torch.outer(rows[u], columns[v]).flatten() for u, v in pairs], 1)
    return torch.block_diag(*[plane] * channels)


def _dct(n: int) -> Tensor:
    """The orthonormal DCT-II matrix, (frequency, position)."""
    k = torch.arange(n, dtype=torch.float64)
    matrix = torch.cos(math.pi / n * (k[None] + 0.5) * k[:, None]) * math.sqrt(2 / n)
    matrix[0] /= math.sqrt(2)
    return matrix


def stack(symmetric: Tensor) -> Tensor:
    """(..., m, m) symmetric to (..., m (m + 1) / 2), an isometry."""
    m = symmetric.shape[-1]
    i, j = torch.triu_indices(m, m)
    return symmetric[..., i, j] * torch.where(i == j, 1.0, math.sqrt(2)).to(symmetric)


def unstack(stacked: Tensor) -> Tensor:
    """The inverse of `stack`."""
    m = round((math.sqrt(8 * stacked.shape[-1] + 1) - 1) / 2)
    i, j = torch.triu_indices(m, m)
    values = stacked / torch.where(i == j, 1.0, math.sqrt(2)).to(stacked)
    out = stacked.new_zeros(*stacked.shape[:-1], m, m)
    out[..., i, j] = values
    out[..., j, i] = values
    return out
