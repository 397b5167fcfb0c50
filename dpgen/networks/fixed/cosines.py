"""Low-frequency cosines of images: a public orthonormal basis in which pictures are compact."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from einops import rearrange

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Cosines:
    """The two-dimensional DCT-II coefficients with u + v < bands, per channel, low frequencies
    first.

    Guarantee: the basis is orthonormal, so `analyse` never increases a norm, and inverts
    `synthesise`; with ``bands >= H + W - 1`` both are rotations.

    Args:
        shape: (C, H, W) of the images.
        bands: number of diagonals of the spectrum that are kept.
    """

    shape: tuple[int, int, int]
    bands: int

    def __post_init__(self) -> None:
        if self.bands < 1:
            raise ValueError(f"bands must be at least 1, got {self.bands}")

    @cached_property
    def _matrices(self) -> tuple[Tensor, Tensor]:
        return _dct(self.shape[1]), _dct(self.shape[2])

    @cached_property
    def _kept(self) -> tuple[Tensor, Tensor]:
        """Returns vertical and horizontal frequencies, (m / C,) each, by ascending u^2 + v^2."""
        import torch

        _, height, width = self.shape
        rows = range(min(height, self.bands))
        pairs = [(u, v) for u in rows for v in range(min(width, self.bands - u))]
        pairs.sort(key=lambda pair: (pair[0] ** 2 + pair[1] ** 2, pair))
        vertical, horizontal = torch.tensor(pairs).T
        return vertical, horizontal

    @property
    def frequencies(self) -> tuple[Tensor, Tensor]:
        """Returns vertical and horizontal ones of one channel's coefficients, (m / C,) each."""
        return self._kept

    @property
    def n_coefficients(self) -> int:
        channels, height, width = self.shape
        rows = range(min(height, self.bands))
        return channels * sum(min(width, self.bands - u) for u in rows)

    def analyse(self, x: Tensor) -> Tensor:
        """Computes coefficients (..., m), float64, of flat images (..., C H W); channels vary
        fastest.
        """
        rows, columns = self._matrices
        c, h, w = self.shape
        spectrum = rows @ x.double().unflatten(-1, (c, h, w)) @ columns.T
        u, v = self._kept
        return rearrange(spectrum[..., u, v], "... c m -> ... (m c)")

    def synthesise(self, coefficients: Tensor) -> Tensor:
        """Computes the flat images (..., C H W) that have these coefficients, (..., m), and no
        others.
        """
        rows, columns = self._matrices
        c, h, w = self.shape
        u, v = self._kept
        spectrum = coefficients.new_zeros(*coefficients.shape[:-1], c, h, w)
        spectrum[..., u, v] = rearrange(coefficients, "... (m c) -> ... c m", c=c)
        return (rows.T.to(spectrum) @ spectrum @ columns.to(spectrum)).flatten(-3)


def _dct(n: int) -> Tensor:
    """Returns the orthonormal DCT-II matrix, (frequency, position), float64."""
    import torch

    k = torch.arange(n, dtype=torch.float64)
    matrix = torch.cos(math.pi / n * (k[None] + 0.5) * k[:, None]) * math.sqrt(2 / n)
    matrix[0] /= math.sqrt(2)
    return matrix
