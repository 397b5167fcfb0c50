r"""The unit of a kernel's step: a fraction of sigma, the same number at every noise level.

A law blurred by ``sigma z`` has, whatever the data are,

    Hessian of -log p_sigma  =  (I - Cov[x_0 | x] / sigma^2) / sigma^2  <=  1 / sigma^2

so that ``sigma`` is the scale of its stiffest direction: the width across a thin manifold of data
at small sigma, of everything at large sigma. A step ``step_size sigma`` below ``2 sigma`` is stable
on every law, a longer one fails where the data have no width. The width along the data, up to
``sqrt(sigma^2 + data variance)``, is crossed in many steps at small sigma: in about ``(width /
step)^2`` by a random walk, in ``width / step`` by a trajectory that keeps its direction. The ladder
above, where sigma is the larger of the two, is what makes this crossing unnecessary.
"""

from __future__ import annotations

from torch import Tensor

from samplers.parametrization import broadcast

STABLE = 2.0  # leapfrog and Langevin steps on a direction of curvature 1 / sigma^2


def check_step_size(step_size: float, limit: float = STABLE) -> None:
    """Refuses a step that is not positive, or beyond the stability of some law."""
    if not 0 < step_size < limit:
        raise ValueError(f"step_size must lie in (0, {limit:g}), got {step_size}")


def step_length(step_size: float, sigma: Tensor, x: Tensor) -> Tensor:
    """``step_size sigma`` in the unit of x, broadcasting over x, at least float32."""
    return step_size * broadcast(sigma, x)
