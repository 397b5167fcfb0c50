"""A linear classifier of Gabor features, as which the private labeller is released."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Self

import torch
from torch import Tensor, nn

from dpgen.networks.fixed.gabor import GaborFeatures, unit

__all__ = ["Axes", "Labeller", "LabellerConfig", "in_parts"]


class Axes(NamedTuple):
    """Principal axes of the features of released samples, with small ones enlarged.

    centre: (D,); directions: (D, d).
    """

    centre: Tensor
    directions: Tensor

    @classmethod
    def fitted(cls, features: Tensor, n_axes: int) -> Self:
        """Fits the axes to features (M, D); each axis is divided by its variance to the power
        3/8.
        """
        centre = features.mean(0)
        deviations = (features - centre).double()
        values, vectors = torch.linalg.eigh(deviations.T @ deviations / len(deviations))
        values, vectors = values.flip(0)[:n_axes].clamp_min(0), vectors.flip(1)[:, :n_axes]
        stretch = (values + 1e-4 * values.sum()).pow(-0.375)
        return cls(centre, (vectors * stretch).float())

    def project(self, features: Tensor) -> Tensor:
        """Projects features on the axes, (B, D) -> (B, d), each of norm one or zero."""
        return unit((features - self.centre) @ self.directions)


@dataclass(frozen=True)
class LabellerConfig:
    """All numbers of a labeller.

    Args:
        features: the public map.
        n_classes: number of classes.
        n_axes: d, the number of axes of the features that are used.
    """

    features: GaborFeatures
    n_classes: int
    n_axes: int


class Labeller(nn.Module):
    """Logits linear in the projected features; nothing in it is trained by gradients.

    Args:
        config: the numbers.
    """

    centre: Tensor
    directions: Tensor
    weights: Tensor
    bias: Tensor

    def __init__(self, config: LabellerConfig) -> None:
        super().__init__()
        self.config = config
        n_features, d, k = config.features.n_features, config.n_axes, config.n_classes
        self.register_buffer("centre", torch.zeros(n_features))
        self.register_buffer("directions", torch.zeros(n_features, d))
        self.register_buffer("weights", torch.zeros(d, k))
        self.register_buffer("bias", torch.zeros(k))

    def set(self, axes: Axes, weights: Tensor, bias: Tensor) -> None:
        """Sets axes, weights (d, K) and bias (K,)."""
        for name, value in (("weights", weights), ("bias", bias), *axes._asdict().items()):
            getattr(self, name).copy_(value)

    def forward(self, x: Tensor) -> Tensor:
        """Computes logits (B, K) of images (B, C, H, W) in [-1, 1]; differentiable in them."""
        features = self.config.features(x)
        return Axes(self.centre, self.directions).project(features) @ self.weights + self.bias

    def label(self, pixels: Tensor) -> Tensor:
        """Returns the most likely class of each image, (B,) int64."""
        return in_parts(self, pixels).argmax(1)


@torch.no_grad()
def in_parts(function: Callable[[Tensor], Tensor], pixels: Tensor) -> Tensor:
    """Applies ``function`` to all images, 500 at a time."""
    return torch.cat([function(part) for part in pixels.split(500)])
