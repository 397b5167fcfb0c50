r"""Converts between the score and the quantities that a network may predict.

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
    """Computes the denoised estimate ``D = x + sigma^2 score``; at sigma 0 it is ``x``."""
    return (x + broadcast(sigma, x) ** 2 * score).to(x.dtype)


def score_from_denoised(denoised: Tensor, x: Tensor, sigma: Tensor) -> Tensor:
    """Computes the score ``(D - x) / sigma^2``."""
    s = broadcast(sigma, x)
    return ((denoised.to(s.dtype) - x) / s**2).to(x.dtype)


def noise_from_score(score: Tensor, x: Tensor, sigma: Tensor) -> Tensor:
    """Computes the predicted unit noise ``-sigma score``."""
    return (-broadcast(sigma, x) * score).to(x.dtype)


def score_from_noise(noise: Tensor, x: Tensor, sigma: Tensor) -> Tensor:
    """Computes the score ``-noise / sigma``."""
    return (-noise / broadcast(sigma, x)).to(x.dtype)


def v_from_score(score: Tensor, x: Tensor, sigma: Tensor) -> Tensor:
    """Computes the velocity
    ``(alpha^2 x - D) / (alpha sigma) = -alpha sigma (x + (1 + sigma^2) score)``.
    """
    s = broadcast(sigma, x)
    return (-s * (1 + s**2).rsqrt() * (x + (1 + s**2) * score)).to(x.dtype)


def score_from_v(v: Tensor, x: Tensor, sigma: Tensor) -> Tensor:
    """Computes the score ``-alpha^2 x - alpha v / sigma``."""
    s = broadcast(sigma, x)
    alpha = (1 + s**2).rsqrt()
    return (-(alpha**2) * x - alpha / s * v).to(x.dtype)


def sigma_from_alphas_cumprod(alphas_cumprod: Tensor) -> Tensor:
    """Computes the noise level ``sqrt((1 - a) / a)`` of a variance preserving process, in float64.

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
    """Computes the signal's share of the variance, ``a = 1 / (1 + sigma^2)``, in float64."""
    return 1 / (1 + sigma.double() ** 2)


def to_variance_preserving(x: Tensor, sigma: Tensor) -> Tensor:
    """Computes the state that a variance preserving network takes: ``x / sqrt(1 + sigma^2)``."""
    return (x * (1 + broadcast(sigma, x) ** 2).rsqrt()).to(x.dtype)


def to_variance_exploding(x: Tensor, sigma: Tensor) -> Tensor:
    """Inverts `to_variance_preserving`: ``x sqrt(1 + sigma^2)``."""
    return (x * (1 + broadcast(sigma, x) ** 2).sqrt()).to(x.dtype)


def broadcast(sigma: Tensor, x: Tensor) -> Tensor:
    """Reshapes ``sigma``, () or (B,), to (1, 1, ...) or (B, 1, ...) to broadcast with ``x``, at
    least float32.

    The result never has zero dimensions, because in torch the product of a 0-d float32 tensor and a
    bfloat16 tensor is bfloat16.
    """
    if sigma.ndim > 0 and sigma.shape != x.shape[:1]:
        raise ValueError(
            f"sigma must have shape () or (B,) = ({x.shape[0]},), got {tuple(sigma.shape)}"
        )
    dtype = torch.promote_types(x.dtype, torch.float32)
    return sigma.to(x.device, dtype).reshape(-1, *[1] * (x.ndim - 1))
