r"""Losses that fit a score function: four estimates of one distance to the score of noisy data.

Noise is added to the data x by ``x~ = x + sigma z``, z standard normal; p_sigma is the distribution
of x~, s an estimate of its score, d the number of pixels, v a random projection with E[v v'] = I.

    denoising         ||s(x~) + z / sigma||^2
    sliced denoising  (v's(x~) + v'z / sigma)^2              its average over v is `denoising`
    sliced            v' (ds/dx) v + (v's(x~))^2 / 2         the score's Jacobian, not its target
    variance reduced  v' (ds/dx) v + ||s(x~)||^2 / 2         `sliced`, its second term averaged

All have the score of p_sigma as their minimiser. In expectation, twice either sliced loss is
`denoising` less a number that does not depend on s; so with the `scale` of the table all four have
the same expected gradient, and can share one learning rate and one clip norm. They differ in
variance: `denoising` has the smallest, `sliced` the largest.

Projections are Rademacher signs, in any dimension. Among distributions with independent coordinates
and E[v v'] = I they give v'Av the smallest variance (fourth moment 1, a Gaussian's is 3), and
||v||^2 = d exactly, so that no record's gradient is long because of the length of its projection.

Derivatives along v are computed in reverse mode, v'(ds/dx), which has the same product with v as
(ds/dx)v. Under ``vmap(grad(...))`` over a U-Net this is faster than forward mode and takes less
memory, and it works with attention, where forward mode does not: neither the fused attention kernel
nor GroupNorm after attention has a usable forward derivative (torch 2.13).

Reference: Vincent (2011), "A Connection Between Score Matching and Denoising Autoencoders",
equation 11; Song, Garg, Shi, Ermon (2020), "Sliced Score Matching", arXiv 1905.07088, equations 7
and 8; Hutchinson (1990) for the signs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

    from samplers.types import ScoreFn

__all__ = [
    "LOSSES",
    "Loss",
    "denoising",
    "find",
    "signs",
    "sliced",
    "sliced_denoising",
    "variance_reduced",
]


def denoising(score_fn: ScoreFn, x: Tensor, sigma: Tensor, z: Tensor) -> Tensor:
    """Computes ``||s(x~) + z / sigma||^2`` of every draw, (J,): the average of `sliced_denoising`
    over v. Times ``sigma^4`` it is ``||D - x||^2`` for the denoiser D of the score.

    Args:
        score_fn: (noisy (J, *S), sigma (J,)) -> score (J, *S), each draw by itself.
        x: one record (*S), or one for each draw, (J, *S).
        sigma: noise levels, positive, (J,).
        z: unit noise, (J, *S).
    """
    return _residual(score_fn, x, sigma, z).square().flatten(1).sum(1)


def sliced_denoising(score_fn: ScoreFn, x: Tensor, sigma: Tensor, z: Tensor, v: Tensor) -> Tensor:
    """Computes ``(v's(x~) + v'z / sigma)^2`` of every draw, (J,); arguments as in `sliced`."""
    return _inner(v, _residual(score_fn, x, sigma, z)).square()


def sliced(score_fn: ScoreFn, x: Tensor, sigma: Tensor, z: Tensor, v: Tensor) -> Tensor:
    """Computes ``v' (ds/dx) v + (v's)^2 / 2`` at x~, of every draw, (J,).

    Args:
        score_fn: as in `denoising`; it is differentiated once by its input.
        x: one record (*S), or one for each draw, (J, *S).
        sigma: noise levels, positive, (J,).
        z: unit noise, (J, *S).
        v: projections, (J, *S), from `signs`.
    """
    score, curvature = _along(score_fn, _blurred(x, sigma, z), sigma, v)
    return curvature + _inner(v, score).square() / 2


def variance_reduced(score_fn: ScoreFn, x: Tensor, sigma: Tensor, z: Tensor, v: Tensor) -> Tensor:
    """Computes ``v' (ds/dx) v + ||s||^2 / 2`` at x~, of every draw, (J,); arguments as in `sliced`.
    """
    score, curvature = _along(score_fn, _blurred(x, sigma, z), sigma, v)
    return curvature + score.square().flatten(1).sum(1) / 2


class Loss(NamedTuple):
    """An entry of `LOSSES`.

    Args:
        function: (score_fn, x, sigma, z), and v where ``projects``.
        projects: whether it takes projections.
        scale: the factor that gives it the expected gradient of `denoising`.
    """

    function: Callable[..., Tensor]
    projects: bool
    scale: float

    def __call__(
        self, score_fn: ScoreFn, x: Tensor, sigma: Tensor, z: Tensor, v: Tensor | None
    ) -> Tensor:
        """Computes the scaled loss of every draw, (J,); ``v`` is given if and only if ``projects``.
        """
        if (v is not None) != self.projects:
            raise ValueError(
                f"{self.function.__name__} takes {'a' if self.projects else 'no'} projection v"
            )
        return self.scale * self.function(score_fn, x, sigma, z, *([] if v is None else [v]))


LOSSES = {
    "denoising": Loss(denoising, False, 1.0),
    "sliced-denoising": Loss(sliced_denoising, True, 1.0),
    "sliced": Loss(sliced, True, 2.0),
    "variance-reduced": Loss(variance_reduced, True, 2.0),
}


def find(name: str) -> Loss:
    """Returns the loss of this name. Raises ValueError, which lists all names, for another."""
    if name not in LOSSES:
        raise ValueError(f"loss must be one of {', '.join(LOSSES)}, got {name!r}")
    return LOSSES[name]


def signs(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Draws Rademacher projections: independent signs, int8; E[v v'] = I."""
    return 2 * rng.integers(0, 2, shape, dtype=np.int8) - 1


def _wide(sigma: Tensor, like: Tensor) -> Tensor:
    """Reshapes sigma (J,) to broadcast with ``like`` (J, *S)."""
    return sigma.reshape(-1, *[1] * (like.ndim - 1))


def _blurred(x: Tensor, sigma: Tensor, z: Tensor) -> Tensor:
    return x + _wide(sigma, z) * z


def _residual(score_fn: ScoreFn, x: Tensor, sigma: Tensor, z: Tensor) -> Tensor:
    return score_fn(_blurred(x, sigma, z), sigma) + z / _wide(sigma, z)


def _inner(v: Tensor, w: Tensor) -> Tensor:
    """Computes v'w of every draw, (J,)."""
    return (v * w).flatten(1).sum(1)


def _along(score_fn: ScoreFn, noisy: Tensor, sigma: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Computes the score (J, *S) and its derivative along v, ``v' (ds/dx) v`` (J,)."""
    from torch.func import vjp
    from torch.nn.attention import SDPBackend, sdpa_kernel

    # Unfused attention, because the fused kernel has a first derivative only.
    with sdpa_kernel(SDPBackend.MATH):
        score, pull, *_ = vjp(lambda x: score_fn(x, sigma), noisy)
        (slope,) = pull(v.to(score))
    return score, _inner(v, slope)
