"""The release of stacked embeddings: its settings, its plan and its price."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from dpgen.images.facts import PublicFacts
from dpgen.networks.fixed.fourier import check_bandwidths
from dpgen.networks.fixed.random_encoder import RandomEncoder
from dpgen.privacy.accounting.accountant import Budget
from dpgen.privacy.mechanisms.declared import NoisySum
from dpgen.privacy.plan import Plan, Stage, split_budget
from dpgen.stages.embedding import ClassEmbeddings, StackedFeatures

LABEL = "embeddings"  # what the release is charged by


@dataclass(frozen=True)
class EmbeddingSettings:
    """The settings of the released embeddings: those of random encoders, stacked.

    Args:
        n_encoders: number of random encoders, small convolutional networks whose weights are drawn
            from a public seed.
        width: channels of the first layer of an encoder.
        n_frequencies: number of random Fourier features of each encoder's output.
        bandwidths: bandwidths of the Gaussian kernels behind the Fourier features of an encoder's
            output, which has length one.
    """

    n_encoders: int = 4
    width: int = 8
    n_frequencies: int = 300
    bandwidths: tuple[float, ...] = (0.4, 0.8)

    def __post_init__(self) -> None:
        for name in ("n_encoders", "width", "n_frequencies"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        check_bandwidths("bandwidths", self.bandwidths)

    def features(self, shape: tuple[int, int, int]) -> StackedFeatures:
        """Returns the feature map of images of this shape: public numbers alone."""
        encoders = (
            RandomEncoder(shape, self.n_frequencies, self.bandwidths, self.width, seed)
            for seed in range(self.n_encoders)
        )
        return StackedFeatures(tuple(encoders))

    def refuse_infinite(self, shape: tuple[int, int, int]) -> None:
        """Refuses bandwidths so small that features are not finite: no record would count."""
        import torch

        features = replace(self, n_encoders=1).features(shape)
        images = torch.linspace(-1, 1, 2 * math.prod(shape)).reshape(2, *shape)
        if not features(images).isfinite().all():
            raise ValueError(
                f"bandwidths must give features that are finite numbers, got {self.bandwidths}: "
                "take larger ones"
            )


def plan(settings: EmbeddingSettings, facts: PublicFacts, budget: Budget) -> Plan:
    """Plans the release, which takes the whole budget."""
    (multiplier,), _ = split_budget(budget, facts.relation, shares=[1.0], rate=1.0, n_steps=0)
    statistic = ClassEmbeddings(settings.features(facts.shape), facts.n_classes)
    return Plan((Stage(LABEL, NoisySum(statistic, multiplier)),), facts.relation)
