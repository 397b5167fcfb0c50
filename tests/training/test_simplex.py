"""The nearest probabilities to a point."""

from __future__ import annotations

import numpy as np
import torch

from dpgen.training.simplex import nearest_probabilities


def test_probabilities_are_the_nearest_ones() -> None:
    """By the conditions of optimality: one shift of all that stay positive, the others below it."""
    points = 2 * torch.randn(50, 4, generator=torch.Generator().manual_seed(0)).double()
    found = nearest_probabilities(points)
    assert torch.allclose(found.sum(1), torch.ones(50).double()) and (found >= 0).all()
    for point, nearest in zip(points, found, strict=True):
        kept = nearest > 0
        shift = (point - nearest)[kept]
        assert torch.allclose(shift, shift[0].expand_as(shift)) and (point[~kept] <= shift[0]).all()
    assert torch.allclose(nearest_probabilities(found), found)


def test_no_point_of_a_grid_of_probabilities_is_nearer() -> None:
    rows = torch.randn(5, 3, generator=torch.Generator().manual_seed(0)).double()
    found = nearest_probabilities(rows)
    grid = np.arange(0, 1.0001, 0.01)
    points = [(a, b, 1 - a - b) for a in grid for b in grid if a + b <= 1 + 1e-9]
    every = torch.tensor(np.array(points))
    nearest = torch.cdist(rows, every).min(1).values
    assert bool(((rows - found).norm(dim=1) <= nearest + 1e-12).all())
