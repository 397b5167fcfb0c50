"""The settings of the sketch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

from dpgen.images.facts import PublicFacts
from dpgen.networks.fixed.fourier import check_bandwidths
from dpgen.stages.augment import Augmented
from dpgen.stages.classifier_settings import ClassifierSettings
from dpgen.stages.spectrum_settings import SpectrumSettings

# Grey images have a spectrum, too, from 32 pixels of the shorter side on, and from 16 on if there
# are fewer than 20,000 of them. The decoder is better on the digits that it was tuned on, 60,000 of
# 28 pixels and 1,437 of 8; on 4,708 X-rays of 28 its images are of the class that was asked for in
# 55 % of cases, those of a spectrum in 87 % (epsilon 10, by a classifier of real ones).
LARGE, SMALL, MANY_RECORDS = 32, 16, 20_000
SPECTRUM = "spectrum"
KINDS = "decoder", SPECTRUM
# Settings that a spectrum has no use for.
OF_DECODER = (
    "rounds", "n_steps", "n_per_class", "learning_rate", "n_frequencies", "bandwidths",
    "n_hidden_frequencies", "hidden_bandwidths", "classifier_steps",
)  # fmt: skip


@dataclass(frozen=True)
class SketchSettings(Augmented):
    """The settings of the sketch.

    Args:
        rounds: relative shares of mu^2 of the rounds in which features are released, one or more.
        n_steps: training steps of the decoder, which draws images that have the released features,
            in each round.
        labeller_share: share of mu^2 of the labeller, a linear classifier learned from the records:
            an image that it takes for another class is drawn again; in [0, 1), 0 leaves it out.
        warp: strength of the small random warps, where ``augment`` has them, of drawn images, also
            while a network learns from them.
        n_per_class: images of each class per training step of the decoder.
        learning_rate: learning rate of the decoder (Adam).
        n_frequencies: number of random Fourier features of the pixels, released in the first round.
        bandwidths: bandwidths of the Gaussian kernels behind the Fourier features of the pixels, in
            units of sqrt(C H W) for images of C channels, H rows and W columns.
        n_hidden_frequencies: number of random Fourier features of each hidden layer of a classifier
            of drawn images, released in later rounds.
        hidden_bandwidths: bandwidths of the Gaussian kernels behind the Fourier features of hidden
            layers, in units of the median distance between drawn images there.
        n_samples: number of drawn images that the classifier between two rounds learns from.
        classifier_steps: training steps of the classifier between two rounds.
        spectrum: the settings of the spectrum, where ``kind`` is "spectrum".
        kind: "decoder", whose settings those above are, or "spectrum", which releases a Gaussian of
            low frequencies for each class instead. Unless given, a spectrum for images in colour,
            for images of 32 pixels and more, and for those of 16 and more where there are fewer
            than 20,000 records.
        augment: what is declared as public knowledge to leave the class of an image: "none",
            "warp" (turned, bent or moved a little), "mirror" (left and right exchanged) or "both".
            Unless given, "warp" for a decoder and "none" for a spectrum. What is not true of the
            images puts wrong ones into the set: digits and hands have no mirror images.
        classifier: a private classifier, released beside the sketch; none by default.
    """

    rounds: tuple[float, ...] = (0.6, 0.4)
    n_steps: tuple[int, ...] = (1500, 1500)
    labeller_share: float = 0.0
    warp: float = 1.0
    n_per_class: int = 40
    learning_rate: float = 2.5e-3
    n_frequencies: int = 1200
    bandwidths: tuple[float, ...] = (0.21, 0.43, 0.86)
    n_hidden_frequencies: int = 500
    hidden_bandwidths: tuple[float, ...] = (0.4, 0.8, 1.6)
    n_samples: int = 20_000
    classifier_steps: int = 700
    spectrum: SpectrumSettings | None = None
    kind: str | None = None
    augment: str | None = None
    classifier: ClassifierSettings | None = None

    def __post_init__(self) -> None:
        if self.kind not in (None, *KINDS):
            raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {self.kind!r}")
        self.check_augment()
        if self.kind == "decoder" and self.spectrum is not None:
            raise ValueError("spectrum.* are settings of kind spectrum: drop them, or kind=decoder")
        if not self.rounds or any(not share > 0 for share in self.rounds):
            raise ValueError(f"rounds must be shares greater than 0, got {self.rounds}")
        if len(self.n_steps) != len(self.rounds) or min(self.n_steps) < 1:
            raise ValueError(
                f"n_steps must be {len(self.rounds)} numbers of at least 1, one for each of the "
                f"rounds, got {self.n_steps}"
            )
        if not 0 <= self.labeller_share < 1:
            raise ValueError(f"labeller_share must lie in [0, 1), got {self.labeller_share}")
        taken = 0.0 if self.classifier is None else self.classifier.share
        if taken is not None and self.labeller_share + taken >= 1:
            raise ValueError(
                "labeller_share and classifier.share must leave some of the budget, got "
                f"{self.labeller_share} and {taken}"
            )
        for name in ("n_frequencies", "n_hidden_frequencies", "n_samples", "classifier_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.n_per_class < 2:
            raise ValueError(f"n_per_class must be at least 2, got {self.n_per_class}")
        for name in ("bandwidths", "hidden_bandwidths"):
            check_bandwidths(name, getattr(self, name))
        for name in ("warp", "learning_rate"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}")

    @classmethod
    def chosen(cls, given: Self | None, facts: PublicFacts) -> Self:
        """Returns ``given``, or the defaults, with nothing left open for images of these facts."""
        s = given or cls()
        if s.classifier is not None:
            s = replace(s, classifier=s.classifier.resolved(facts))
        spectral = s.spectrum is not None or _unlike_digits(facts)
        kind = s.kind or (SPECTRUM if spectral else "decoder")
        if kind != SPECTRUM:
            return replace(s, kind=kind, augment=s.augment or "warp")
        usual = cls()
        for name in OF_DECODER:
            if getattr(s, name) != getattr(usual, name):
                raise ValueError(
                    f"sketch.{name} is a setting of the decoder, and {facts.n_records} images of "
                    f"{'x'.join(map(str, facts.shape))} have a spectrum: set sketch.kind=decoder, "
                    "or drop it"
                )
        spectrum = (s.spectrum or SpectrumSettings()).resolved(facts)
        return replace(s, kind=kind, spectrum=spectrum, augment=s.augment or "none")

    @classmethod
    def earlier(cls, held: Mapping[str, Any]) -> Mapping[str, Any]:
        """Completes settings of a run folder from before there were ``kind`` and ``augment``."""
        if "kind" in held:
            return held
        if held.get(SPECTRUM) is None:
            return {**held, "kind": "decoder", "augment": "warp"}
        used = {name: value for name, value in held.items() if name not in OF_DECODER}
        return {**used, "kind": SPECTRUM, "augment": "none"}

    def hurried(self) -> SketchSettings:
        """Returns settings that cut short what is free and leave what is charged as it is: for the
        audit.
        """
        short = replace(self, n_samples=min(self.n_samples, 500))
        if self.spectrum is not None:
            return short
        return replace(short, n_steps=(1,) * len(self.rounds), n_per_class=2, classifier_steps=1)

    @property
    def shares(self) -> list[float]:
        """Splits mu^2, release by release, then the labeller's and the classifier's share; 1 in
        all.
        """
        parts = self.rounds if self.spectrum is None else self.spectrum.shares
        others = [x for x in (self.labeller_share, self.classifier_share) if x > 0]
        return [x / math.fsum(parts) * (1 - math.fsum(others)) for x in parts] + others

    @property
    def repeats(self) -> list[int]:
        """Returns how often what has each of the `shares` is released: once, but the classifier at
        each of its steps.
        """
        once = [1] * len(self.shares)
        return once if self.classifier is None else [*once[:-1], self.classifier.n_steps]

    @property
    def classifier_share(self) -> float:
        """Returns the share of mu^2 of the classifier; 0 if there is none. Raises ValueError where
        it is left open.
        """
        if self.classifier is None:
            return 0.0
        if self.classifier.share is None:
            raise ValueError("classifier.share is left open: resolve the settings first")
        return self.classifier.share


def _unlike_digits(facts: PublicFacts) -> bool:
    channels, height, width = facts.shape
    side = min(height, width)
    few = facts.n_records < MANY_RECORDS
    return channels >= 3 or side >= LARGE or (side >= SMALL and few)
