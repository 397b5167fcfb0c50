r"""Langevin kernels: overdamped, without momentum, and underdamped, with friction.

With ``h = step_size sigma`` and n, z ~ N(0, I):

    overdamped    x <- x + h^2 / 2 score(x) + h z

    underdamped   p <- p + h / 2 score(x)                           B
                  x <- x + h / 2 p                                  A
                  p <- c p + sqrt(1 - c^2) n,  c = exp(-g step_size)    O
                  x <- x + h / 2 p                                  A
                  p <- p + h / 2 score(x)                           B
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from samplers.metropolis import all_finite, choose, decide, kinetic_energy, log_density_at
from samplers.noise import unit_noise
from samplers.step_size import check_step_size, step_length
from samplers.types import Info, LogDensityFn, ScoreFn


class LangevinState(NamedTuple):
    """A position, and the values there that Metropolis' rule needs.

    Args:
        x: position, (B, *S).
        score, log_density: values at ``x``, (B, *S) and (B,), at least float32; None for the
            unadjusted kernel, which evaluates the score when it moves.
    """

    x: Tensor
    score: Tensor | None = None
    log_density: Tensor | None = None


@dataclass(frozen=True)
class Langevin:
    """The overdamped kernel; one evaluation of the score per step, one more at the start if
    adjusted.

    Stationary law, with ``log_density_fn`` (MALA): p_sigma exactly, at any step size. Without it
    (ULA): within O(step_size^2) of p_sigma; in a Gaussian direction of curvature k the variance is
    ``1 / k / (1 - h^2 k / 4)``. In half precision the position is rounded after every move. With
    and without it, an item whose proposal is not finite stays where it is.

    It is `Hamiltonian` with one leapfrog step and no persistence, less one evaluation at the start.

    Args:
        step_size: standard deviation of the noise of one step as a fraction of sigma, in (0, 2);
            see `samplers.step_size`. Song and Ermon's alpha is ``(step_size sigma)^2``.
        log_density_fn: makes the kernel Metropolis-adjusted; one call per step, one at the start.
            ``score_fn`` must be its gradient.

    Reference: Roberts and Tweedie (1996), "Exponential convergence of Langevin distributions and
    their discrete approximations", sections 1.4.1 and 1.4.2; Song and Ermon (2019), arXiv
    1907.05600, equation 4.
    """

    step_size: float = 0.5
    log_density_fn: LogDensityFn | None = None

    def __post_init__(self) -> None:
        check_step_size(self.step_size)

    @property
    def keeps_score(self) -> bool:
        """Returns whether a state has the score at its position: only with Metropolis' rule, which
        evaluates it where a move ends.
        """
        return self.log_density_fn is not None

    def n_evaluations(self, n_steps: int) -> int:
        """Counts the calls of the score by `init` and ``n_steps`` steps."""
        return n_steps + (self.log_density_fn is not None)

    @torch.no_grad()
    def init(
        self, score_fn: ScoreFn, x: Tensor, sigma: Tensor, *, generator: torch.Generator
    ) -> LangevinState:
        """Makes the state at ``x``; draws nothing."""
        if self.log_density_fn is None:
            return LangevinState(x)
        return LangevinState(
            x, _score(score_fn, x, sigma), log_density_at(self.log_density_fn, x, sigma)
        )

    @torch.no_grad()
    def step(
        self, score_fn: ScoreFn, state: LangevinState, sigma: Tensor, *, generator: torch.Generator
    ) -> tuple[LangevinState, Info]:
        """Makes one move."""
        x, h = state.x, step_length(self.step_size, sigma, state.x)
        z = unit_noise(x, generator=generator)
        score = _score(score_fn, x, sigma) if state.score is None else state.score
        proposal = (x + h**2 / 2 * score + h * z).to(x.dtype)
        if self.log_density_fn is None:
            taken, info = decide(all_finite(proposal), None, generator=generator)
            return LangevinState(choose(taken, proposal, x)), info
        assert state.log_density is not None, "the state is of a kernel without log_density_fn"
        score_there = _score(score_fn, proposal, sigma)
        log_density = log_density_at(self.log_density_fn, proposal, sigma)
        # The reverse move from the proposal needs the noise -z_there: z is a momentum after half a
        # kick, and the ratio of the two Gaussian proposal densities is that of kinetic energies.
        z_there = z + h / 2 * (score + score_there)
        energy_error = state.log_density - log_density + kinetic_energy(z_there) - kinetic_energy(z)
        finite = all_finite(proposal, score_there) & log_density.isfinite()
        taken, info = decide(finite, energy_error, generator=generator)
        moved = LangevinState(
            choose(taken, proposal, x),
            choose(taken, score_there, score),
            choose(taken, log_density, state.log_density),
        )
        return moved, info


class UnderdampedState(NamedTuple):
    """The start of a move.

    Args:
        x: position, (B, *S).
        momentum, score: momentum, and score at ``x``, (B, *S), at least float32.
    """

    x: Tensor
    momentum: Tensor
    score: Tensor


@dataclass(frozen=True)
class UnderdampedLangevin:
    """The underdamped kernel, split as BAOAB; one evaluation per step, one more at the start.

    Stationary law: ``p_sigma(x) N(p; 0, I)`` up to O(step_size^2), and on a Gaussian p_sigma(x) is
    exact at any step size; only the momentum, which is discarded, is too narrow, of variance
    ``1 - h^2 k / 4`` in a direction of curvature k. It is unadjusted; the adjusted kernel is
    `Hamiltonian` with one leapfrog step and ``persistence = exp(-friction step_size)``. An item
    whose move is not finite stays where it is, and its momentum changes sign.

    Args:
        step_size: length of a step as a fraction of sigma, in (0, 2); see `samplers.step_size`.
        friction: rate g at which the momentum decays, in units of 1 / sigma, positive and finite; 2
            is critical damping for a direction of scale sigma, a wider one needs less.

    Reference: Leimkuhler and Matthews (2013), "Rational construction of stochastic numerical
    methods for molecular sampling", arXiv 1203.5428 (BAOAB).
    """

    step_size: float = 0.5
    friction: float = 1.0

    def __post_init__(self) -> None:
        check_step_size(self.step_size)
        if not 0 < self.friction < math.inf:
            raise ValueError(f"friction must be finite and greater than 0, got {self.friction}")

    @property
    def keeps_score(self) -> bool:
        """Returns whether a state has the score at its position: always True."""
        return True

    def n_evaluations(self, n_steps: int) -> int:
        """Counts the calls of the score by `init` and ``n_steps`` steps."""
        return 1 + n_steps

    @torch.no_grad()
    def init(
        self, score_fn: ScoreFn, x: Tensor, sigma: Tensor, *, generator: torch.Generator
    ) -> UnderdampedState:
        """Makes the state at ``x``, with a momentum drawn from N(0, I)."""
        return UnderdampedState(x, unit_noise(x, generator=generator), _score(score_fn, x, sigma))

    @torch.no_grad()
    def step(
        self,
        score_fn: ScoreFn,
        state: UnderdampedState,
        sigma: Tensor,
        *,
        generator: torch.Generator,
    ) -> tuple[UnderdampedState, Info]:
        """Makes one move: B A O A B."""
        h, decay = step_length(self.step_size, sigma, state.x), self.friction * self.step_size
        fresh = math.sqrt(-math.expm1(-2 * decay)) * unit_noise(state.x, generator=generator)
        kicked = state.momentum + h / 2 * state.score
        drawn = math.exp(-decay) * kicked + fresh
        proposal = (state.x + h / 2 * (kicked + drawn)).to(state.x.dtype)
        score = _score(score_fn, proposal, sigma)
        momentum = drawn + h / 2 * score
        # A score that is not finite makes the momentum not finite.
        taken, info = decide(all_finite(proposal, momentum), None, generator=generator)
        moved = UnderdampedState(
            choose(taken, proposal, state.x),
            choose(taken, momentum, -state.momentum),
            choose(taken, score, state.score),
        )
        return moved, info


def _score(score_fn: ScoreFn, x: Tensor, sigma: Tensor) -> Tensor:
    """Evaluates the score, at least float32."""
    return score_fn(x, sigma).to(torch.promote_types(x.dtype, torch.float32))
