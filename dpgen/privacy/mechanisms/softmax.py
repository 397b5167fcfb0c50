"""The loss of softmax regression, whose gradient for each record is an outer product.

    l(W; x, y) = -log softmax(x W)_y          dl/dW = x (softmax(x W) - onehot(y))'

The norm of an outer product is the product of the norms, so a clipped sum over records takes two
products of matrices, and no record's gradient is ever written out.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

__all__ = ["WEIGHTS", "SoftmaxLoss"]

WEIGHTS = "weights"  # the one parameter, (d, K)


class SoftmaxLoss:
    """The loss of one record, a row of d numbers with its label.

    Called like any `LossFn` it is the loss of one record, which `vmap` takes; `factors` gives the
    same gradients of many records, factor by factor.
    """

    def __call__(
        self, parameters: Mapping[str, Tensor], row: Tensor, label: Tensor, draws: object = None
    ) -> Tensor:
        logits = row @ parameters[WEIGHTS].to(row.dtype)
        chosen = torch.arange(len(logits), device=row.device) == label
        return logits.logsumexp(0) - torch.where(chosen, logits, 0.0).sum()

    def factors(
        self, parameters: Mapping[str, Tensor], rows: Tensor, labels: Tensor, draws: object = None
    ) -> tuple[Tensor, Tensor]:
        """Computes the factors of every record's gradient, (B, d) and (B, K) float64: row i of both
        depends on record i alone.
        """
        left = rows.double()
        right = (left @ parameters[WEIGHTS].double()).softmax(1)
        classes = torch.arange(right.shape[1], device=right.device)
        return left, right - (classes == labels[:, None]).double()
