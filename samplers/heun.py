r"""Heun's method on the probability flow, with EDM's churn before each step.

The flow is ``dx/dsigma = (x - D) / sigma = -sigma score(x, sigma)``. Churn first raises the noise,
from sigma to ``sigma_hat = (1 + churn) sigma``, by adding fresh noise, and then steps from there.

Reference: Karras, Aittala, Aila, Laine (2022), "Elucidating the Design Space of Diffusion-Based
Generative Models", arXiv 2206.00364, algorithms 1 and 2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from samplers.noise import unit_noise
from samplers.parametrization import broadcast
from samplers.types import ScoreFn

MAX_CHURN = math.sqrt(2) - 1  # never more new noise than there is; section 4 of the paper


@dataclass(frozen=True)
class Heun:
    """The EDM transport; two evaluations of the score per step, one in the step to 0.

    Guarantees: exact for a point mass at any ladder; with churn 0 it has order 2 and draws nothing.
    Churn alone, at ``s_noise`` 1, carries p_sigma to p_sigma_hat exactly. The step to 0 is Euler's
    and returns the denoised estimate at sigma_hat.

    Args:
        churn: the fraction of sigma by which the noise is raised (gamma of the paper), in
            [0, sqrt(2) - 1]. The paper's S_churn is a sum over the ladder: see `edm`.
        s_min, s_max: churn only at levels in [s_min, s_max].
        s_noise: standard deviation of the fresh noise, positive; a value above 1 compensates for a
            network that removes too much.
    """

    churn: float = 0.0
    s_min: float = 0.0
    s_max: float = math.inf
    s_noise: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.churn <= MAX_CHURN:
            raise ValueError(f"churn must lie in [0, sqrt(2) - 1], got {self.churn}")
        if not 0 <= self.s_min <= self.s_max:
            raise ValueError(
                f"s_min and s_max must satisfy 0 <= s_min <= s_max, "
                f"got {self.s_min} and {self.s_max}"
            )
        if not 0 < self.s_noise < math.inf:
            raise ValueError(f"s_noise must be finite and greater than 0, got {self.s_noise}")

    @classmethod
    def edm(
        cls,
        n_levels: int,
        *,
        s_churn: float = 40.0,
        s_min: float = 0.05,
        s_max: float = 50.0,
        s_noise: float = 1.003,
    ) -> Heun:
        """Makes the transport with the paper's parameters: ``churn = min(s_churn / n_levels,
        sqrt(2) - 1)``.

        Args:
            n_levels: number of positive levels of its ladder.
            s_churn: total churn, at least 0. The defaults are the paper's for its ImageNet-64 model
                (Table 5).
            s_min, s_max, s_noise: as for the class.
        """
        if n_levels < 1:
            raise ValueError(f"n_levels must be at least 1, got {n_levels}")
        if not 0 <= s_churn < math.inf:
            raise ValueError(f"s_churn must be finite and at least 0, got {s_churn}")
        return cls(min(s_churn / n_levels, MAX_CHURN), s_min, s_max, s_noise)

    @property
    def asks_at_start(self) -> bool:
        """Returns whether a step evaluates the score at its start: only without churn, which moves
        first.
        """
        return self.churn == 0

    def n_evaluations(self, n_levels: int) -> int:
        """Counts the calls of the score down a ladder of ``n_levels`` positive levels."""
        return 2 * n_levels - 1

    def step(
        self,
        score_fn: ScoreFn,
        x: Tensor,
        sigma: Tensor,
        sigma_next: Tensor,
        *,
        generator: torch.Generator,
    ) -> Tensor:
        """Returns x' at ``sigma_next``, with the shape, dtype and device of ``x``."""
        dtype = x.dtype
        if self.churn > 0:
            churned = (self.s_min <= sigma) & (sigma <= self.s_max)
            sigma_hat = torch.where(churned, (1 + self.churn) * sigma, sigma)
            added = (broadcast(sigma_hat, x) ** 2 - broadcast(sigma, x) ** 2).sqrt() * self.s_noise
            x = (x + added * unit_noise(x, generator=generator)).to(dtype)
            sigma = sigma_hat
        s, s_next = broadcast(sigma, x), broadcast(sigma_next, x)
        slope = -s * score_fn(x, sigma)
        euler = x + (s_next - s) * slope
        last = sigma_next == 0
        if bool(last.all()):
            return euler.to(dtype)
        # A batch may mix last steps with others, and p_0 has no score.
        sigma_end = torch.where(last, sigma, sigma_next)
        slope_end = -broadcast(sigma_end, x) * score_fn(euler.to(dtype), sigma_end)
        heun = x + (s_next - s) * (slope + slope_end) / 2
        return torch.where(s_next == 0, euler, heun).to(dtype)
