"""The settings of a start on public images."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Self

LABELS = ("none", "names")


@dataclass(frozen=True)
class PublicSettings:
    """The settings of the training on public images before any private stage.

    Args:
        n_steps: training steps.
        batch_size: images per step.
        learning_rate: learning rate of the training (Adam), which falls to zero along half a
            cosine.
        ema_decay: decay of the averaged weights, from which the private stages start.
        labels: "none" (every public image is learned as one of no class) or "names" (a public image
            whose class has the name of a private class is learned as that class, which the
            certificate then says).
    """

    n_steps: int = 2000
    batch_size: int = 128
    learning_rate: float = 2e-3
    ema_decay: float = 0.995
    labels: str = "none"

    def __post_init__(self) -> None:
        for name in ("n_steps", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"public.{name} must be at least 1, got {getattr(self, name)}")
        if not 0 < self.learning_rate < math.inf:
            raise ValueError(
                "public.learning_rate must be a number greater than 0, got "
                f"{self.learning_rate}"
            )
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"public.ema_decay must lie in [0, 1), got {self.ema_decay}")
        if self.labels not in LABELS:
            raise ValueError(
                f"public.labels must be one of {', '.join(LABELS)}, got {self.labels!r}"
            )

    def hurried(self) -> Self:
        """Returns shorter settings for the audit; a start on public images costs no privacy."""
        return replace(self, n_steps=1, batch_size=4)
