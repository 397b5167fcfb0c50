from __future__ import annotations

import math

import pytest
import torch

from samplers.metropolis import all_finite, choose, decide, kinetic_energy, log_density_at

NAN, INF = math.nan, math.inf


def _seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_a_proposal_is_taken_with_the_probability_of_metropolis() -> None:
    n = 40_000
    error = torch.tensor([-3.0, 0.0, 0.5, 2.0, INF], dtype=torch.float64)
    expected = torch.tensor([1.0, 1.0, math.exp(-0.5), math.exp(-2), 0.0], dtype=torch.float64)
    finite = torch.ones(5 * n, dtype=torch.bool)
    taken, info = decide(finite, error.repeat_interleave(n), generator=_seeded())
    assert info.acceptance is not None and info.rejected is not None
    torch.testing.assert_close(info.acceptance[::n], expected)
    share = taken.double().reshape(5, n).mean(1)
    # Five standard errors of a share; none at all where it is 0 or 1.
    assert bool(((share - expected).abs() <= 5 * (expected * (1 - expected) / n).sqrt()).all())
    assert torch.equal(info.rejected, ~taken)


def test_what_is_not_finite_is_never_taken_and_a_start_without_density_is_always_left() -> None:
    finite = torch.tensor([True, False, False, True, True])
    error = torch.tensor([-INF, -INF, 0.0, NAN, 0.0])
    taken, info = decide(finite, error, generator=_seeded())
    assert taken.tolist() == [True, False, False, False, True]
    assert info.acceptance is not None
    assert info.acceptance[:3].tolist() == [1.0, 0.0, 0.0]


def test_without_a_density_every_finite_proposal_is_taken_and_nothing_is_drawn() -> None:
    generator = _seeded()
    before = generator.get_state()
    finite = torch.tensor([True, False, True])
    taken, info = decide(finite, None, generator=generator)
    assert torch.equal(taken, finite)
    assert info.acceptance is None and info.energy_error is None
    assert info.rejected is not None and info.rejected.tolist() == [False, True, False]
    assert torch.equal(generator.get_state(), before)


@pytest.mark.parametrize("shape", [(2,), (2, 3), (2, 3, 4, 4)])
def test_items_choose_for_themselves(shape: tuple[int, ...]) -> None:
    x, y = torch.zeros(shape), torch.ones(shape)
    chosen = choose(torch.tensor([True, False]), y, x)
    assert torch.equal(chosen[0], y[0]) and torch.equal(chosen[1], x[1])


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
def test_one_bad_number_in_any_tensor_makes_an_item_not_finite(bad: float) -> None:
    x, y = torch.zeros(3, 2, 2), torch.zeros(3, 2, 2)
    x[0, 1, 1], y[2, 0, 1] = bad, bad
    assert all_finite(x, y).tolist() == [False, True, False]


def test_kinetic_energy_is_half_the_sum_of_squares_over_the_mass() -> None:
    p = torch.tensor([[3.0, 4.0], [1.0, 2.0]], dtype=torch.float64)
    assert kinetic_energy(p).tolist() == [12.5, 2.5]
    assert kinetic_energy(p, torch.tensor([9.0, 2.0])).tolist() == [4.5, 1 / 18 + 1]
    assert kinetic_energy(torch.tensor([2.0, 4.0]), 2.0).tolist() == [1.0, 4.0]
    assert kinetic_energy(torch.zeros(0, 3)).shape == (0,)


def test_a_density_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"must return shape \(B,\) = \(4,\), got \(4, 1\)"):
        log_density_at(lambda x, s: x.sum(1, keepdim=True), torch.zeros(4, 2), torch.tensor(1.0))


def test_a_density_is_kept_in_at_least_single_precision() -> None:
    x = torch.zeros(4, 2)
    log_density = log_density_at(lambda x, s: x.sum(1).bfloat16(), x, torch.tensor(1.0))
    assert log_density.dtype == torch.float32
