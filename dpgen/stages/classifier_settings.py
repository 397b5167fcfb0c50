"""The settings of the private classifier."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

from dpgen.images.facts import PublicFacts
from dpgen.networks.fixed.gabor import GaborFeatures
from dpgen.networks.fixed.scattering import ScatteringFeatures

LABEL = "classifier"  # label of the charge of all steps
USUAL_SHARE = 0.2  # of mu^2


def features_for(shape: tuple[int, int, int]) -> GaborFeatures | ScatteringFeatures:
    """Returns the public features of images of a declared shape."""
    return ScatteringFeatures(shape) if shape[0] == 3 else GaborFeatures(shape)


@dataclass(frozen=True)
class ClassifierSettings:
    """The settings of the private classifier, by noisy descent.

    Args:
        share: share of mu^2 of all its steps together, in (0, 1); unless given, 0.2,
            or that of the method.
        n_steps: number of steps, each of which reads all records.
        judges: whether images of the sketch that it takes for another class are drawn again; by
            default those in grey.
        n_pictures: procedural pictures that the axes of images in colour are fitted to.
    """

    share: float | None = None
    n_steps: int = 50
    judges: bool | None = None
    n_pictures: int = 6000

    def __post_init__(self) -> None:
        if self.share is not None and not 0 < self.share < 1:
            raise ValueError(f"share of the classifier must lie in (0, 1), got {self.share}")
        if self.n_steps < 2:
            raise ValueError(f"n_steps of the classifier must be at least 2, got {self.n_steps}")
        if self.n_pictures < 100:
            raise ValueError(
                f"n_pictures of the classifier must be at least 100, got {self.n_pictures}"
            )

    def resolved(self, facts: PublicFacts) -> Self:
        """Returns these settings with nothing left open, for public facts. Raises ValueError for
        images that have no features.
        """
        features_for(facts.shape)
        judges = facts.shape[0] != 3 if self.judges is None else self.judges
        share = USUAL_SHARE if self.share is None else self.share
        return replace(self, share=share, judges=judges)

    def hurried(self) -> Self:
        """Returns settings that cut short what is free, for the audit."""
        return replace(self, n_pictures=min(self.n_pictures, 100))
