"""The small classifier whose hidden layers `dpgen.networks.hidden_features` uses."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from dpgen.networks.hidden_features import N_GLOBAL, HiddenFeatures

__all__ = ["HiddenFeatures", "PerceptualNetwork"]


def _pooled(x: Tensor, side: int) -> Tensor:
    """Averages maps (B, C, H, W) over side x side cells, as ``adaptive_avg_pool2d`` does, by one
    matrix product, which takes a sixth of its time on a CPU.
    """
    height, width = x.shape[2:]
    if height == width == side:
        return x
    down, across = (
        functional.adaptive_avg_pool1d(torch.eye(n, device=x.device), side) for n in (height, width)
    )
    weights = torch.kron(down, across).to(torch.promote_types(x.dtype, torch.float32))
    return (x.flatten(2) @ weights).unflatten(2, (side, side))


class _Pooled(nn.Module):
    """Averages maps over ``side`` x ``side`` cells."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def forward(self, x: Tensor) -> Tensor:
        return _pooled(x, self.side)


class PerceptualNetwork(nn.Module):
    """Three convolutions and a hidden layer. No statistic across images.

    Args:
        shape: (C, H, W).
        n_classes: number of classes, at least 1.
        width: channels of the first convolution.
    """

    def __init__(self, shape: tuple[int, int, int], n_classes: int, *, width: int) -> None:
        super().__init__()
        self.width = width
        self.convolutions = nn.Sequential(
            nn.Conv2d(shape[0], width, 5, 2, 2),
            nn.SiLU(),
            nn.Conv2d(width, 2 * width, 3, 2, 1),
            nn.SiLU(),
            nn.Conv2d(2 * width, 2 * width, 3, 1, 1),
            nn.SiLU(),
            _Pooled(7),
        )
        self.hidden = nn.Sequential(nn.Flatten(), nn.Linear(98 * width, N_GLOBAL), nn.SiLU())
        self.head = nn.Linear(N_GLOBAL, n_classes)

    def layers(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Computes local features (B, 32 width) and global ones (B, 128) of images in [-1, 1]."""
        maps = self.convolutions(x)
        return _pooled(maps, 4).flatten(1), self.hidden(maps)

    def forward(self, x: Tensor) -> Tensor:
        """Computes logits (B, n_classes) of images (B, C, H, W) in [-1, 1]."""
        return self.head(self.layers(x)[1])
