"""Ladders of noise levels: frozen dataclasses of numbers; a call returns the tensor.

Every ladder returns float64 of shape (n_levels + 1,): ``n_levels`` positive levels, strictly
descending, then exactly 0. A transport down the ladder makes ``n_levels`` steps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from samplers.parametrization import sigma_from_alphas_cumprod

MOST_LEVELS = 100_000  # a longer ladder is a mistake or an attack, and exhausts memory


@dataclass(frozen=True)
class Karras:
    """``sigma_i = (sigma_max^(1/rho) + i/(n-1) (sigma_min^(1/rho) - sigma_max^(1/rho)))^rho``.

    One level is ``sigma_max`` alone.

    Args:
        n_levels: number of positive levels, at least 1.
        sigma_min, sigma_max: the ends, ``0 < sigma_min < sigma_max``.
        rho: exponent, at least 1; 1 spaces the levels evenly, a larger value puts more of them near
            ``sigma_min``.

    Reference: Karras et al. (2022), arXiv 2206.00364, equation 5; the defaults are its Table 1.
    """

    n_levels: int
    sigma_min: float = 0.002
    sigma_max: float = 80.0
    rho: float = 7.0

    def __post_init__(self) -> None:
        _check_ends(self.n_levels, self.sigma_min, self.sigma_max)
        if not 1 <= self.rho < math.inf:
            raise ValueError(f"rho must be finite and at least 1, got {self.rho}")

    def __call__(self) -> Tensor:
        """Returns the levels, float64, (n_levels + 1,)."""
        low, high = self.sigma_min ** (1 / self.rho), self.sigma_max ** (1 / self.rho)
        return _end_at_zero(
            torch.linspace(high, low, self.n_levels, dtype=torch.float64) ** self.rho
        )


@dataclass(frozen=True)
class Geometric:
    """Levels of constant ratio, ``sigma_i = sigma_max (sigma_min / sigma_max)^(i/(n-1))``.

    One level is ``sigma_max`` alone.

    Args:
        n_levels: number of positive levels, at least 1.
        sigma_min, sigma_max: the ends, ``0 < sigma_min < sigma_max``.

    Reference: Song and Ermon (2019), arXiv 1907.05600, section 4.1.
    """

    n_levels: int
    sigma_min: float = 0.002
    sigma_max: float = 80.0

    def __post_init__(self) -> None:
        _check_ends(self.n_levels, self.sigma_min, self.sigma_max)

    def __call__(self) -> Tensor:
        """Returns the levels, float64, (n_levels + 1,)."""
        high, low = math.log(self.sigma_max), math.log(self.sigma_min)
        return _end_at_zero(torch.linspace(high, low, self.n_levels, dtype=torch.float64).exp())


@dataclass(frozen=True)
class Explicit:
    """Levels given as numbers, or by a variance preserving schedule such as diffusers'.

    Args:
        sigmas: strictly descending, the last one 0.
    """

    sigmas: tuple[float, ...]

    def __post_init__(self) -> None:
        check_ladder(self())

    def __call__(self) -> Tensor:
        """Returns the levels, float64, (n_levels + 1,)."""
        return torch.tensor(self.sigmas, dtype=torch.float64)

    @property
    def n_levels(self) -> int:
        """Returns the number of positive levels."""
        return len(self.sigmas) - 1

    @classmethod
    def from_alphas_cumprod(
        cls, alphas_cumprod: Tensor, timesteps: Tensor | Sequence[int] | None = None
    ) -> Explicit:
        """Makes the ladder ``sqrt((1 - a_t) / a_t)``, then 0, of a variance preserving schedule.

        Args:
            alphas_cumprod: a_0 > a_1 > ..., all in (0, 1), (n_timesteps,); a scheduler's
                ``alphas_cumprod``.
            timesteps: the ones to use, descending; a scheduler's ``timesteps``. None for all.
        """
        chosen = torch.as_tensor(
            range(len(alphas_cumprod))[::-1] if timesteps is None else timesteps, device="cpu"
        )
        if chosen.is_floating_point():
            raise ValueError(f"timesteps must be integers, got {chosen.dtype}")
        if chosen.numel() and not 0 <= int(chosen.min()) <= int(chosen.max()) < len(alphas_cumprod):
            raise ValueError(
                f"timesteps must lie in [0, {len(alphas_cumprod)}), "
                f"got {int(chosen.min())} to {int(chosen.max())}"
            )
        sigmas = sigma_from_alphas_cumprod(alphas_cumprod.cpu()[chosen.long()])
        return cls((*sigmas.tolist(), 0.0))

    @classmethod
    def from_betas(cls, betas: Tensor, timesteps: Tensor | Sequence[int] | None = None) -> Explicit:
        """Makes the ladder of `from_alphas_cumprod` with ``a_t = prod_(i <= t) (1 - beta_i)``, in
        float64.
        """
        return cls.from_alphas_cumprod((1 - betas.double()).cumprod(0), timesteps)


def check_ladder(sigmas: Tensor) -> None:
    """Raises ValueError unless levels are finite and strictly descending, at least one, then 0."""
    if sigmas.ndim != 1 or len(sigmas) < 2:
        raise ValueError(
            f"levels must have shape (n_levels + 1,), n_levels >= 1, got {tuple(sigmas.shape)}"
        )
    if float(sigmas[-1]) != 0.0:
        raise ValueError(f"levels must end at 0, got {float(sigmas[-1])}")
    if not bool(sigmas.isfinite().all()) or not bool((sigmas.diff() < 0).all()):
        raise ValueError(f"levels must be finite and strictly descending, got {sigmas.tolist()}")


def _check_ends(n_levels: int, sigma_min: float, sigma_max: float) -> None:
    if n_levels < 1:
        raise ValueError(f"n_levels must be at least 1, got {n_levels}")
    if n_levels > MOST_LEVELS:
        raise ValueError(f"n_levels must be at most {MOST_LEVELS}, got {n_levels}")
    if not 0 < sigma_min < sigma_max < math.inf:
        raise ValueError(
            "sigma_min and sigma_max must satisfy 0 < sigma_min < sigma_max < inf, "
            f"got {sigma_min} and {sigma_max}"
        )


def _end_at_zero(sigmas: Tensor) -> Tensor:
    return torch.cat([sigmas, sigmas.new_zeros(1)])
