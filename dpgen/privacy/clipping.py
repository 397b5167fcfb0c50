"""The sum of per-record gradients, each clipped to a norm: the only place where many records become
one number.

Guarantee: whatever the records, the loss and the parameters, adding or removing one record changes
the returned sum by at most ``clip_norm`` in l2. Each record's gradient is its own
(`torch.func.vmap` over a function of one record, so that no layer's batch handling can mix
records), it is scaled by a factor computed from it alone, and sums run in float64 with the norm
held at ``clip_norm / (1 + 1e-5)``, a margin above the worst rounding of 2**17 records added one by
one, and of 2**20 added in micro-batches of 128 or more. A gradient with a NaN or an infinity counts
as zero, silently: an error would be an un-noised bit about one record.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.func import grad, vmap

# Held by every clip in this package so that float64 rounding cannot carry a sum past its declared
# sensitivity.
MARGIN = 1 + 1e-5

Parameters = dict[str, Tensor]
# (parameters, *one record and its draws, no batch dimension) -> scalar
LossFn = Callable[..., Tensor]


def clip_factors(norms: Tensor, clip_norm: float) -> Tensor:
    """min(1, C / norm) for each norm, float64; 0 for a norm that is not finite."""
    factors = (clip_norm / MARGIN / norms.clamp_min(1e-300)).clamp(max=1.0)
    return torch.where(torch.isfinite(norms), factors, torch.zeros_like(factors))


def zero_sum(parameters: Mapping[str, Tensor]) -> Parameters:
    """What an empty batch adds up to."""
    return {name: torch.zeros_like(p, dtype=torch.float64) for name, p in parameters.items()}


def add_clipped(
    total: Parameters,
    loss_fn: LossFn,
    parameters: Parameters,
    batch: tuple[Any, ...],
    valid: Tensor,
    clip_norm: float,
) -> None:
    """Adds the clipped gradients of one micro-batch to ``total``, in place.

    Args:
        total: float64, one tensor per parameter.
        loss_fn: the loss of one record: ``loss_fn(parameters, *record)``, scalar; sees no batch
            dimension.
        parameters: the tensors to differentiate by.
        batch: tensors of equal first dimension B.
        valid: (B,) bool; a record marked False contributes zero.
        clip_norm: C, the largest l2 norm of one record's gradient over all parameters together.
    """
    per_record = vmap(grad(loss_fn), in_dims=(None,) + (0,) * len(batch), randomness="error")
    gradients = {name: g.double() for name, g in per_record(parameters, *batch).items()}
    squares = torch.stack([g.reshape(len(g), -1).square().sum(1) for g in gradients.values()])
    factors = clip_factors(squares.sum(0).sqrt(), clip_norm) * valid
    kept = factors > 0
    for name, g in gradients.items():
        # Zero times infinity is NaN: drop such records, do not scale them.
        finite = torch.where(kept.reshape(-1, *[1] * (g.ndim - 1)), g, torch.zeros_like(g))
        total[name] += torch.einsum("n,n...->...", factors, finite)
