r"""Converts what a network may predict into the score, form by form.

With ``x = x_0 + sigma z`` (variance exploding) and ``alpha = 1 / sqrt(1 + sigma^2)``:

    denoised   D = E[x_0 | x]   = x + sigma^2 score
    noise      E[z | x]         = (x - D) / sigma = -sigma score
    v          alpha E[z | x] - alpha sigma D, so that  D = alpha^2 x - alpha sigma v

The variance preserving state is ``alpha x = sqrt(a) x_0 + sqrt(1 - a) z`` with ``a = alpha^2``,
diffusers' ``alphas_cumprod``.

Everywhere: predictions and ``x`` are (B, *S), ``sigma`` is positive, () or (B,). Arithmetic is at
least float32; the result has the dtype of ``x``.

Reference: Efron (2011), "Tweedie's Formula and Selection Bias", for D; Salimans and Ho (2022),
"Progressive Distillation", arXiv 2202.00512, appendix D, for v.
"""

from __future__ import annotations

import torch
from torch import Tensor


def denoised_from_score(score: Tensor, x: Tensor, sigma: Tensor) -> Tensor:
    """The denoised estimate ``D = x + sigma^2 score``; at sigma 0 it is ``x``."""
    return (x + broadcast(sigma, x) ** 2 * score).to(x.dtype)


def score_from_denoised(denoised: Tensor, x: Tensor, sigma: Tensor) -> Tensor:
    """The score ``(D - x) / sigma^2``."""
    s = broadcast(sigma, x)
    return ((denoised.to(s.dtype) - x) / s**2).to(x.dtype)


def noise_from_score(score: Tensor, x: Tensor, sigma: Tensor) -> Tensor:
    """The predicted unit noise ``-sigma score``."""
    return (-broadcast(sigma, x) * score).to(x.dtype)


def score_from_noise(noise: Tensor, x: Tensor, sigma: Tensor) -> Tensor:
    """The score ``-noise / sigma``."""
    return (-noise / broadcast(sigma, x)).to(x.dtype)


def v_from_score(score: Tensor, x: Tensor, sigma: Tensor) -> Tensor:
    """The velocity ``(alpha^2 x - D) / (alpha sigma) = -alpha sigma (x + (1 + sigma^2) score)``."""
    s = broadcast(sigma, x)
    return (-s * (1 + s**2).rsqrt() * (x + (1 + s**2) * score)).to(x.dtype)


def score_from_v(v: Tensor, x: Tensor, sigma: Tensor) -> Tensor:
    """The score ``-alpha^2 x - alpha v / sigma``."""
    s = broadcast(sigma, x)
    alpha = (1 + s**2).rsqrt()
    return (-(alpha**2) * x - alpha / s * v).to(x.dtype)


def sigma_from_alphas_cumprod(alphas_cumprod: Tensor) -> Tensor:
    """The noise level ``sqrt((1 - a) / a)`` of a variance preserving process, in float64.

    Args:
        alphas_cumprod: a, in (0, 1], any shape.
    """
    a = alphas_cumprod.double()
    if not bool(((a > 0) & (a <= 1)).all()):
        raise ValueError(
            f"alphas_cumprod must lie in (0, 1], got {float(a.min())} to {float(a.max())}; "
            "0 is pure noise, which has no finite sigma"
        )
    return ((1 - a) / a).sqrt()


def alphas_cumprod_from_sigma(sigma: Tensor) -> Tensor:
    """The signal's share of the variance, ``a = 1 / (1 + sigma^2)``, in float64."""
    return 1 / (1 + sigma.double() ** 2)


def to_variance_preserving(x: Tensor, sigma: Tensor) -> Tensor:
    """The state a variance preserving network takes: ``x / sqrt(1 + sigma^2)``."""
    return (x * (1 + broadcast(sigma, x) ** 2).rsqrt()).to(x.dtype)


def to_variance_exploding(x: Tensor, sigma: Tensor) -> Tensor:
    """The inverse of `to_variance_preserving`: ``x sqrt(1 + sigma^2)``."""
    return (x * (1 + broadcast(sigma, x) ** 2).sqrt()).to(x.dtype)


def broadcast(sigma: Tensor, x: Tensor) -> Tensor:
    """``sigma``, () or (B,), as (1, 1, ...) or (B, 1, ...) beside ``x``, at least float32.

    Never zero dimensional: torch lets a 0-d float32 times a bfloat16 tensor be a bfloat16 one.
    """
    if sigma.ndim > 0 and sigma.shape != x.shape[:1]:
        raise ValueError(
            f"sigma must have shape () or (B,) = ({x.shape[0]},), got {tuple(sigma.shape)}"
        )
    dtype = torch.promote_types(x.dtype, torch.float32)
    return sigma.to(x.device, dtype).reshape(-1, *[1] * (x.ndim - 1))
