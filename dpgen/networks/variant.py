"""What a network of others has that the networks of this package do not: other numbers inside its
blocks, and another output.

A network of DDPM sees ``x_vp = sqrt(a) x_0 + sqrt(1 - a) z`` at step t, where a falls with t. With
``sigma^2 = (1 - a) / a`` this is ``x / sqrt(1 + sigma^2)`` for the variance exploding
``x = x_0 + sigma z``, so that its estimate of the clean image is

    epsilon:       D = x - sigma F
    v_prediction:  D = x / (1 + sigma^2) - sigma / sqrt(1 + sigma^2) F

with F the network's estimate of z, or of ``v = sqrt(a) z - sqrt(1 - a) x_0``. The step t is found
from sigma by linear interpolation of ln sigma; beyond the ends it is the end.

Reference: Ho, Jain, Abbeel (2020), "Denoising Diffusion Probabilistic Models", arXiv 2006.11239,
equation 4; Salimans and Ho (2022), arXiv 2202.00512, appendix D, for v; Karras et al. (2022), arXiv
2206.00364, appendix C.1, for the change of variables.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Variant"]

TARGETS = ("edm", "epsilon", "v_prediction")
SCHEDULES = ("linear", "scaled_linear", "squaredcos_cap_v2")  # as diffusers names them
MOST_STEPS = 2**14


@dataclass(frozen=True)
class Variant:
    """What the network of weights of others has that those of this package do not: it follows from
    the weights and is not chosen.

    Args:
        target: what that network puts out: "edm" (as the networks of this package), "epsilon" or
            "v_prediction", as the schedulers of diffusers call it.
        beta_schedule: how its noise grows from step to step: linear, scaled_linear or
            squaredcos_cap_v2; no matter with "edm".
        beta_start, beta_end: first and last variance of a step, in (0, 1); no matter with
            squaredcos_cap_v2 and with "edm".
        n_steps: number of steps of that noise, at least 2.
        flip_sin_to_cos: order of the sines in its time embedding.
        freq_shift: shift of their frequencies, 0 or 1.
        downsample_padding: padding of its convolutions between levels, 0 or 1.
        norm_eps: what its norms add to a variance.
        attention_head_dim: channels of each head of its attention; 0 for one head of all channels.
    """

    target: str = "edm"
    beta_schedule: str = "linear"
    beta_start: float = 1e-4
    beta_end: float = 0.02
    n_steps: int = 1000
    flip_sin_to_cos: bool = True
    freq_shift: int = 0
    downsample_padding: int = 1
    norm_eps: float = 1e-5
    attention_head_dim: int = 8

    def __post_init__(self) -> None:
        if self.target not in TARGETS:
            raise ValueError(f"target must be one of {', '.join(TARGETS)}, got {self.target!r:.60}")
        if self.beta_schedule not in SCHEDULES:
            raise ValueError(
                f"beta_schedule must be one of {', '.join(SCHEDULES)}, got "
                f"{self.beta_schedule!r:.60}"
            )
        if not 0 < self.beta_start <= self.beta_end < 1:
            raise ValueError(
                "beta_start and beta_end must rise within (0, 1), got "
                f"{self.beta_start} and {self.beta_end}"
            )
        if not 2 <= self.n_steps <= MOST_STEPS:
            raise ValueError(f"n_steps must lie in 2..{MOST_STEPS}, got {self.n_steps}")
        for name in ("freq_shift", "downsample_padding"):
            if getattr(self, name) not in (0, 1):
                raise ValueError(f"{name} must be 0 or 1, got {getattr(self, name)}")
        if not 0 < self.norm_eps < 1:
            raise ValueError(f"norm_eps must lie in (0, 1), got {self.norm_eps}")
        if self.attention_head_dim < 0:
            raise ValueError(
                f"attention_head_dim must be at least 0, got {self.attention_head_dim}"
            )

    @property
    def options(self) -> dict[str, Any]:
        """Returns the arguments of ``UNet2DModel`` that differ."""
        names = ("flip_sin_to_cos", "freq_shift", "downsample_padding", "norm_eps")
        told: dict[str, Any] = {name: getattr(self, name) for name in names}
        return {**told, "attention_head_dim": self.attention_head_dim or None}

    def log_sigmas(self) -> list[float]:
        """Returns ln sigma of every step, rising; empty with "edm"."""
        if self.target == "edm":
            return []
        left, found = 0.0, []  # ln of the product of 1 - beta
        for k in range(self.n_steps):
            left += math.log1p(-self._beta(k))
            found.append((math.log(-math.expm1(left)) - left) / 2)
        return found

    def coefficients(
        self, sigma: Tensor, log_sigmas: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Computes the factors of x, of the output and of the input, and what the time embedding is
        told, at noise levels sigma, (B,).

        Args:
            sigma: noise levels, positive.
            log_sigmas: `log_sigmas` as a tensor.
        """
        import torch

        scale = (1 + sigma**2).rsqrt()
        skip, out = torch.ones_like(sigma), -sigma
        if self.target == "v_prediction":
            skip, out = scale**2, -sigma * scale
        wanted = sigma.log()[:, None]
        low = (wanted >= log_sigmas).sum(1).sub(1).clamp(0, self.n_steps - 2)
        start, stop = log_sigmas[low], log_sigmas[low + 1]
        part = ((wanted[:, 0] - start) / (stop - start)).clamp(0, 1)
        return skip, out, scale, (low + part).to(sigma)

    def _beta(self, k: int) -> float:
        part = k / (self.n_steps - 1)
        if self.beta_schedule == "linear":
            return self.beta_start + part * (self.beta_end - self.beta_start)
        if self.beta_schedule == "scaled_linear":
            low, high = self.beta_start**0.5, self.beta_end**0.5
            return float((low + part * (high - low)) ** 2)
        ends = [math.cos(((k + i) / self.n_steps + 0.008) / 1.008 * math.pi / 2) for i in (0, 1)]
        return min(1 - (ends[1] / ends[0]) ** 2, 0.999)
