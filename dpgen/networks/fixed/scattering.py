r"""Scattering of natural images: fixed, public features of one image, of textures and edges.

    S_0 = x * phi     S_1 = |x * psi_jk| * phi     S_2 = ||x * psi_0k| * psi_1l| * phi

of brightness in eight orientations and of two differences of colours in four, at two scales, in a
grid of cells of four pixels; the roots of orders 1 and 2, and of an image and its mirror image the
mean: a small shift and a change of sides leave the features nearly as they are.

Reference: Bruna and Mallat (2013), "Invariant Scattering Convolution Networks", arXiv 1203.1513;
Tramèr and Boneh (2021), arXiv 2011.11660, for private linear classifiers of such features.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from dpgen.networks.fixed.colour_cosines import opponent_colours

if TYPE_CHECKING:
    from torch import Tensor

CELL, PADDING = 4, 4  # pixels per side
WIDTH = 0.8  # of the finest filters, in pixels; those of the next scale are twice as wide
FREQUENCY = 0.75 * math.pi
SMALLEST_SIDE = PADDING + 2  # reflected at its edges, an odd side needs one more
SMALLEST = 1e-4  # is added before the root
ORIENTATIONS, FEWER = 8, 4  # of brightness, of differences of colours


@dataclass(frozen=True)
class ScatteringFeatures:
    """Scattering features of images of one shape.

    Args:
        shape: (C, H, W); only three channels are taken for colours.
        largest_side: images are averaged down to this many pixels first.
    """

    shape: tuple[int, int, int]
    largest_side: int = 32

    def __post_init__(self) -> None:
        if min(self.shape[1:]) < SMALLEST_SIDE:
            raise ValueError(
                f"scattering needs images of at least {SMALLEST_SIDE}x{SMALLEST_SIDE}, got "
                f"{self.shape[1]}x{self.shape[2]}: leave the classifier out"
            )
        if self.largest_side < SMALLEST_SIDE:
            raise ValueError(
                f"largest_side must be at least {SMALLEST_SIDE}, got {self.largest_side}"
            )

    @property
    def settings(self) -> dict[str, Any]:
        return {
            "name": "ScatteringFeatures",
            "shape": list(self.shape),
            "largest_side": self.largest_side,
        }

    @property
    def channels(self) -> tuple[tuple[int, int], ...]:
        """Returns the number of channels and of cells of each, as the features are laid out."""
        pairs, alone = self._mirrored
        rows, columns = self._grid
        return (len(pairs), rows * columns), (len(alone), rows * -(-columns // 2))

    @property
    def n_features(self) -> int:
        return sum(n_channels * n_cells for n_channels, n_cells in self.channels)

    @property
    def sides(self) -> tuple[int, int]:
        """Returns the height and width that are analysed: larger images are averaged down."""
        _, height, width = self.shape
        return min(height, self.largest_side), min(width, self.largest_side)

    @cached_property
    def _grid(self) -> tuple[int, int]:
        height, width = self.sides
        return -(-height // CELL), -(-width // CELL)

    @cached_property
    def _orientations(self) -> tuple[int, ...]:
        """Returns the number of orientations of each channel."""
        channels = self.shape[0]
        return (ORIENTATIONS, FEWER, FEWER) if channels == 3 else (ORIENTATIONS,) * channels

    @cached_property
    def _mirrored(self) -> tuple[list[tuple[int, int]], list[int]]:
        """Returns the pairs of maps of which one is the other's in the mirror, and the maps that
        are their own.
        """
        partner: list[int] = []
        for n in self._orientations:
            first = len(partner)
            turned = [-k % n for k in range(n)]
            partner += [first]
            for scale in range(2):
                partner += [first + 1 + scale * n + k for k in turned]
            partner += [first + 1 + 2 * n + k * n + m for k in turned for m in turned]
        pairs = [(k, m) for k, m in enumerate(partner) if k < m]
        return pairs, [k for k, m in enumerate(partner) if k == m]

    @cached_property
    def _frame(self) -> Frame:
        return Frame(*self.sides)

    def __call__(self, pixels: Tensor) -> Tensor:
        """Computes features of images in [-1, 1], (B, C, H, W) -> (B, n_features), in the precision
        of the pixels.
        """
        import torch
        from torch.nn import functional

        x = pixels
        if x.shape[2:] != self.sides:
            x = functional.adaptive_avg_pool2d(x, self.sides)
        if self.shape[0] == 3:
            x = torch.einsum("oc,bchw->bohw", opponent_colours(x.dtype), x)
        maps, first = [], 0
        while first < x.shape[1]:  # channels with as many orientations go together
            n = self._orientations[first]
            last = first + self._orientations[first:].count(n)
            maps.append(self._frame.scatter(x[:, first:last], n).flatten(1, 2))
            first = last
        return self._symmetric(torch.cat(maps, 1))

    def _symmetric(self, maps: Tensor) -> Tensor:
        """Averages maps (B, n, h, w) with those of the mirror image, isometrically."""
        import torch

        pairs, alone = self._mirrored
        left, right = maps[:, [k for k, _ in pairs]], maps[:, [m for _, m in pairs]]
        own, half = maps[:, alone], -(-maps.shape[3] // 2)
        both = (left + right.flip(3)) * math.sqrt(0.5)
        same = ((own + own.flip(3)) * math.sqrt(0.5))[..., :half]
        return torch.cat([both.flatten(1), same.flatten(1)], 1)


class Frame:
    """The filters of one size of images.

    Args:
        height, width: of the images.
    """

    def __init__(self, height: int, width: int) -> None:
        import torch

        # Both scales need whole numbers of pixels.
        self.padding = PADDING, PADDING + width % 2, PADDING, PADDING + height % 2
        self.size = height + height % 2 + 2 * PADDING, width + width % 2 + 2 * PADDING
        self.cells = [
            [torch.stack(averages(side, -(-side // CELL), padded, step)) for step in (1, 2)]
            for side, padded in zip((height, width), self.size, strict=True)
        ]
        self.filters: dict[int, tuple[Tensor, Tensor]] = {}

    def scatter(self, x: Tensor, n: int) -> Tensor:
        """Computes the maps of channels (B, c, H, W), (B, c, 1 + 2 n + n^2, h, w)."""
        import torch
        from torch.nn import functional

        if n not in self.filters:
            self.filters[n] = (morlets(self.size, 1, n), morlets(self.size, 2, n))
        fine, coarse = (spectra.to(x.dtype) for spectra in self.filters[n])
        x = functional.pad(x, self.padding, mode="reflect")
        spectrum = torch.fft.fft2(x)[:, :, None]
        near = torch.fft.ifft2(spectrum * fine).abs()
        far = torch.fft.ifft2(halved(spectrum * coarse)).abs()
        again = torch.fft.fft2(near)[:, :, :, None]
        second = torch.fft.ifft2(halved(again * coarse)).abs().flatten(2, 3)
        orders = [self.averaged(m, k) for m, k in ((near, 0), (far, 1), (second, 1))]
        roots = [maps.add(SMALLEST).sqrt() for maps in orders]
        return torch.cat([self.averaged(x[:, :, None], 0), *roots], 2)

    def averaged(self, maps: Tensor, halvings: int) -> Tensor:
        """Averages maps over cells."""
        rows, columns = (cells[halvings].to(maps.dtype) for cells in self.cells)
        return rows @ (maps @ columns.T)


def averages(side: int, n_cells: int, padded: int, step: int) -> list[Tensor]:
    """Makes the weights of each cell over the pixels of a padded side, every ``step``-th."""
    import torch

    places = torch.arange(0, padded, step, dtype=torch.float64) - PADDING
    found = []
    for k in range(n_cells):
        middle = (k + 0.5) * side / n_cells - 0.5
        weights = torch.exp(-((places - middle) ** 2) / (2 * (2 * WIDTH) ** 2))
        found.append(weights / weights.sum())
    return found


def morlets(size: tuple[int, int], scale: int, n: int) -> Tensor:
    """Makes the spectra of Morlet wavelets of n orientations, (n, H, W), real.

    Args:
        scale: width and wavelength, in those of the finest wavelet.
    """
    import torch

    y, x = (torch.arange(s, dtype=torch.float64) for s in size)
    y, x = (torch.where(p < s / 2, p, p - s) for p, s in zip((y, x), size, strict=True))
    y, x = torch.meshgrid(y, x, indexing="ij")
    width, frequency, slant = WIDTH * scale, FREQUENCY / scale, 4 / n
    found = []
    for k in range(n):
        angle = math.pi * k / n
        along = x * math.cos(angle) + y * math.sin(angle)
        across = y * math.cos(angle) - x * math.sin(angle)
        window = torch.exp(-(along**2 + (slant * across) ** 2) / (2 * width**2))
        wave = window * torch.exp(1j * frequency * along)
        wave = wave - window * (wave.sum() / window.sum())
        found.append(torch.fft.fft2(wave * slant / (2 * math.pi * width**2)).real)
    return torch.stack(found)


def halved(spectrum: Tensor) -> Tensor:
    """Folds spectra (..., H, W) into those of every second pixel, (..., H / 2, W / 2)."""
    rows, columns = spectrum.shape[-2] // 2, spectrum.shape[-1] // 2
    half = spectrum[..., :rows, :] + spectrum[..., rows:, :]
    return (half[..., :columns] + half[..., columns:]) / 4
