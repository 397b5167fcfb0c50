"""The sum of per-record gradients, each clipped to a norm.

Guarantee: whatever the records, the loss and the parameters, adding or removing one record changes
the returned sum by at most ``clip_norm`` in l2. Each record's gradient depends on that record alone
(`dpgen.privacy.mechanisms.gradients`) and is scaled by a factor computed from it alone. Sums are
computed in float64 with the norm clipped to ``clip_norm / (1 + 1e-5)``, a margin above the worst
rounding of 2**17 records added one by one, and of 2**20 added in micro-batches of 128 or more. A
gradient with a NaN or an infinity counts as zero, silently: an error would be an un-noised bit
about one record.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from dpgen.privacy.mechanisms.gradients import LossFn, Parameters, per_record_gradients
from dpgen.privacy.mechanisms.row_sums import row_squares, weighted_sum
from dpgen.privacy.mechanisms.softmax import WEIGHTS, SoftmaxLoss

__all__ = ["MARGIN", "LossFn", "Parameters", "add_clipped", "clip_factors", "zero_sum"]

# Every clip in this package keeps this margin, so that float64 rounding cannot carry a sum past its
# declared sensitivity.
MARGIN = 1 + 1e-5


def clip_factors(norms: Tensor, clip_norm: float) -> Tensor:
    """Returns min(1, C / norm) for each norm, float64, with C = ``clip_norm / MARGIN``; 0 for a
    norm that is not finite.
    """
    factors = (clip_norm / MARGIN / norms.clamp_min(1e-300)).clamp(max=1.0)
    return torch.where(torch.isfinite(norms), factors, torch.zeros_like(factors))


def zero_sum(parameters: Mapping[str, Tensor]) -> Parameters:
    """Returns the sum of an empty batch: zeros in float64."""
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
    if isinstance(loss_fn, SoftmaxLoss):
        _add_products(total[WEIGHTS], *loss_fn.factors(parameters, *batch), valid, clip_norm)
        return
    gradients = per_record_gradients(loss_fn, parameters, batch)
    laid = {name: _as_it_lies(g) for name, g in gradients.items()}
    flat = {name: g.reshape(len(g), -1) for name, g in laid.items()}
    squares = torch.stack([row_squares(g) for g in flat.values()])
    factors = clip_factors(squares.sum(0).sqrt(), clip_norm) * valid
    for name, g in laid.items():
        # Zero times infinity is NaN: such records are dropped, not scaled.
        found = weighted_sum(factors, flat[name]).view(g.shape[1:])
        _as_it_lies(total[name][None], gradients[name])[0].add_(found)


def _add_products(
    total: Tensor, left: Tensor, right: Tensor, valid: Tensor, clip_norm: float
) -> None:  # fmt: skip
    """Adds clipped outer products of rows (B, d) and (B, K), float64, to ``total``, in place.

    The norm of an outer product is the product of the two norms.
    """
    factors = clip_factors(left.norm(dim=1) * right.norm(dim=1), clip_norm) * valid
    # Zero times infinity is NaN: such records are dropped, not scaled.
    kept = (factors > 0)[:, None]
    left, right = torch.where(kept, left, 0.0), torch.where(kept, right, 0.0)
    total += ((factors[:, None] * right).T @ left).T


def _as_it_lies(rows: Tensor, like: Tensor | None = None) -> Tensor:
    """Permutes the axes of each record of ``rows`` (B, ...) into the order in which those of
    ``like`` (by default ``rows``) lie in memory: norms and sums stay the same, and no copy is made.
    """
    strides = (rows if like is None else like).stride()
    return rows.permute(0, *sorted(range(1, rows.ndim), key=lambda axis: -strides[axis]))
