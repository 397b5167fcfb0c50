r"""Hamiltonian kernel: moves the position with a momentum that follows the score.

    H(x, p) = -log p_sigma(x) + p' M^-1 p / 2
    p  <-  a p + sqrt(1 - a^2) n,   n ~ N(0, M)                          refresh
    (x, p)  <-  leapfrog: n_leapfrog steps of length step_size sigma     move
    accept with probability min(1, exp(H_before - H_after)), else p <- -p

The last line needs the density, not only its gradient. Time is in units of sigma, so that one
distribution of momenta, N(0, M), serves every noise level.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from samplers.leapfrog import leapfrog
from samplers.metropolis import all_finite, choose, decide, kinetic_energy, log_density_at
from samplers.noise import unit_noise
from samplers.step_size import STABLE, check_step_size, step_length
from samplers.types import Info, LogDensityFn, ScoreFn


class HamiltonianState(NamedTuple):
    """The start of a trajectory.

    Args:
        x: position, (B, *S).
        momentum: momentum, (B, *S), at least float32.
        score: score at ``x``, (B, *S), at least float32.
        log_density: log density at ``x``, (B,); None for the unadjusted kernel.
    """

    x: Tensor
    momentum: Tensor
    score: Tensor
    log_density: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Hamiltonian:
    """The Hamiltonian kernel; ``n_leapfrog`` score evaluations per step, one more at the start.

    Stationary law, with ``log_density_fn``: ``p_sigma(x) N(p; 0, M)`` exactly, at any step size.
    Without it: within O(step_size^2) of that; in a Gaussian direction of curvature k the variance
    is ``1 / k / (1 - h^2 k / (4 m))`` with h = step_size sigma, at any ``n_leapfrog`` and
    ``persistence``. In half precision the accepted position is rounded, and "exactly" is up to that
    rounding.

    With and without it, an item whose proposal is not finite stays where it is, and its momentum
    changes sign; otherwise a persistent kernel would leave another distribution invariant.

    Args:
        step_size: length of a leapfrog step as a fraction of sigma, in (0, 2 sqrt(smallest mass));
            see `samplers.step_size`.
        n_leapfrog: steps of a trajectory, at least 1. At ``n_leapfrog step_size`` near
            pi / 2 a direction of scale sigma forgets where it was; at pi it is only mirrored.
        persistence: share a of the momentum that survives a refresh, in [0, 1); 0 draws a new one.
        mass: diagonal of M, positive; broadcasts over x. A number m gives the same kernel as mass 1
            with step_size / sqrt(m), so only a tensor, one mass per coordinate, is useful.
        log_density_fn: makes the kernel Metropolis-adjusted; one call per step, one at the start.
            ``score_fn`` must be its gradient.

    Reference: Duane et al. (1987), "Hybrid Monte Carlo"; Horowitz (1991), "A generalized guided
    Monte Carlo algorithm" (persistence and the flip); Neal (2011), arXiv 1206.1901.
    """

    step_size: float = 0.5
    n_leapfrog: int = 3
    persistence: float = 0.0
    mass: float | Tensor = 1.0
    log_density_fn: LogDensityFn | None = None

    def __post_init__(self) -> None:
        mass = torch.as_tensor(self.mass, dtype=torch.float64)
        if not bool(((mass > 0) & mass.isfinite()).all()):
            raise ValueError(f"mass must be finite and greater than 0, got {self.mass}")
        check_step_size(self.step_size, STABLE * math.sqrt(mass.min()))
        if not (isinstance(self.n_leapfrog, int) and self.n_leapfrog >= 1):
            raise ValueError(f"n_leapfrog must be a whole number from 1, got {self.n_leapfrog}")
        if not 0 <= self.persistence < 1:
            raise ValueError(f"persistence must lie in [0, 1), got {self.persistence}")

    @property
    def keeps_score(self) -> bool:
        """Returns whether a state has the score at its position: always True."""
        return True

    def n_evaluations(self, n_steps: int) -> int:
        """Counts the calls of the score by `init` and ``n_steps`` steps."""
        return 1 + n_steps * self.n_leapfrog

    @torch.no_grad()
    def init(
        self, score_fn: ScoreFn, x: Tensor, sigma: Tensor, *, generator: torch.Generator
    ) -> HamiltonianState:
        """Makes the state at ``x``, with a momentum drawn from N(0, M)."""
        momentum = self._mass(x).sqrt() * unit_noise(x, generator=generator)
        score = score_fn(x, sigma).to(momentum.dtype)
        if self.log_density_fn is None:
            return HamiltonianState(x, momentum, score)
        return HamiltonianState(x, momentum, score, log_density_at(self.log_density_fn, x, sigma))

    @torch.no_grad()
    def step(
        self,
        score_fn: ScoreFn,
        state: HamiltonianState,
        sigma: Tensor,
        *,
        generator: torch.Generator,
    ) -> tuple[HamiltonianState, Info]:
        """Makes one refresh and one trajectory."""
        x, mass = state.x, self._mass(state.x)
        noise = mass.sqrt() * unit_noise(x, generator=generator)
        momentum = self.persistence * state.momentum + math.sqrt(1 - self.persistence**2) * noise
        end = leapfrog(
            lambda y: score_fn(y.to(x.dtype), sigma).to(y.dtype),
            x.to(momentum.dtype),
            momentum,
            step_size=step_length(self.step_size, sigma, x),
            n_steps=self.n_leapfrog,
            mass=mass,
            force=state.score,
        )
        proposal = end.x.to(x.dtype)
        finite = all_finite(proposal, end.p)  # a force that is not finite is in the momentum
        if self.log_density_fn is None:
            taken, info = decide(finite, None, generator=generator)
            log_density = None
        else:
            assert state.log_density is not None, "the state is of a kernel without log_density_fn"
            there = log_density_at(self.log_density_fn, proposal, sigma)
            gained = kinetic_energy(end.p, mass) - kinetic_energy(momentum, mass)
            energy_error = state.log_density - there + gained
            taken, info = decide(finite & there.isfinite(), energy_error, generator=generator)
            log_density = choose(taken, there, state.log_density)
        moved = HamiltonianState(
            choose(taken, proposal, x),
            choose(taken, end.p, -momentum),
            choose(taken, end.force, state.score),
            log_density,
        )
        return moved, info

    def _mass(self, x: Tensor) -> Tensor:
        dtype = torch.promote_types(x.dtype, torch.float32)
        mass = torch.as_tensor(self.mass, dtype=dtype, device=x.device)
        sizes = zip(reversed(mass.shape), reversed(x.shape), strict=False)
        if mass.ndim > x.ndim or any(m not in (1, n) for m, n in sizes):
            raise ValueError(
                f"mass must broadcast over x, {tuple(x.shape)}, got {tuple(mass.shape)}"
            )
        return mass

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Hamiltonian) and self._values() == other._values()

    def __hash__(self) -> int:
        return hash(self._values())

    def _values(self) -> tuple[object, ...]:
        """Returns the fields in comparable form: a mass by its shape and numbers, because comparing
        tensors does not give one bool.
        """
        mass = torch.as_tensor(self.mass, dtype=torch.float64)
        numbers = (tuple(mass.shape), *mass.flatten().tolist())
        return self.step_size, self.n_leapfrog, self.persistence, numbers, self.log_density_fn
