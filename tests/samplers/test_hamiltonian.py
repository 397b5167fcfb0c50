from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from samplers import Hamiltonian, LogDensityFn, ScoreFn

Stationary = Callable[[Any, float, float], Tensor]
ONE = torch.tensor(1.0, dtype=torch.float64)


def _seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=_seeded(seed), dtype=torch.float64)


@pytest.mark.parametrize("step_size", [0.1, 0.8, 1.3])
@pytest.mark.parametrize("n_leapfrog", [1, 2, 5])
@pytest.mark.parametrize("persistence", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("mass", [1.0, 0.6])
def test_unadjusted_variances_are_those_of_the_closed_form(
    step_size: float,
    n_leapfrog: int,
    persistence: float,
    mass: float,
    stationary_law: Stationary,
) -> None:
    variance, sigma = 0.3, 0.7
    curvature, h = 1 / (variance + sigma**2), step_size * sigma
    kernel = Hamiltonian(step_size, n_leapfrog, persistence, mass)
    found = stationary_law(kernel, variance, sigma)
    wide = 1 / curvature / (1 - h**2 * curvature / (4 * mass))
    expected = torch.tensor([wide, mass], dtype=torch.float64).diag()
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


def test_the_bias_of_the_unadjusted_kernel_has_order_two(stationary_law: Stationary) -> None:
    bias = [
        stationary_law(Hamiltonian(h, 4), 1.0, 1.0)[0, 0].item() / 2 - 1 for h in (0.4, 0.2, 0.1)
    ]
    orders = [math.log2(a / b) for a, b in zip(bias, bias[1:], strict=False)]
    assert orders == pytest.approx([2.0, 2.0], abs=0.05)


@pytest.mark.parametrize("pull", [0.0, 0.7])
@pytest.mark.parametrize("persistence", [0.0, 0.8])
def test_where_the_energy_is_conserved_everything_is_accepted(
    pull: float, persistence: float
) -> None:
    # Leapfrog is exact for a constant force, and so is the energy.
    kernel = Hamiltonian(1.9, 6, persistence, 1.7, lambda x, s: pull * x.sum(1))
    state = kernel.init(
        lambda x, s: torch.full_like(x, pull), _normal(50, 3), ONE, generator=_seeded()
    )
    for _ in range(3):
        state, info = kernel.step(
            lambda x, s: torch.full_like(x, pull), state, ONE, generator=_seeded(1)
        )
        assert info.acceptance is not None and info.energy_error is not None
        torch.testing.assert_close(info.energy_error, torch.zeros(50).double(), rtol=0, atol=1e-12)
        torch.testing.assert_close(info.acceptance, torch.ones(50).double(), rtol=0, atol=1e-12)
        assert info.rejected is not None and not info.rejected.any()


def test_the_energy_error_is_the_change_of_the_hamiltonian_from_the_refreshed_momentum(
    mixture_score: ScoreFn, mixture_log_density: LogDensityFn
) -> None:
    sigma, mass, a = torch.tensor(0.6, dtype=torch.float64), torch.tensor([0.6, 2.0]).double(), 0.8
    kernel = Hamiltonian(1.4, 3, a, mass, mixture_log_density)
    state = kernel.init(mixture_score, _normal(400, 2), sigma, generator=_seeded())
    moved, info = kernel.step(mixture_score, state, sigma, generator=_seeded(1))
    refreshed = a * state.momentum + math.sqrt(1 - a**2) * mass.sqrt() * _normal(400, 2, seed=1)

    def energy(x: Tensor, p: Tensor) -> Tensor:
        return -mixture_log_density(x, sigma) + (p**2 / mass).sum(1) / 2

    assert info.energy_error is not None and info.acceptance is not None
    stayed = info.rejected
    assert stayed is not None and 20 < int(stayed.sum()) < 380
    change = energy(moved.x, moved.momentum) - energy(state.x, refreshed)
    torch.testing.assert_close(info.energy_error[~stayed], change[~stayed])
    torch.testing.assert_close(info.acceptance, (-info.energy_error).exp().clamp(max=1))
    # Rejected: the refreshed momentum, turned round (Horowitz 1991).
    assert torch.equal(moved.x[stayed], state.x[stayed])
    torch.testing.assert_close(moved.momentum[stayed], -refreshed[stayed])


def test_an_accepted_momentum_goes_on_and_a_turned_one_retraces_the_way(
    mixture_score: ScoreFn,
) -> None:
    # With (almost) no refresh two moves are one of twice the length, and -p leads back.
    sigma, x = torch.tensor(0.6, dtype=torch.float64), _normal(10, 2)
    kernel = Hamiltonian(0.3, 4, persistence=1 - 1e-14)
    start = kernel.init(mixture_score, x, sigma, generator=_seeded())

    def move(state: Any) -> Any:  # noqa: ANN401
        return kernel.step(mixture_score, state, sigma, generator=_seeded(1))[0]

    twice = move(move(start))
    once = Hamiltonian(0.3, 8, persistence=1 - 1e-14).step(
        mixture_score, start, sigma, generator=_seeded(1)
    )[0]
    torch.testing.assert_close(twice.x, once.x, rtol=0, atol=1e-5)
    back = move(move(twice._replace(momentum=-twice.momentum)))
    torch.testing.assert_close(back.x, x, rtol=0, atol=1e-5)


def test_the_first_momentum_has_the_law_of_the_mass_at_every_sigma() -> None:
    mass = torch.tensor([0.25, 4.0])
    for sigma in (0.01, 50.0):
        state = Hamiltonian(0.5, mass=mass).init(
            lambda x, s: x, torch.zeros(6, 2), torch.tensor(sigma), generator=_seeded(1)
        )
        expected = torch.randn(6, 2, generator=_seeded(1)) * torch.tensor([0.5, 2.0])
        torch.testing.assert_close(state.momentum, expected)


@pytest.mark.parametrize("adjusted", [False, True])
def test_a_mass_is_a_change_of_coordinates(
    adjusted: bool, mixture_score: ScoreFn, mixture_log_density: LogDensityFn
) -> None:
    mass, sigma, x = (
        torch.tensor([0.5, 3.0]).double(),
        torch.tensor(0.6, dtype=torch.float64),
        _normal(90, 2),
    )
    root = mass.sqrt()

    def run(kernel: Hamiltonian, score_fn: ScoreFn, x: Tensor) -> Tensor:
        state = kernel.init(score_fn, x, sigma, generator=_seeded(1))
        for seed in range(3):
            state, _ = kernel.step(score_fn, state, sigma, generator=_seeded(seed))
        return state.x

    def log_density_fn(y: Tensor, s: Tensor) -> Tensor:
        return mixture_log_density(y / root, s)

    with_mass = Hamiltonian(0.9, 3, 0.4, mass, mixture_log_density if adjusted else None)
    stretched = Hamiltonian(0.9, 3, 0.4, 1.0, log_density_fn if adjusted else None)
    one = run(with_mass, mixture_score, x)
    other = run(stretched, lambda y, s: mixture_score(y / root, s) / root, x * root) / root
    torch.testing.assert_close(one, other)


def test_a_scalar_mass_is_another_step_size(mixture_score: ScoreFn) -> None:
    sigma, x = torch.tensor(0.6, dtype=torch.float64), _normal(9, 2)
    ends = []
    for kernel in (Hamiltonian(1.0, 3, mass=4.0), Hamiltonian(0.5, 3)):
        state = kernel.init(mixture_score, x, sigma, generator=_seeded(1))
        ends.append(kernel.step(mixture_score, state, sigma, generator=_seeded(2))[0].x)
    torch.testing.assert_close(*ends)


def test_the_same_step_size_is_the_same_kernel_at_every_sigma() -> None:
    # The law blurred ten times as much, seen at a tenth of the scale.
    x, kernel, ends = _normal(9, 2), Hamiltonian(0.7, 3), []
    for sigma in (1.0, 10.0):
        level = torch.tensor(sigma, dtype=torch.float64)
        state = kernel.init(lambda x, s: -x / s**2, sigma * x, level, generator=_seeded(1))
        state, _ = kernel.step(lambda x, s: -x / s**2, state, level, generator=_seeded(2))
        ends.append(state.x / sigma)
    torch.testing.assert_close(*ends)


def test_images_take_one_mass_a_pixel_or_a_channel() -> None:
    x, sigma = _normal(2, 3, 4, 4), torch.tensor(0.6, dtype=torch.float64)
    for mass in (torch.full((3, 1, 1), 2.0), torch.full((3, 4, 4), 2.0)):
        ends = []
        for kernel in (Hamiltonian(mass=mass), Hamiltonian(mass=2.0)):
            state = kernel.init(lambda x, s: -x, x, sigma, generator=_seeded(1))
            ends.append(kernel.step(lambda x, s: -x, state, sigma, generator=_seeded(2))[0].x)
        assert torch.equal(*ends)


@pytest.mark.parametrize("shape", [(4,), (2, 1, 3), (2, 3, 1)])
def test_a_mass_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    x = torch.zeros(2, 3)
    with pytest.raises(ValueError, match=r"mass must broadcast over x, \(2, 3\), got"):
        Hamiltonian(mass=torch.ones(shape)).init(lambda x, s: x, x, ONE, generator=_seeded())


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"n_leapfrog": 0}, "n_leapfrog must be a whole number from 1, got 0"),
        ({"n_leapfrog": 2.0}, "n_leapfrog must be a whole number from 1, got 2.0"),
        ({"persistence": 1.0}, r"persistence must lie in \[0, 1\), got 1.0"),
        ({"persistence": -0.1}, r"persistence must lie in \[0, 1\), got -0.1"),
        ({"mass": 0.0}, "mass must be finite and greater than 0, got 0.0"),
        ({"mass": torch.tensor([1.0, -1.0])}, "mass must be finite and greater than 0"),
        ({"mass": torch.tensor([1.0, math.inf])}, "mass must be finite and greater than 0"),
        ({"mass": math.nan}, "mass must be finite and greater than 0, got nan"),
    ],
)
def test_numbers_out_of_range_are_refused(numbers: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Hamiltonian(**numbers)


def test_kernels_compare_by_value_also_with_one_mass_a_coordinate() -> None:
    kernel = Hamiltonian(0.5, 3, 0.2, torch.tensor([1.0, 2.0]))
    for same in (copy.deepcopy(kernel), pickle.loads(pickle.dumps(kernel))):
        assert same == kernel and hash(same) == hash(kernel)
    others: list[Any] = [
        Hamiltonian(0.4, 3, 0.2, torch.tensor([1.0, 2.0])),
        Hamiltonian(0.5, 2, 0.2, torch.tensor([1.0, 2.0])),
        Hamiltonian(0.5, 3, 0.1, torch.tensor([1.0, 2.0])),
        Hamiltonian(0.5, 3, 0.2, torch.tensor([1.0, 3.0])),
        Hamiltonian(0.5, 3, 0.2, torch.tensor([[1.0, 2.0]])),
        Hamiltonian(0.5, 3, 0.2, torch.tensor([1.0, 2.0]), lambda x, s: x.sum(1)),
        "Hamiltonian",
    ]
    assert all(other != kernel for other in others)
    assert Hamiltonian(mass=1.0) == Hamiltonian()
