"""Settings of M3D and its plan."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

from dpgen.images.facts import PublicFacts
from dpgen.privacy.accounting.accountant import Budget
from dpgen.privacy.plan import Plan
from dpgen.stages import stacked_plan
from dpgen.stages.augment import Augmented
from dpgen.stages.sketch_settings import SketchSettings
from dpgen.stages.stacked_plan import EmbeddingSettings
from dpgen.training.condensation import Changes


@dataclass(frozen=True)
class CondensedSettings(Augmented):
    """The settings of the condensed set, all of which are free: they change no price.

    Args:
        images_per_class: number of images that are stored of each class.
        factor: f: a stored image is f x f smaller ones, each of which is enlarged, so that there
            are f x f times as many images.
        n_steps: steps of gradient descent, after each round.
        learning_rate: learning rate of the numbers behind the pixels (Adam).
        smooth: how smooth images are: standard deviation of the Gaussian blur between the numbers
            that are fitted and the pixels, as a part of the shorter side; 0 fits the pixels.
        fit_warp: strength of the warps, where ``augment`` has them, of the images that every other
            step of the fit sees, as a part of ``warp``: at 0 it sees them as they are stored.
        augment: what is declared as public knowledge to leave the class of an image: "none", "warp"
            (turned, bent or moved a little), "mirror" (left and right exchanged) or "both"; an
            image that is drawn again is changed so. Unless given, "warp" for small grey images, as
            of digits, and "none" for others. What is not true of the images puts wrong ones into
            the set: digits and hands have no mirror images.
        warp: strength of the warps, where ``augment`` has them.
    """

    images_per_class: int = 50
    factor: int = 1
    n_steps: int = 400
    learning_rate: float = 0.1
    smooth: float = 0.036
    fit_warp: float = 0.7
    augment: str | None = None
    warp: float = 1.0

    def __post_init__(self) -> None:
        for name in ("images_per_class", "factor", "n_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 < self.learning_rate < math.inf:
            raise ValueError(f"learning_rate must be greater than 0, got {self.learning_rate}")
        self.check_augment()
        for name in ("smooth", "fit_warp", "warp"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}")

    def resolved(self, facts: PublicFacts) -> CondensedSettings:
        """Returns the settings with every None filled in for these facts."""
        return replace(self, augment=self.augment or SketchSettings.chosen(None, facts).augment)

    @property
    def changes(self) -> Changes:
        """Returns how images are changed while they are fitted."""
        return Changes(self.fit_warp * self.warps, self.mirrors)

    def hurried(self) -> CondensedSettings:
        """Returns shorter settings for the audit; the fit costs no privacy."""
        return replace(self, n_steps=2)


@dataclass(frozen=True)
class M3DSettings:
    """Settings of M3D.

    Args:
        mode: "release", the only one.
        embedding: what is released.
        condensed: the set that is fitted to it.
    """

    mode: str = "release"
    embedding: EmbeddingSettings = field(default_factory=EmbeddingSettings)
    condensed: CondensedSettings = field(default_factory=CondensedSettings)

    def __post_init__(self) -> None:
        if self.mode != "release":
            raise ValueError(f"mode of m3d must be 'release', got {self.mode!r}")

    def resolved(self, facts: PublicFacts) -> M3DSettings:
        """Returns the settings with every None filled in for these facts."""
        return replace(self, condensed=self.condensed.resolved(facts))

    def plan(self, facts: PublicFacts, budget: Budget) -> Plan:
        """Plans everything that `fit` will charge: one release a round."""
        return stacked_plan.plan(self.embedding, facts, budget)
