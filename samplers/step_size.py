r"""The unit of a kernel's step: a fraction of sigma, the same number at every noise level.

A distribution with noise ``sigma z`` added has, whatever the data are,

    Hessian of -log p_sigma  =  (I - Cov[x_0 | x] / sigma^2) / sigma^2  <=  1 / sigma^2

so that ``sigma`` is the scale of its stiffest direction: the width across a thin manifold of data
at small sigma, and the width in all directions at large sigma. A step ``step_size sigma`` below
``2 sigma`` is stable for every distribution; a longer one is unstable where the data have no width.
To cross the width along the data, up to ``sqrt(sigma^2 + data variance)``, takes many steps at
small sigma: about ``(width / step)^2`` for a random walk, ``width / step`` for a trajectory that
keeps its direction. The levels above, where sigma is the larger of the two, make this crossing
unnecessary.
"""

from __future__ import annotations

from torch import Tensor

from samplers.parametrization import broadcast

STABLE = 2.0  # stability limit of leapfrog and Langevin steps at curvature 1 / sigma^2


def check_step_size(step_size: float, limit: float = STABLE) -> None:
    """Raises ValueError for a step that is not positive, or not below the stability limit."""
    if not 0 < step_size < limit:
        raise ValueError(f"step_size must lie in (0, {limit:g}), got {step_size}")


def step_length(step_size: float, sigma: Tensor, x: Tensor) -> Tensor:
    """Computes ``step_size sigma`` in the unit of x, broadcasting over x, at least float32."""
    return step_size * broadcast(sigma, x)
