"""The student, a convolutional classifier that a run releases beside its generator."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dpgen.networks.classifier import Classifier
from dpgen.networks.labeller import in_parts

__all__ = ["ClassifierConfig", "Student"]


@dataclass(frozen=True)
class ClassifierConfig:
    """All numbers of a student.

    Args:
        shape: (C, H, W) of the images.
        n_classes: number of classes, at least 1.
        width: channels of the first block, a multiple of 8.
    """

    shape: tuple[int, int, int]
    n_classes: int
    width: int = 32


class Student(nn.Module):
    """A `dpgen.networks.classifier.Classifier` that is made from one configuration.

    Args:
        config: the numbers.
    """

    def __init__(self, config: ClassifierConfig) -> None:
        super().__init__()
        self.config = config
        self.network = Classifier(config.shape, config.n_classes, width=config.width)

    @property
    def n_classes(self) -> int:
        return self.config.n_classes

    def features(self, x: Tensor) -> Tensor:
        """Returns the input of the last linear layer, (B, 128)."""
        return self.network.features(x)

    def coordinates(self, x: Tensor) -> Tensor:
        """Returns `features`, by the name that they have in a teacher, (B, 128)."""
        return self.features(x)

    def answer(self, coordinates: Tensor) -> Tensor:
        """Computes logits (B, K) from `coordinates`, as a teacher does."""
        return self.of_features(coordinates)

    def of_features(self, features: Tensor) -> Tensor:
        """Computes logits (B, K) from `features`, (B, 128)."""
        logits: Tensor = self.network.head(features)
        return logits

    def forward(self, x: Tensor) -> Tensor:
        """Computes logits (B, K) of images (B, C, H, W) in [-1, 1]."""
        return self.of_features(self.features(x))

    def label(self, pixels: Tensor) -> Tensor:
        """Returns the most likely class of each image, (B,) int64."""
        return in_parts(self, pixels).argmax(1)

    def probabilities(self, pixels: Tensor) -> Tensor:
        """Returns the probabilities of the classes, (B, K), of images (B, C, H, W) in [-1, 1]."""
        return torch.softmax(in_parts(self, pixels), 1)
