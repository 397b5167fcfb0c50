"""The settings of PGE as published."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from dpgen.images.facts import PublicFacts
from dpgen.published.settings import check_positive, preset_for


@dataclass(frozen=True)
class PaperSettings:
    """Settings of the published algorithm.

    Args:
        preset: size of the network: quick, tiny, small or base; unless given, the one for
            the shape.
        n_projections: number of public projection vectors (k), at least 2.
        n_steps: training steps.
        batch: records per step.
        learning_rate: learning rate of the network (Adam).
        ema_decay: decay of the averaged weights.
        sigma_min: lowest noise level that is trained on; each step draws one for each record,
            log-uniformly from sigma_min to sigma_max.
        sigma_max: highest noise level that is trained on.
    """

    preset: str | None = None
    n_projections: int = 1024
    n_steps: int = 500
    batch: int = 64
    learning_rate: float = 5e-4
    ema_decay: float = 0.99
    sigma_min: float = 0.1
    sigma_max: float = 20.0

    def __post_init__(self) -> None:
        if self.n_projections < 2:
            raise ValueError(f"n_projections must be at least 2, got {self.n_projections}")
        check_positive(self, ("n_steps", "batch"), ("learning_rate", "sigma_min"))
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay must lie in [0, 1), got {self.ema_decay}")
        if not self.sigma_min < self.sigma_max < math.inf:
            raise ValueError(
                f"sigma_max must be greater than sigma_min = {self.sigma_min}, got {self.sigma_max}"
            )


def resolve(settings: PaperSettings, facts: PublicFacts) -> PaperSettings:
    return replace(settings, preset=preset_for(settings.preset, facts))
