"""The small classifier whose hidden layers `dpgen.networks.hidden_features` uses."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from dpgen.networks.hidden_features import N_GLOBAL, HiddenFeatures

__all__ = ["HiddenFeatures", "PerceptualNetwork"]


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
            nn.AdaptiveAvgPool2d(7),
        )
        self.hidden = nn.Sequential(nn.Flatten(), nn.Linear(98 * width, N_GLOBAL), nn.SiLU())
        self.head = nn.Linear(N_GLOBAL, n_classes)

    def layers(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Computes local features (B, 32 width) and global ones (B, 128) of images in [-1, 1]."""
        maps = self.convolutions(x)
        return functional.adaptive_avg_pool2d(maps, 4).flatten(1), self.hidden(maps)

    def forward(self, x: Tensor) -> Tensor:
        """Computes logits (B, n_classes) of images (B, C, H, W) in [-1, 1]."""
        return self.head(self.layers(x)[1])
