"""Projects points to the probabilities that are nearest to them."""

from __future__ import annotations

import torch
from torch import Tensor


def nearest_probabilities(points: Tensor) -> Tensor:
    """Projects points (N, K) to the simplex: the nearest vectors of numbers that are not negative
    and have the sum one.

    Reference: Duchi, Shalev-Shwartz, Singer, Chandra (2008), "Efficient Projections onto the
    l1-Ball for Learning in High Dimensions", figure 1.
    """
    ordered = points.sort(1, descending=True).values
    excess = (ordered.cumsum(1) - 1) / torch.arange(1, points.shape[1] + 1, device=points.device)
    last = (ordered > excess).sum(1, keepdim=True) - 1
    return (points - excess.gather(1, last)).clamp(min=0)
