r"""Selective randomised response: changes labels at random, among the classes that a prior finds
likely.

    k maximises e^eps0 / (e^eps0 + k - 1) times the k largest masses of the prior together
    the set holds the k classes of these masses

    a label in the set    is kept with probability e^eps0 / (e^eps0 + k - 1), and otherwise becomes
                          each other class of the set with probability 1 / (e^eps0 + k - 1)
    a label outside       becomes each class of the set with probability 1 / k

As long as the prior does not depend on the label, any two labels give a class with probabilities of
ratio at most e^eps0: within the set e^eps0 is the ratio itself, and 1 / k lies between the two
probabilities of the first line. That protects *one label*, and nothing that the image was made of.

Reference: Ghazi, Golowich, Kumar, Manurangsi, Zhang (2021), "Deep Learning with Label Differential
Privacy", arXiv 2102.06062, where it is RRWithPrior.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def keep_probability(k: Tensor, epsilon: float) -> Tensor:
    """Computes e^eps0 / (e^eps0 + k - 1), in a form that does not overflow."""
    return 1 / (1 + (k.double() - 1) * math.exp(-epsilon))


def candidates(masses: Tensor, epsilon: float) -> Tensor:
    """Chooses the set of classes that labels may become, by a prior.

    Args:
        masses: the prior of each label, (N, C), at least 0.
        epsilon: eps0, greater than 0.

    Returns:
        Whether each class is in the set, (N, C); ties go to the class that comes first, and to the
        smaller set.
    """
    ranked = masses.double().sort(dim=1, descending=True, stable=True)
    sizes = torch.arange(1, masses.shape[1] + 1, device=masses.device)
    k = (keep_probability(sizes, epsilon) * ranked.values.cumsum(1)).argmax(1) + 1
    among = sizes[None] <= k[:, None]
    return torch.zeros_like(among).scatter_(1, ranked.indices, among)


def law(labels: Tensor, masses: Tensor, epsilon: float) -> Tensor:
    """Computes the probabilities of the response to each label, (N, C) float64.

    Args:
        labels: the true classes, (N,).
        masses, epsilon: as for `candidates`.
    """
    among = candidates(masses, epsilon)
    k = among.sum(1, keepdim=True)
    kept = keep_probability(k, epsilon)
    own = torch.zeros_like(among).scatter_(1, labels[:, None], True)
    inside = torch.where(own, kept, kept * math.exp(-epsilon))
    known = (among & own).any(1, keepdim=True)
    return torch.where(known, inside, 1 / k.double()) * among


def respond(
    labels: Tensor, masses: Tensor, epsilon: float, generator: torch.Generator
) -> Tensor:
    """Draws the response to each label, (N,), from its `law`; arguments on the CPU."""
    uniforms = torch.rand(len(labels), generator=generator, dtype=torch.float64)
    return response_at(uniforms, law(labels, masses, epsilon))


def response_at(uniforms: Tensor, laws: Tensor) -> Tensor:
    """Returns the responses (N,) that uniform numbers (N,) in (0, 1) stand for under laws, (N, C):
    the first class at which the sum of the probabilities so far is as large.
    """
    sums = laws.cumsum(1)
    reached = sums / sums[:, -1:] >= uniforms[:, None]
    return reached.to(torch.int8).argmax(1)
