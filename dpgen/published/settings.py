"""Checks the settings that all published flows share."""

from __future__ import annotations

from dpgen.images.facts import PublicFacts
from dpgen.networks.denoiser_config import PRESETS, DenoiserConfig


def preset_for(preset: str | None, facts: PublicFacts) -> str:
    """The size of a network, from the public shape where none is named."""
    side = max(facts.shape[1:])
    name = preset or ("tiny" if side <= 16 else "small" if side <= 32 else "base")
    if name not in PRESETS:
        raise ValueError(f"preset must be one of {', '.join(PRESETS)}, got {name!r}")
    DenoiserConfig.preset(name, facts.shape, facts.n_classes)  # a shape that it cannot take
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
