r"""The releases of stacked embeddings: their settings, plan and price.

    round 1     Fourier features of the pixels and random encoders, stacked
    round k     Fourier features of the hidden layers of a classifier that was trained on the images
                which were fitted to the rounds before
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from dpgen.images.facts import PublicFacts
from dpgen.networks.fixed.fourier import FourierFeatures, check_bandwidths
from dpgen.networks.fixed.random_encoder import RandomEncoder
from dpgen.networks.hidden_features import HiddenFeatures
from dpgen.privacy.accounting.accountant import Budget
from dpgen.privacy.mechanisms.declared import NoisySum
from dpgen.privacy.plan import Plan, Stage, split_budget
from dpgen.stages.embedding import ClassEmbeddings, KernelMap, StackedFeatures
from dpgen.stages.sketch_plan import WIDTH
from dpgen.training.refit_settings import require_each_class

LABEL = "embeddings"  # what the first release is charged by
SEEDS = 10  # between the seeds of the frequencies of two rounds


def label(k: int) -> str:
    """Returns the name that round k, from 0 on, is charged by."""
    return LABEL if k == 0 else f"{LABEL} {k + 1}"


@dataclass(frozen=True)
class EmbeddingSettings:
    """The settings of the released embeddings.

    Args:
        rounds: relative shares of mu^2 of the rounds in which embeddings are released, one or more.
            The first is of features of the pixels, stacked with those of random encoders; a later
            one is of the hidden layers of a classifier, which learned from the images that were
            fitted to the rounds before.
        n_pixel_frequencies: number of random Fourier features of the pixels; 0 leaves them out.
        pixel_bandwidths: bandwidths of the Gaussian kernels behind the Fourier features of the
            pixels, in units of sqrt(C H W) for images of C channels, H rows and W columns.
        n_encoders: number of random encoders, small convolutional networks whose weights are drawn
            from a public seed; 0 leaves them out.
        width: channels of the first layer of an encoder.
        n_frequencies: number of random Fourier features of each encoder's output.
        bandwidths: bandwidths of the Gaussian kernels behind the Fourier features of an encoder's
            output, which has length one.
        n_hidden_frequencies: number of random Fourier features of each of the two hidden layers of
            a classifier.
        hidden_bandwidths: bandwidths of the Gaussian kernels behind the Fourier features of hidden
            layers, in units of the median distance between drawn images there.
        n_samples: number of drawn images that a classifier learns from.
        classifier_steps: training steps of a classifier.
    """

    rounds: tuple[float, ...] = (0.6, 0.4)
    n_pixel_frequencies: int = 1200
    pixel_bandwidths: tuple[float, ...] = (0.21, 0.43, 0.86)
    n_encoders: int = 0
    width: int = 8
    n_frequencies: int = 300
    bandwidths: tuple[float, ...] = (0.4, 0.8)
    n_hidden_frequencies: int = 500
    hidden_bandwidths: tuple[float, ...] = (0.4, 0.8, 1.6)
    n_samples: int = 10_000
    classifier_steps: int = 400

    def __post_init__(self) -> None:
        if not self.rounds or any(not 0 < share < math.inf for share in self.rounds):
            raise ValueError(f"rounds must be shares greater than 0, got {self.rounds}")
        for name in ("n_pixel_frequencies", "n_encoders"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}")
        if not self.n_pixel_frequencies and not self.n_encoders:
            raise ValueError("n_pixel_frequencies or n_encoders must be at least 1, got 0 and 0")
        for name in (
            "width", "n_frequencies", "n_hidden_frequencies", "n_samples", "classifier_steps",
        ):  # fmt: skip
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("pixel_bandwidths", "bandwidths", "hidden_bandwidths"):
            check_bandwidths(name, getattr(self, name))

    @classmethod
    def earlier(cls, held: Mapping[str, Any]) -> Mapping[str, Any]:
        """Completes settings of a run folder from before there were ``rounds``: one, of encoders.
        """
        return held if "rounds" in held else {**held, "rounds": (1.0,), "n_pixel_frequencies": 0}

    def hurried(self) -> EmbeddingSettings:
        """Returns settings that cut short what is free and leave what is charged as it is: for the
        audit.
        """
        return replace(self, classifier_steps=1)

    @property
    def shares(self) -> list[float]:
        """Splits mu^2, round by round; 1 in all."""
        return [share / math.fsum(self.rounds) for share in self.rounds]

    def features(self, shape: tuple[int, int, int]) -> StackedFeatures:
        """Returns the feature map of the first round for images of this shape: public numbers
        alone.
        """
        parts: list[KernelMap] = []
        if self.n_pixel_frequencies:
            pixels = math.prod(shape), self.n_pixel_frequencies, self.pixel_bandwidths
            parts.append(FourierFeatures(*pixels))
        parts += [
            RandomEncoder(shape, self.n_frequencies, self.bandwidths, self.width, seed)
            for seed in range(self.n_encoders)
        ]
        return StackedFeatures(tuple(parts))

    def hidden(self, k: int) -> StackedFeatures:
        """Returns the feature map of a later round k, which has no network yet."""
        numbers = WIDTH, self.n_hidden_frequencies, self.hidden_bandwidths, SEEDS * k
        return StackedFeatures((HiddenFeatures(*numbers),))

    def refuse_infinite(self, shape: tuple[int, int, int]) -> None:
        """Refuses bandwidths so small that features are not finite: no record would count."""
        import torch

        images = torch.linspace(-1, 1, 2 * math.prod(shape)).reshape(2, *shape)
        for part in self.features(shape).parts:
            if not part(images).isfinite().all():
                raise ValueError(
                    "bandwidths must give features that are finite numbers, got "
                    f"{part.settings['bandwidths']}: take larger ones"
                )


def statistics(settings: EmbeddingSettings, facts: PublicFacts) -> list[ClassEmbeddings]:
    """Lists what is released, round by round; public numbers only."""
    if len(settings.rounds) > 1:
        require_each_class("embedding.n_samples", settings.n_samples, facts)
    maps = [settings.features(facts.shape)]
    maps += [settings.hidden(k) for k in range(1, len(settings.rounds))]
    return [ClassEmbeddings(features, facts.n_classes) for features in maps]


def plan(settings: EmbeddingSettings, facts: PublicFacts, budget: Budget) -> Plan:
    """Plans the releases, which take the whole budget, and their prices."""
    multipliers, _ = split_budget(
        budget, facts.relation, shares=settings.shares, rate=1.0, n_steps=0
    )
    stages = [
        Stage(label(k), NoisySum(statistic, multiplier))
        for k, (statistic, multiplier) in enumerate(
            zip(statistics(settings, facts), multipliers, strict=True)
        )
    ]
    return Plan(tuple(stages), facts.relation)
