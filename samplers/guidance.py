r"""Classifier guidance: adds the gradient of a classifier's log likelihood to a score.

    grad log p_sigma(x | y) = grad log p_sigma(x) + grad log p_sigma(y | x)      (Bayes' rule)

A classifier of noisy images gives the second term itself. A classifier of clean images is applied
to the denoised estimate D(x), which is an approximation: p(y | D) for E[p(y | x_0) | x].

Reference: Dhariwal and Nichol (2021), "Diffusion Models Beat GANs on Image Synthesis", arXiv
2105.05233, algorithm 1, for noisy images; Chung et al. (2023), "Diffusion Posterior Sampling",
arXiv 2209.14687, theorem 1, for clean ones.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from samplers.parametrization import denoised_from_score
from samplers.types import LogDensityFn, ScoreFn


def classifier_guided(
    score_fn: ScoreFn, log_likelihood_fn: LogDensityFn, weight: float = 1.0
) -> ScoreFn:
    """Returns the score function of ``p_sigma(x) p_sigma(y | x)^weight``.

    Guarantees: exact if both functions are; an item is guided by its own likelihood alone.

    Args:
        score_fn: the score of p_sigma.
        log_likelihood_fn: ``(x, sigma) -> log p_sigma(y | x)``, (B,), differentiable in x, of noisy
            images.
        weight: 0 leaves the score unchanged, more than 1 sharpens.
    """

    def guided(x: Tensor, sigma: Tensor) -> Tensor:
        with torch.enable_grad():
            leaf = x.detach().requires_grad_(True)
            (tilt,) = torch.autograd.grad(log_likelihood_fn(leaf, sigma).sum(), leaf)
        return score_fn(x, sigma) + weight * tilt

    return guided


def posterior_guided(
    score_fn: ScoreFn, log_likelihood_fn: Callable[[Tensor], Tensor], weight: float = 1.0
) -> ScoreFn:
    """Returns the guided score function for a classifier of clean images, which is applied to
    ``D(x) = x + sigma^2 score``.

    Each call makes one evaluation of the score and its derivative, which takes about three times as
    long as the score alone.

    Args:
        score_fn: the score of p_sigma, differentiable in x.
        log_likelihood_fn: ``x_0 -> log p(y | x_0)``, (B,), differentiable.
        weight: as in `classifier_guided`.
    """

    def guided(x: Tensor, sigma: Tensor) -> Tensor:
        with torch.enable_grad():
            leaf = x.detach().requires_grad_(True)
            score = score_fn(leaf, sigma)
            denoised = denoised_from_score(score, leaf, sigma)
            (tilt,) = torch.autograd.grad(log_likelihood_fn(denoised).sum(), leaf)
        return score.detach() + weight * tilt

    return guided
