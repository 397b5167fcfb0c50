"""Accepts proposals: by Metropolis' rule, or every finite one where no density is known."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from samplers.noise import uniform
from samplers.types import Info, LogDensityFn


def decide(
    finite: Tensor, energy_error: Tensor | None, *, generator: torch.Generator
) -> tuple[Tensor, Info]:
    """Decides which items take their proposal, (B,) bool, and reports on it.

    A proposal that is not finite is never taken. Among the others one of energy error dH is taken
    with probability ``min(1, exp(-dH))``, or always, without a draw, where dH is unknown.

    Args:
        finite: whether all of the proposal is finite, (B,).
        energy_error: H at the proposal less H at the start, (B,); None if it is unknown.
        generator: draws one uniform number per item.

    Reference: Metropolis et al. (1953), "Equation of State Calculations by Fast Computing
    Machines".
    """
    if energy_error is None:
        return finite, Info(rejected=~finite)
    acceptance = torch.where(finite, (-energy_error).exp().clamp(max=1), 0.0)
    taken = uniform(energy_error, generator=generator) < acceptance
    return taken, Info(acceptance, energy_error, ~taken)


def choose(taken: Tensor, proposal: Tensor, start: Tensor) -> Tensor:
    """Returns the proposal where it is taken and the start elsewhere, (B, *S)."""
    return torch.where(taken.reshape(-1, *[1] * (start.ndim - 1)), proposal, start)


def all_finite(*tensors: Tensor) -> Tensor:
    """Returns whether an item is finite in all of these tensors (B, *S), as (B,) bool."""
    return torch.stack([_rows(x).isfinite().all(1) for x in tensors]).all(0)


def kinetic_energy(momentum: Tensor, mass: float | Tensor = 1.0) -> Tensor:
    """Computes ``p' M^-1 p / 2`` of every item, (B,)."""
    return _rows(momentum**2 / mass).sum(1) / 2


def log_density_at(log_density_fn: LogDensityFn, x: Tensor, sigma: Tensor) -> Tensor:
    """Computes ``log p_sigma(x)``, (B,), at least float32. Raises ValueError for another shape."""
    log_density = log_density_fn(x, sigma)
    if log_density.shape != x.shape[:1]:
        raise ValueError(
            f"log_density_fn must return shape (B,) = ({len(x)},), got {tuple(log_density.shape)}"
        )
    return log_density.to(torch.promote_types(log_density.dtype, torch.float32))


def _rows(x: Tensor) -> Tensor:
    return x.reshape(len(x), math.prod(x.shape[1:]))
