r"""DDIM: steps from one noise level to the next by the denoised estimate; ``eta`` adds noise.

    D    = x + sigma^2 score(x, sigma)
    tau  = eta (sigma_next / sigma) sqrt(sigma^2 - sigma_next^2)
    x'   = D + sqrt(sigma_next^2 - tau^2) (x - D) / sigma + tau z

is the published step (in the variance preserving scale) divided by ``sqrt(alphas_cumprod)``.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from samplers.noise import unit_noise
from samplers.parametrization import broadcast
from samplers.types import ScoreFn


@dataclass(frozen=True)
class DDIM:
    """The DDIM transport; one evaluation of the score per step.

    Guarantees: exact for a point mass at any ``eta`` and any ladder; order 1 otherwise. With eta 0
    it is Euler's method on the probability flow and draws nothing; with eta 1 it is the ancestral
    step of DDPM. The step to 0 returns the denoised estimate.

    Args:
        eta: share of the ancestral noise, in [0, 1].

    Reference: Song, Meng, Ermon (2021), "Denoising Diffusion Implicit Models", arXiv 2010.02502,
    equations 12 and 16.
    """

    eta: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.eta <= 1:
            raise ValueError(f"eta must lie in [0, 1], got {self.eta}")

    @property
    def asks_at_start(self) -> bool:
        """Returns whether a step evaluates the score at its start: always True."""
        return True

    def n_evaluations(self, n_levels: int) -> int:
        """Counts the calls of the score down a ladder of ``n_levels`` positive levels."""
        return n_levels

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
        s, s_next = broadcast(sigma, x), broadcast(sigma_next, x)
        tau = self.eta * s_next / s * (s**2 - s_next**2).sqrt()
        kept = s_next * (1 - self.eta**2 * (1 - (s_next / s) ** 2)).sqrt()  # sqrt(s_next^2 - tau^2)
        # D + kept (x - D) / s as one product: at s = 80 the sum of two terms loses two digits.
        moved = x + s * (s - kept) * score_fn(x, sigma)
        if self.eta > 0:
            moved = moved + tau * unit_noise(x, generator=generator)
        return moved.to(x.dtype)
