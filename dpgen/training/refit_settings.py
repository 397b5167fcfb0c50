"""The settings of a score network that is fitted to a proposer's images."""

from __future__ import annotations

from dataclasses import dataclass, replace

from dpgen.images.facts import PublicFacts
from dpgen.networks.denoiser_config import DenoiserConfig, preset_for


@dataclass(frozen=True)
class RefitSettings:
    """The settings of a score network that is fitted to samples.

    Args:
        preset: size of the network: quick, tiny, small or base; unless given, the one for
            the shape.
        bands: size of the Gaussian denoiser that the network corrects: the cosines (of the DCT)
            whose frequencies down and across, u and v, have u + v < bands.
        n_samples: number of drawn images to learn from.
        n_steps: training steps.
        batch_size: images per step.
        learning_rate: learning rate of the training (Adam).
        ema_decay: decay of the averaged weights.
    """

    preset: str | None = None
    bands: int = 12
    n_samples: int = 20_000
    n_steps: int = 600
    batch_size: int = 128
    learning_rate: float = 2e-3
    ema_decay: float = 0.99

    def __post_init__(self) -> None:
        for name in ("bands", "n_samples", "n_steps", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate must be greater than 0, got {self.learning_rate}")
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay must lie in [0, 1), got {self.ema_decay}")

    def hurried(self) -> RefitSettings:
        """Returns shorter settings for the audit; the fit costs no privacy."""
        return replace(self, n_samples=min(self.n_samples, 500), n_steps=1, batch_size=4)

    def network(self, facts: PublicFacts) -> DenoiserConfig:
        """Returns the configuration of the network; refuses facts that it does not support."""
        require_each_class("score.n_samples", self.n_samples, facts)
        preset = preset_for(facts.shape, self.preset, refit=True)
        return DenoiserConfig.preset(preset, facts.shape, facts.n_classes, prior_bands=self.bands)


def require_each_class(name: str, n_samples: int, facts: PublicFacts) -> None:
    """Refuses fewer than two samples per class, which have no standard deviation."""
    if n_samples < 2 * facts.n_classes:
        raise ValueError(
            f"{name} must be at least 2 for each of {facts.n_classes} classes, "
            f"{2 * facts.n_classes}, got {n_samples}"
        )
