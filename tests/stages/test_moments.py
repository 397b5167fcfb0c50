"""The warm start's statistics: what one record can move, by brute force, and what the sums mean."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from dpgen.networks.fixed.cosines import Cosines
from dpgen.privacy.mechanisms.declared import NoisySum
from dpgen.stages.moments import ClassMeans, ClassSpread, shorten, stack, unstack

SHAPE, N_CLASSES, N_PAIRS = (1, 4, 4), 3, 10_000
Statistic = ClassMeans | ClassSpread


def means() -> ClassMeans:
    return ClassMeans(SHAPE, N_CLASSES, centre=-0.4, radius=1.5, count_weight=0.5)


def spread() -> ClassSpread:
    around = 0.3 * torch.randn(N_CLASSES, 16, generator=torch.Generator().manual_seed(1)).double()
    return ClassSpread(Cosines(SHAPE, 4), N_CLASSES, radius=1.2).around(around)


def worst_records() -> tuple[Tensor, Tensor]:
    """Ten thousand records of every kind: uniform, corners of the cube, flat, nearly at a centre.
    """
    generator = torch.Generator().manual_seed(0)
    quarter = N_PAIRS // 4
    uniform = 2 * torch.rand(quarter, *SHAPE, generator=generator) - 1
    corners = torch.rand(quarter, *SHAPE, generator=generator).round() * 2 - 1
    flat = torch.linspace(-1, 1, quarter)[:, None, None, None].expand(quarter, *SHAPE)
    near = -0.4 + 1e-3 * torch.randn(quarter, *SHAPE, generator=generator)
    pixels = torch.cat([uniform, corners, flat, near])
    return pixels, torch.randint(N_CLASSES, (N_PAIRS,), generator=generator)


class Noiseless:
    """A NoiseSource that adds nothing: what is measured is the sum itself."""

    def for_question(self, question: str) -> Noiseless:
        return self

    def add(self, total: Tensor, std: float, *, release: int, name: str) -> Tensor:
        return total.clone()


class Held:
    def __init__(self, pixels: Tensor, labels: Tensor) -> None:
        self.pixels, self.labels, self.n_slots = pixels, labels, len(labels)

    def read(self, slots: object) -> tuple[Tensor, Tensor, Tensor]:
        rows = torch.as_tensor(slots)
        return self.pixels[rows], self.labels[rows], torch.ones(len(rows), dtype=torch.bool)


@pytest.mark.parametrize("statistic", [means(), spread()], ids=["means", "spread"])
def test_no_pair_of_neighbours_is_further_apart_than_declared_and_some_are_that_far(
    statistic: Statistic,
) -> None:
    pixels, labels = worst_records()
    (block,) = statistic(pixels, labels).values()
    lengths = block.values.norm(dim=1)
    # Adding or removing a record moves its own row by its own block.
    assert lengths.max() <= statistic.bound * (1 + 1e-12)
    assert lengths.max() >= 0.99 * statistic.bound
    # Replacing one: over all consecutive pairs, also in one row, and of opposite kinds.
    table = torch.zeros(N_PAIRS, *statistic.tables[next(iter(statistic.tables))]).double()
    table[torch.arange(N_PAIRS), block.rows] = block.values.double()
    apart = (table - table.roll(1, 0)).flatten(1).norm(dim=1)
    assert apart.max() <= 2 * statistic.bound
    assert apart.max() >= math.sqrt(2) * 0.99 * statistic.bound


@pytest.mark.parametrize("statistic", [means(), spread()], ids=["means", "spread"])
def test_a_release_moves_by_the_block_of_the_record_that_came(statistic: Statistic) -> None:
    """Through the mechanism itself: the noise is `noise_multiplier` of the worst movement."""
    pixels, labels = worst_records()
    mechanism = NoisySum(statistic, 2.0)
    assert mechanism.noise_std == 2.0 * statistic.bound
    base = mechanism.release(Held(pixels[:500], labels[:500]), Noiseless())  # type: ignore[arg-type]
    for i in (2_000, 3_000, 5_000, 7_499, 9_999):
        rows = [*range(500), i]
        more = mechanism.release(Held(pixels[rows], labels[rows]), Noiseless())  # type: ignore[arg-type]
        for name, table in more.items():
            moved = table - base[name]
            assert moved.norm() <= statistic.bound
            others = torch.arange(N_CLASSES) != labels[i]
            assert (moved[others] == 0).all()


def test_means_are_sums_of_centred_pixels_and_weighted_counts() -> None:
    statistic = ClassMeans(SHAPE, N_CLASSES, centre=-0.4, radius=100.0, count_weight=0.5)
    pixels, labels = worst_records()
    found = NoisySum(statistic, 1.0).release(Held(pixels, labels), Noiseless())["sums"]  # type: ignore[arg-type]
    for y in range(N_CLASSES):
        own = pixels[labels == y].double().flatten(1)
        torch.testing.assert_close(found[y, :-1], (own + 0.4).sum(0), atol=1e-3, rtol=1e-4)
        assert found[y, -1].item() == pytest.approx(0.5 * len(own))


def test_spread_is_the_second_moment_around_the_released_means() -> None:
    around = torch.zeros(N_CLASSES, 16).double()
    around[1] = 0.25
    cosines = Cosines(SHAPE, 7)
    statistic = ClassSpread(cosines, N_CLASSES, radius=100.0).around(around)
    pixels, labels = worst_records()
    found = NoisySum(statistic, 1.0).release(Held(pixels, labels), Noiseless())["squares"]  # type: ignore[arg-type]
    for y in range(N_CLASSES):
        b = cosines.analyse(pixels[labels == y].double().flatten(1) - around[y])
        torch.testing.assert_close(unstack(found[y]), b.T @ b, atol=1e-3, rtol=1e-4)


def test_stacking_keeps_every_distance_and_is_undone() -> None:
    generator = torch.Generator().manual_seed(2)
    for m in (1, 2, 5):
        a = torch.randn(6, m, m, generator=generator, dtype=torch.float64)
        symmetric = a + a.mT
        stacked = stack(symmetric)
        assert stacked.shape == (6, m * (m + 1) // 2)
        inner = torch.einsum("nij,kij->nk", symmetric, symmetric)
        torch.testing.assert_close(stacked @ stacked.T, inner)
        torch.testing.assert_close(unstack(stacked), symmetric)


def test_noise_of_one_size_on_the_stack_is_smaller_off_the_diagonal() -> None:
    """So that a symmetric matrix under isotropic stacked noise is a Gaussian orthogonal ensemble.
    """
    n = 20_000
    noise = torch.randn(n, 6, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    variance = unstack(noise).square().mean(0)
    expected = torch.full((3, 3), 0.5, dtype=torch.float64) + 0.5 * torch.eye(3)
    # The variance of a squared normal is 2 v^2: five standard errors.
    assert ((variance - expected).abs() < 5 * expected * math.sqrt(2 / n)).all()


def test_shortening_leaves_short_rows_and_directions_alone() -> None:
    x = torch.tensor([[3.0, 4.0], [0.3, 0.4], [0.0, 0.0]], dtype=torch.float64)
    expected = torch.tensor([[0.6, 0.8], [0.3, 0.4], [0.0, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(shorten(x, 1.0), expected)


def test_settings_that_bound_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="radius must be greater than 0, got 0"):
        ClassMeans(SHAPE, 2, centre=0, radius=0, count_weight=1)
    with pytest.raises(ValueError, match="count_weight must be greater than 0, got -1"):
        ClassMeans(SHAPE, 2, centre=0, radius=1, count_weight=-1)
    with pytest.raises(ValueError, match="radius must be greater than 0, got -1"):
        ClassSpread(Cosines(SHAPE, 2), 2, radius=-1)
    with pytest.raises(RuntimeError, match=r"call around\(means\) first"):
        ClassSpread(Cosines(SHAPE, 2), 2, radius=1)(*worst_records())


def test_the_released_means_are_no_setting_and_everything_else_is() -> None:
    bare = ClassSpread(Cosines(SHAPE, 4), N_CLASSES, radius=1.2)
    assert spread().settings == bare.settings and spread() == bare
    assert bare.settings != ClassSpread(Cosines(SHAPE, 5), N_CLASSES, radius=1.2).settings
    assert set(means().settings) == {
        "name", "shape", "n_classes", "centre", "radius", "count_weight",
    }  # fmt: skip
