"""The settings of the manifold of drawn images, and of a student's regularisation along and off it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class ManifoldSettings:
    """The settings of an autoencoder of drawn images and of adversarial moves along the manifold
    that it finds and off it. It reads no record and costs no privacy. A weight of 0 leaves its term
    out.

    Args:
        n_images: number of drawn images that the autoencoder learns from.
        n_epochs: how often each of them is seen on average.
        batch_size: images per step of the autoencoder.
        learning_rate: learning rate of the autoencoder (Adam) in the first step; it falls to zero
            along half a cosine.
        n_latents: length of a code, the dimension of the manifold.
        spread: standard deviation of a pixel about the decoded one, in units of half the range
            of pixels.
        n_moved: images per step of the student on which it is regularised.
        tangent: length of the move along the manifold for images of 784 pixel values; it grows with
            the root of their number.
        normal: length of the move off the manifold, likewise.
        n_conjugate: steps of conjugate gradients, by which the metric of the codes is inverted.
        tangent_weight: weight of the divergence of the student's answer under the move along the
            manifold.
        normal_weight: weight of that under the move off the manifold.
        entropy_weight: weight of the entropy of the student's answer.
    """

    n_images: int = 10_000
    n_epochs: int = 20
    batch_size: int = 128
    learning_rate: float = 2e-3
    n_latents: int = 20
    spread: float = 0.2
    n_moved: int = 32
    tangent: float = 1.0
    normal: float = 0.5
    n_conjugate: int = 4
    tangent_weight: float = 1.0
    normal_weight: float = 1.0
    entropy_weight: float = 1.0

    def __post_init__(self) -> None:
        for name in (
            "n_images", "n_epochs", "batch_size", "n_latents", "n_moved", "n_conjugate",
        ):  # fmt: skip
            if getattr(self, name) < 1:
                raise ValueError(
                    f"{name} of the manifold must be at least 1, got {getattr(self, name)}"
                )
        for name in ("learning_rate", "spread", "tangent", "normal"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(
                    f"{name} of the manifold must be greater than 0, got {getattr(self, name)}"
                )
        for name in ("tangent_weight", "normal_weight", "entropy_weight"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(
                    f"{name} of the manifold must be at least 0, got {getattr(self, name)}"
                )

    @property
    def regularises(self) -> bool:
        """Returns whether any term has a weight: with none there is no autoencoder."""
        return max(self.tangent_weight, self.normal_weight, self.entropy_weight) > 0

    def n_steps(self, n_images: int) -> int:
        """Returns the training steps of the autoencoder on so many images."""
        return math.ceil(self.n_epochs * n_images / self.batch_size)

    def hurried(self) -> ManifoldSettings:
        """Returns shorter settings for the audit; nothing here costs privacy."""
        return replace(
            self, n_images=min(self.n_images, 20), n_epochs=1,
            batch_size=min(self.batch_size, 10), n_moved=min(self.n_moved, 4),
        )  # fmt: skip
