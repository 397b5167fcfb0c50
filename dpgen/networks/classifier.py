"""Classifiers, for downstream accuracy, and small networks for audits.

All compute logits and, one layer earlier, features.
"""

from __future__ import annotations

import math

from einops import rearrange
from torch import Tensor, nn

__all__ = ["MLP", "Classifier", "Logistic"]


class Classifier(nn.Module):
    """A small convolutional classifier of images in [-1, 1].

    Guarantees: no statistic across records (GroupNorm only) and no dropout: train and eval mode
    give the same logits. It takes any sides from 4 pixels up: at most three halvings, then an
    average over 4x4 cells.

    Args:
        shape: (C, H, W).
        n_classes: number of classes, at least 1.
        width: channels of the first block, a multiple of 8; doubled at each halving.
    """

    def __init__(self, shape: tuple[int, int, int], n_classes: int, *, width: int = 32) -> None:
        super().__init__()
        _check(shape, n_classes)
        if width < 8 or width % 8:
            raise ValueError(f"width must be a positive multiple of 8, got {width}")
        if min(shape[1:]) < 4:
            raise ValueError(f"height and width must be at least 4, got {shape[1]}x{shape[2]}")
        self.shape = shape
        n_halvings = min(3, max(1, int(math.log2(min(shape[1:]) / 4))))
        widths = [shape[0]] + [width * 2**k for k in range(n_halvings)]
        layers: list[nn.Module] = []
        for narrow, wide in zip(widths, widths[1:], strict=False):
            layers += [
                nn.Conv2d(narrow, wide, 3, padding=1),
                nn.GroupNorm(8, wide),
                nn.SiLU(),
                nn.Conv2d(wide, wide, 3, padding=1),
                nn.GroupNorm(8, wide),
                nn.SiLU(),
                nn.MaxPool2d(2),
            ]
        self.body = nn.Sequential(
            *layers,
            nn.AdaptiveAvgPool2d(4),
            nn.Flatten(),
            nn.Linear(16 * widths[-1], 128),
            nn.SiLU(),
        )
        self.head = nn.Linear(128, n_classes)

    def features(self, x: Tensor) -> Tensor:
        """Returns the input of the last linear layer, (B, 128)."""
        _check_images(x, self.shape)
        return self.body(x)

    def forward(self, x: Tensor) -> Tensor:
        """Computes logits, (B, n_classes), of images (B, C, H, W) in [-1, 1]."""
        return self.head(self.features(x))


class MLP(nn.Module):
    """A classifier with two hidden layers on the pixels, for tiny images.

    Guarantees: as `Classifier`.

    Args:
        shape: (C, H, W).
        n_classes: number of classes, at least 1.
        width: units of each hidden layer.
    """

    def __init__(self, shape: tuple[int, int, int], n_classes: int, *, width: int = 128) -> None:
        super().__init__()
        _check(shape, n_classes)
        if width < 1:
            raise ValueError(f"width must be at least 1, got {width}")
        self.shape = shape
        self.body = nn.Sequential(
            nn.Linear(math.prod(shape), width), nn.SiLU(), nn.Linear(width, width), nn.SiLU()
        )
        self.head = nn.Linear(width, n_classes)

    def features(self, x: Tensor) -> Tensor:
        """Returns the input of the last linear layer, (B, width)."""
        _check_images(x, self.shape)
        return self.body(rearrange(x, "b c h w -> b (c h w)"))

    def forward(self, x: Tensor) -> Tensor:
        """Computes logits, (B, n_classes), of images (B, C, H, W) in [-1, 1]."""
        return self.head(self.features(x))


class Logistic(nn.Module):
    """Multinomial logistic regression on the pixels.

    Args:
        shape: (C, H, W).
        n_classes: number of classes, at least 1.
    """

    def __init__(self, shape: tuple[int, int, int], n_classes: int) -> None:
        super().__init__()
        _check(shape, n_classes)
        self.shape = shape
        self.head = nn.Linear(math.prod(shape), n_classes)

    def features(self, x: Tensor) -> Tensor:
        """Returns the input of the linear layer: the pixels, (B, C H W)."""
        _check_images(x, self.shape)
        return rearrange(x, "b c h w -> b (c h w)")

    def forward(self, x: Tensor) -> Tensor:
        """Computes logits, (B, n_classes), of images (B, C, H, W) in [-1, 1]."""
        return self.head(self.features(x))


def _check(shape: tuple[int, int, int], n_classes: int) -> None:
    if len(shape) != 3 or min(shape) < 1:
        raise ValueError(f"shape must be (C, H, W), all positive, got {shape}")
    if n_classes < 1:
        raise ValueError(f"n_classes must be at least 1 (1 means no classes), got {n_classes}")


def _check_images(x: Tensor, shape: tuple[int, int, int]) -> None:
    if x.ndim != 4 or tuple(x.shape[1:]) != tuple(shape):
        expected = ", ".join(map(str, shape))
        raise ValueError(f"x must have shape (B, {expected}), got {tuple(x.shape)}")
