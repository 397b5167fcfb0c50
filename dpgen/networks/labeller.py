"""A linear classifier of fixed features, as which the private labeller is released."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Self

import torch
from torch import Tensor, nn

from dpgen.networks.fixed.gabor import GaborFeatures, unit
from dpgen.networks.fixed.scattering import ScatteringFeatures
from dpgen.networks.seeding import seeded

__all__ = ["Axes", "Labeller", "LabellerConfig", "Scale", "in_parts"]

OVERSAMPLED = 100  # axes that random projections look for beyond those that are used


class Scale(NamedTuple):
    """Mean and scale of each feature over pictures that are not private, (D,) each."""

    mean: Tensor
    deviation: Tensor

    @classmethod
    def fitted(cls, features: Tensor) -> Self:
        """Fits the scale to features (M, D); small deviations are enlarged."""
        deviation = features.std(0)
        enlarged = deviation + 0.3 * deviation.median()
        return cls(features.mean(0), enlarged.clamp_min(1e-6))

    def standardise(self, features: Tensor) -> Tensor:
        """Standardises features, (B, D) -> (B, D), and normalises each row to norm one or zero."""
        return unit((features - self.mean) / self.deviation)


class Axes(NamedTuple):
    """Principal axes of the features of released samples, with small ones enlarged.

    centre: (D,); directions: (D, d); scale: what the features are standardised by first, if
    anything.
    """

    centre: Tensor
    directions: Tensor
    scale: Scale | None = None

    @classmethod
    def fitted(cls, features: Tensor, n_axes: int, scale: Scale | None = None) -> Self:
        """Fits the axes to features (M, D); each axis is divided by its variance to the power
        3/8.

        Args:
            scale: what the features are standardised by first. There are then many of them, and the
                axes are found by random projections.
        """
        if scale is not None:
            features = scale.standardise(features)
        centre = features.mean(0)
        if scale is None:
            deviations = (features - centre).double()
            values, vectors = torch.linalg.eigh(deviations.T @ deviations / len(deviations))
            values, vectors = values.flip(0)[:n_axes].clamp_min(0), vectors.flip(1)[:, :n_axes]
        else:
            with seeded(0):
                most = min(n_axes + OVERSAMPLED, *features.shape)
                _, singular, vectors = torch.svd_lowrank(features - centre, q=most, niter=2)
            values, vectors = singular[:n_axes].square() / len(features), vectors[:, :n_axes]
        stretch = (values + 1e-4 * values.sum()).pow(-0.375)
        return cls(centre, (vectors * stretch).float(), scale)

    def tensors(self) -> dict[str, Tensor]:
        """Returns all tensors by name."""
        own = {"centre": self.centre, "directions": self.directions}
        return own if self.scale is None else {**own, **self.scale._asdict()}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> Self:
        """Reads axes that `tensors` gave."""
        scale = Scale(tensors["mean"], tensors["deviation"]) if "mean" in tensors else None
        return cls(tensors["centre"], tensors["directions"], scale)

    def coordinates(self, features: Tensor) -> Tensor:
        """Projects features on the axes, (B, D) -> (B, d)."""
        if self.scale is not None:
            features = self.scale.standardise(features)
        return (features - self.centre) @ self.directions.to(features.dtype)

    def project(self, features: Tensor) -> Tensor:
        """Projects features on the axes, (B, D) -> (B, d), each of norm one or zero."""
        return unit(self.coordinates(features))


FeatureMap = GaborFeatures | ScatteringFeatures


@dataclass(frozen=True)
class LabellerConfig:
    """All numbers of a labeller.

    Args:
        features: the public map; None if it is scattering.
        n_classes: number of classes.
        n_axes: d, the number of axes of the features that are used.
        scattering: the public map in place of ``features``, with axes of standardised features.
    """

    features: GaborFeatures | None
    n_classes: int
    n_axes: int
    scattering: ScatteringFeatures | None = None

    def __post_init__(self) -> None:
        if (self.features is None) == (self.scattering is None):
            raise ValueError("a labeller must have either Gabor features or scattering")

    @classmethod
    def of(cls, features: FeatureMap, n_classes: int, n_axes: int) -> Self:
        """Makes the configuration of a labeller of these features."""
        if isinstance(features, ScatteringFeatures):
            return cls(None, n_classes, n_axes, features)
        return cls(features, n_classes, n_axes)

    @property
    def map(self) -> FeatureMap:
        """Returns the public map, whichever it is."""
        features = self.features or self.scattering
        assert features is not None
        return features

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.map.shape


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
        n_features, d, k = config.map.n_features, config.n_axes, config.n_classes
        self.register_buffer("centre", torch.zeros(n_features))
        self.register_buffer("directions", torch.zeros(n_features, d))
        self.register_buffer("weights", torch.zeros(d, k))
        self.register_buffer("bias", torch.zeros(k))
        if config.scattering is not None:
            self.register_buffer("mean", torch.zeros(n_features))
            self.register_buffer("deviation", torch.ones(n_features))

    @property
    def n_classes(self) -> int:
        return self.config.n_classes

    @property
    def axes(self) -> Axes:
        """Returns the axes of the features."""
        return Axes.from_tensors(dict(self.named_buffers()))

    def set(self, axes: Axes, weights: Tensor, bias: Tensor) -> None:
        """Sets axes, weights (d, K) and bias (K,)."""
        given = {"weights": weights, "bias": bias, **axes.tensors()}
        for name, buffer in self.named_buffers():
            buffer.copy_(given[name])

    def forward(self, x: Tensor) -> Tensor:
        """Computes logits (B, K) of images (B, C, H, W) in [-1, 1]; differentiable in them."""
        return self.answer(self.coordinates(x))

    def coordinates(self, x: Tensor) -> Tensor:
        """Computes the coordinates of the features of images along the axes, (B, d)."""
        return self.axes.coordinates(self.config.map(x))

    def answer(self, coordinates: Tensor) -> Tensor:
        """Computes logits (B, K) from `coordinates`, (B, d)."""
        return unit(coordinates) @ self.weights + self.bias

    def label(self, pixels: Tensor) -> Tensor:
        """Returns the most likely class of each image, (B,) int64."""
        return in_parts(self, pixels).argmax(1)


@torch.no_grad()
def in_parts(function: Callable[[Tensor], Tensor], pixels: Tensor) -> Tensor:
    """Applies ``function`` to all images, 500 at a time."""
    return torch.cat([function(part) for part in pixels.split(500)])
