"""A condensed set as a released network: its weights are the images of each class, in an order."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from dpgen.networks.fixed.warps import augmented

__all__ = ["Condensed", "CondensedConfig", "turns_of"]


@dataclass(frozen=True)
class CondensedConfig:
    """All numbers of a condensed set.

    Args:
        shape: (C, H, W) of the images.
        n_classes: number of classes, at least 1.
        images_per_class: how many images of ``shape`` are stored of each class.
        factor: f: a stored image is f x f smaller ones, each of which is enlarged to ``shape``.
        warp: strength of the warps of an image that is drawn again; 0 leaves them out.
        mirror: whether about half of the images that are drawn again are mirrored.
    """

    shape: tuple[int, int, int]
    n_classes: int
    images_per_class: int
    factor: int = 1
    warp: float = 0.0
    mirror: bool = False

    def __post_init__(self) -> None:
        for name in ("n_classes", "images_per_class", "factor"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if len(self.shape) != 3 or min(self.shape) < 1:
            raise ValueError(f"shape must be (C, H, W), all positive, got {self.shape}")
        if self.factor > min(self.shape[1:]):
            raise ValueError(
                f"factor must be at most the shorter side of the images, {min(self.shape[1:])}, "
                f"got {self.factor}"
            )
        if not 0 <= self.warp < math.inf:
            raise ValueError(f"warp must be a number of at least 0, got {self.warp}")

    @property
    def n_distinct(self) -> int:
        """Returns how many different images of each class there are."""
        return self.images_per_class * self.factor**2

    @property
    def stored(self) -> tuple[int, int, int]:
        """Returns (C, h, w) of an image as it is stored, before it is enlarged."""
        channels, height, width = self.shape
        return channels, -(-height // self.factor), -(-width // self.factor)


class Condensed(nn.Module):
    """The images of each class. An image is drawn as it is stored the first time; when all images
    of its class were drawn they come again, in the same order and, if the set has warps or mirror
    images, changed at random.

    Args:
        config: the numbers.
    """

    def __init__(self, config: CondensedConfig) -> None:
        super().__init__()
        self.config = config
        # Images are the tanh of the weights, which keeps every pixel in [-1, 1].
        self.weights = nn.Parameter(
            torch.zeros(config.n_classes, config.n_distinct, *config.stored)
        )

    @property
    def n_classes(self) -> int:
        return self.config.n_classes

    @property
    def n_distinct(self) -> int:
        return self.config.n_distinct

    @property
    def changes(self) -> bool:
        """Returns whether an image that is drawn again is changed at random."""
        return self.config.warp > 0 or self.config.mirror

    def forward(self) -> Tensor:
        """Computes all images (K, n_distinct, C, H, W) in [-1, 1]; differentiable in the weights.
        """
        return self.images_of(self.weights)

    def images_of(self, weights: Tensor) -> Tensor:
        """Computes the images (K, n, C, H, W) that a set of these weights, (K, n, C, h, w), holds.
        """
        return self._enlarged(weights.flatten(0, 1)).unflatten(0, weights.shape[:2])

    def _enlarged(self, weights: Tensor) -> Tensor:
        """Computes images (B, C, H, W) from their weights, (B, C, h, w)."""
        images, size = torch.tanh(weights), self.config.shape[1:]
        if images.shape[2:] == torch.Size(size):
            return images
        return functional.interpolate(images, size=size, mode="bilinear", align_corners=False)

    @torch.no_grad()
    def draw(self, labels: Tensor, generator: torch.Generator) -> Tensor:
        """Draws images (N, C, H, W) of the classes ``labels``, (N,), on the CPU, from the first of
        each class on.
        """
        return self.draw_in_turn(labels, turns_of(labels), generator)

    @torch.no_grad()
    def draw_in_turn(self, labels: Tensor, turns: Tensor, generator: torch.Generator) -> Tensor:
        """Draws images (N, C, H, W) in [-1, 1], on the CPU.

        Args:
            labels: (N,), int64.
            turns: (N,), int64: how many images of its class were drawn before each of them.
            generator: CPU generator of the changes of images that are drawn again.
        """
        images = self._enlarged(self.weights[labels, turns % self.n_distinct])
        again = turns >= self.n_distinct
        if not again.any():
            return images
        changed = augmented(images, self.config.warp, self.config.mirror, generator)
        return torch.where(again[:, None, None, None], changed, images)


def turns_of(labels: Tensor) -> Tensor:
    """Counts, for each label, how often it stands before it, (N,) -> (N,), int64.

    >>> turns_of(torch.tensor([1, 0, 1, 1])).tolist()
    [0, 0, 1, 2]
    """
    order = labels.argsort(stable=True)
    place = torch.arange(len(labels))
    in_order = labels[order]
    begins = torch.ones(len(labels), dtype=torch.bool)
    begins[1:] = in_order[1:] != in_order[:-1]
    first = torch.where(begins, place, 0).cummax(0).values
    turns = torch.empty_like(place)
    turns[order] = place - first
    return turns
