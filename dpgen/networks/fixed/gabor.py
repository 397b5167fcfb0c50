r"""Gabor-modulus features: fixed, public functions of one image that locate its edges, in two
orders.

    U_1 = |x * psi_k|   over orientations k, at a fine and a coarse scale, averaged over colours
    U_2 = | U_1 * psi_l |

smoothed and averaged over a grid of cells, each group divided by its own norm, and the whole
normalised to norm one. The modulus removes the exact position of an edge, the grid keeps its rough
position: small shifts change the features little, and a linear classifier of them works well.

Reference: Bruna and Mallat (2013), "Invariant Scattering Convolution Networks", arXiv 1203.1513.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

GROUPS = (0.7, 1.0, 1.0, 0.9)  # weights of pixels, fine, coarse and second-order maps


@dataclass(frozen=True)
class GaborFeatures:
    """Features of images of one shape, of norm one; zero for an image with non-finite pixels.

    Args:
        shape: (C, H, W).
        grid: cells per side over which moduli are averaged.
        largest_side: images are averaged down to this many pixels first.
    """

    shape: tuple[int, int, int]
    grid: int = 7
    largest_side: int = 32

    def __post_init__(self) -> None:
        if min(self.shape[1:]) < 2:
            raise ValueError(
                f"edges need images of at least 2x2, got {self.shape[1]}x{self.shape[2]}: "
                "leave the labeller out (labeller_share=0)"
            )
        for name in ("grid", "largest_side"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")

    @property
    def n_features(self) -> int:
        return (self.shape[0] + 8 + 8 + 8 * 4) * self.grid**2

    @property
    def channels(self) -> tuple[tuple[int, int], ...]:
        """Returns the number of channels and of cells of each, as the features are laid out."""
        return ((self.n_features // self.grid**2, self.grid**2),)

    @property
    def settings(self) -> dict[str, Any]:
        return {
            "name": "GaborFeatures",
            "shape": list(self.shape),
            "grid": self.grid,
            "largest_side": self.largest_side,
        }

    @cached_property
    def _filters(self) -> tuple[Tensor, Tensor, Tensor]:
        return (
            gabor_pairs(7, width=1.3, frequency=0.45 * math.pi, n_orientations=8),
            gabor_pairs(9, width=2.2, frequency=0.30 * math.pi, n_orientations=8),
            gabor_pairs(7, width=1.5, frequency=0.40 * math.pi, n_orientations=4),
        )

    def __call__(self, pixels: Tensor) -> Tensor:
        """Computes features of images in [-1, 1], (B, C, H, W) -> (B, n_features), float32."""
        import torch
        from torch.nn import functional

        x = (pixels.float() + 1) / 2
        if max(x.shape[2:]) > self.largest_side:
            x = functional.adaptive_avg_pool2d(x, self.largest_side)
        narrow, wide, again = self._filters
        fine = modulus(x, narrow).square().mean(1).sqrt()
        coarse = modulus(x, wide).square().mean(1).sqrt()
        second = modulus(functional.avg_pool2d(fine, 2), again).flatten(1, 2)
        groups = []
        for maps, weight in zip((x, fine, coarse, second), GROUPS, strict=True):
            smooth = functional.avg_pool2d(functional.pad(maps, (1, 1, 1, 1)), 3, 1)
            cells = functional.adaptive_avg_pool2d(smooth, self.grid).flatten(1)
            groups.append(weight * cells / cells.norm(dim=1, keepdim=True).clamp_min(1e-3))
        return unit(torch.cat(groups, 1))


def unit(rows: Tensor) -> Tensor:
    """Normalises rows, (B, D), to norm one; a row that is zero or not finite becomes zero."""
    import torch

    finite = torch.isfinite(rows).all(1, keepdim=True)
    rows = torch.where(finite, rows, torch.zeros_like(rows))
    return rows / rows.norm(dim=1, keepdim=True).clamp_min(1e-6)


def modulus(maps: Tensor, filters: Tensor) -> Tensor:
    """Computes the modulus of each pair of filters' responses, (B, C, H, W) -> (B, C, n, H, W): the
    root of their summed squares.
    """
    from torch.nn import functional

    size = filters.shape[-1]
    found = functional.conv2d(maps.flatten(0, 1)[:, None], filters.to(maps), padding=size // 2)
    found = found.unflatten(1, (-1, 2)).square().sum(2).add(1e-8).sqrt()
    return found.unflatten(0, maps.shape[:2])


def gabor_pairs(size: int, *, width: float, frequency: float, n_orientations: int) -> Tensor:
    """Makes even and odd filters of zero mean, (2 n, 1, size, size); each pair together has norm
    one.
    """
    import torch

    r = torch.arange(size) - (size - 1) / 2
    y, x = torch.meshgrid(r, r, indexing="ij")
    window = torch.exp(-(x**2 + y**2) / (2 * width**2))
    filters = []
    for k in range(n_orientations):
        along = x * math.cos(math.pi * k / n_orientations)
        along = along + y * math.sin(math.pi * k / n_orientations)
        even, odd = window * (frequency * along).cos(), window * (frequency * along).sin()
        even = even - window * (even.sum() / window.sum())
        norm = (even.square() + odd.square()).sum().sqrt()
        filters += [even / norm, odd / norm]
    return torch.stack(filters)[:, None]
