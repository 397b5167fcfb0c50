"""Low-frequency cosines of brightness and colour: the basis of spectra, and what falls outside."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from dpgen.networks.fixed.cosines import Cosines

if TYPE_CHECKING:
    import torch
    from torch import Tensor

# Brightness, red against blue, green against both: three directions at right angles.
OPPONENT = ((1.0, 1.0, 1.0), (1.0, 0.0, -1.0), (-0.5, 1.0, -0.5))
# How much less the two differences of colours vary than brightness does in most pictures.
COLOUR_VARIANCES = (1.0, 0.1, 0.05)


def opponent_colours(dtype: torch.dtype) -> Tensor:
    """Returns the orthogonal matrix (3, 3) that turns red, green and blue into opponent colours."""
    import torch

    rows = torch.tensor(OPPONENT, dtype=dtype)
    return rows / rows.norm(dim=1, keepdim=True)


@dataclass(frozen=True)
class ColourCosines:
    """Cosines with u + v < bands, of opponent colours where there are three channels.

    Guarantee: orthonormal, as `Cosines` is.

    Args:
        shape: (C, H, W) of the images.
        bands: how many diagonals of the spectrum are kept.
    """

    shape: tuple[int, int, int]
    bands: int

    @cached_property
    def _cosines(self) -> Cosines:
        return Cosines(self.shape, self.bands)

    @cached_property
    def _rotation(self) -> Tensor:
        """Returns an orthogonal matrix (C, C), float64."""
        import torch

        if self.shape[0] != 3:
            return torch.eye(self.shape[0], dtype=torch.float64)
        return opponent_colours(torch.float64)

    @property
    def n_coefficients(self) -> int:
        return self._cosines.n_coefficients

    def analyse(self, pixels: Tensor) -> Tensor:
        """Returns coefficients (B, m), float64, of images (B, C, H, W); channels run fastest."""
        import torch

        turned = torch.einsum("oc,bchw->bohw", self._rotation, pixels.double())
        return self._cosines.analyse(turned.flatten(1))

    def synthesise(self, coefficients: Tensor) -> Tensor:
        """Returns the images (B, C, H, W), float64, that have these coefficients (B, m) alone."""
        import torch

        turned = self._cosines.synthesise(coefficients.double()).unflatten(1, self.shape)
        return torch.einsum("oc,bohw->bchw", self._rotation, turned)

    @cached_property
    def typical(self) -> Tensor:
        """Returns variances of the coefficients of pictures in general, (m,), of sum 1: they fall
        with the square of frequency, and colour varies less than brightness.

        Source: Field (1987), "Relations between the statistics of natural images and the response
        properties of cortical cells", for the spectrum.
        """
        import torch

        down, across = self._cosines.frequencies
        fall = 1 / (1 + down.double().square() + across.double().square())
        colours = torch.ones(self.shape[0], dtype=torch.float64)
        if self.shape[0] == 3:
            colours = torch.tensor(COLOUR_VARIANCES, dtype=torch.float64)
        variances = (fall[:, None] * colours).flatten()
        return variances / variances.sum()

    @cached_property
    def even(self) -> Tensor:
        """Returns which coefficients a mirror image has in common with its image, (m,), bool; the
        others have the opposite sign there.
        """
        _, across = self._cosines.frequencies
        return (across % 2 == 0).repeat_interleave(self.shape[0])

    @property
    def radius(self) -> float:
        """Returns the largest norm of an image with pixels in [-1, 1]."""
        return math.sqrt(math.prod(self.shape))
