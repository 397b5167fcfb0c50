"""A toy sampler: steps of the probability flow whose length has a gain."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from samplers import Annealed, Karras, ScoreFn


@dataclass(frozen=True)
class Euler:
    """Euler's method with ``gain`` times its step.

    Args:
        gain: greater than 0.
    """

    gain: float = 1.0

    def __post_init__(self) -> None:
        if not self.gain > 0:
            raise ValueError(f"gain must be greater than 0, got {self.gain}")

    def n_evaluations(self, n_levels: int) -> int:
        return n_levels

    def step(
        self, score_fn: ScoreFn, x: Tensor, sigma: Tensor, sigma_next: Tensor,
        *, generator: torch.Generator,
    ) -> Tensor:  # fmt: skip
        return x + self.gain * sigma * (sigma - sigma_next) * score_fn(x, sigma)


def euler(levels: Karras, gain: float = 1.0) -> Annealed:
    return Annealed(levels, Euler(gain))
