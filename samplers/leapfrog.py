"""The leapfrog integrator alone: kick, drift, kick."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor


class Phase(NamedTuple):
    """A point in phase space, and the force there, with which the next trajectory starts.

    Args:
        x, p, force: position, momentum and force, all of one shape.
    """

    x: Tensor
    p: Tensor
    force: Tensor


def leapfrog(
    force_fn: Callable[[Tensor], Tensor],
    x: Tensor,
    p: Tensor,
    *,
    step_size: float | Tensor,
    n_steps: int,
    mass: float | Tensor = 1.0,
    force: Tensor | None = None,
) -> Phase:
    """Integrates ``dx/dt = p / mass, dp/dt = force(x)`` for ``n_steps`` steps of ``step_size``.

    Guarantees: exact under a constant force, error O(step_size^2) otherwise; time reversible,
    symplectic and so volume preserving; the arguments are not changed. With a force ``-k x`` it is
    stable for ``step_size < 2 sqrt(mass / k)``. It makes ``n_steps`` evaluations of ``force_fn``,
    one more if ``force`` is not given.

    Args:
        force_fn: x to the force, minus the gradient of the potential, of the same shape.
        x, p: position and momentum, of any one shape.
        step_size: time of one step, broadcasts over x.
        n_steps: number of steps, at least 1.
        mass: positive, broadcasts over x: the diagonal of the mass matrix.
        force: ``force_fn(x)``, if it is known already.

    Reference: Neal (2011), "MCMC using Hamiltonian dynamics", arXiv 1206.1901, section 2.3.
    """
    if n_steps < 1:
        raise ValueError(f"n_steps must be at least 1, got {n_steps}")
    if force is None:
        force = force_fn(x)
    p = p + step_size / 2 * force
    for i in range(n_steps):
        x = x + step_size * p / mass
        force = force_fn(x)
        # Two half kicks at the same position are one full kick; only the last is a half kick.
        p = p + (step_size if i < n_steps - 1 else step_size / 2) * force
    return Phase(x, p, force)
