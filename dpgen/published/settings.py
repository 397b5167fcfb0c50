"""Checks the settings that all published algorithms share."""

from __future__ import annotations

from dpgen.images.facts import PublicFacts
from dpgen.networks import denoiser_config


def preset_for(preset: str | None, facts: PublicFacts) -> str:
    """Chooses the size of a network: the named preset, or else the one for the public shape."""
    name = denoiser_config.preset_for(facts.shape, preset)
    # Refuses a shape that it cannot take.
    denoiser_config.DenoiserConfig.preset(name, facts.shape, facts.n_classes)
    return name


def check_positive(settings: object, whole: tuple[str, ...], real: tuple[str, ...]) -> None:
    """Refuses counts below 1 and numbers that are not greater than 0."""
    for name in whole:
        if getattr(settings, name) < 1:
            raise ValueError(f"{name} must be at least 1, got {getattr(settings, name)}")
    for name in real:
        if not 0 < getattr(settings, name) < float("inf"):
            raise ValueError(
                f"{name} must be a number greater than 0, got {getattr(settings, name)}"
            )
