"""The settings of a decoder that is fitted to pictures of released moments."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from dpgen.networks.fixed.fourier import check_bandwidths


@dataclass(frozen=True)
class ImitationSettings:
    """The settings of a decoder that learns to draw as released moments do. It reads no record and
    costs no privacy.

    Args:
        n_pictures: pictures drawn from the moments, of all classes together, whose mean features
            the decoder's images are to have.
        n_steps: training steps.
        n_per_class: images of each class per training step.
        learning_rate: learning rate (Adam).
        n_frequencies: number of random Fourier features of the pixels.
        bandwidths: bandwidths of the Gaussian kernels behind these features, in units of
            sqrt(C H W) for images of C channels, H rows and W columns.
    """

    n_pictures: int = 10_000
    n_steps: int = 1500
    n_per_class: int = 40
    learning_rate: float = 2.5e-3
    n_frequencies: int = 1200
    bandwidths: tuple[float, ...] = (0.21, 0.43, 0.86)

    def __post_init__(self) -> None:
        for name, least in (
            ("n_pictures", 1), ("n_steps", 1), ("n_per_class", 2), ("n_frequencies", 1),
        ):  # fmt: skip
            if getattr(self, name) < least:
                raise ValueError(
                    f"{name} of the imitation must be at least {least}, got {getattr(self, name)}"
                )
        if not 0 < self.learning_rate < math.inf:
            raise ValueError(
                f"learning_rate must be a number greater than 0, got {self.learning_rate}"
            )
        check_bandwidths("bandwidths", self.bandwidths)

    def hurried(self) -> ImitationSettings:
        """Returns shorter settings for the audit; the decoder costs no privacy."""
        n = min(self.n_pictures, 500)
        return replace(self, n_pictures=n, n_steps=1, n_per_class=2, n_frequencies=8)
