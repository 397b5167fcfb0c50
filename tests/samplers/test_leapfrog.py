from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from samplers import leapfrog


def _normal(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def spring(x: Tensor) -> Tensor:
    return -x


def pendulum(x: Tensor) -> Tensor:
    """A force that is not linear and couples neighbours."""
    return -x.sin() - 0.3 * x.roll(1, -1) ** 2 * x - 0.3 * x.roll(-1, -1) ** 2 * x


@pytest.mark.parametrize("shape", [(), (3,), (2, 3, 4, 4)])
@pytest.mark.parametrize("n_steps", [1, 2, 7])
def test_free_fall_ends_where_it_should(shape: tuple[int, ...], n_steps: int) -> None:
    x, p, gravity, mass, h = _normal(*shape), _normal(*shape, seed=1), -9.8, 2.5, 0.3
    end = leapfrog(
        lambda x: torch.full_like(x, gravity), x, p, step_size=h, n_steps=n_steps, mass=mass
    )
    t = n_steps * h
    torch.testing.assert_close(end.x, x + p / mass * t + gravity / mass * t**2 / 2)
    torch.testing.assert_close(end.p, p + gravity * t)
    assert torch.equal(end.force, torch.full_like(x, gravity))


def _oscillator_errors(n_steps: int) -> tuple[float, float]:
    """Distance to the exact end at t = 2, and the worst energy error on the way."""
    x, p, h = torch.tensor(1.0, dtype=torch.float64), torch.tensor(0.5).double(), 2 / n_steps
    exact_x = x * math.cos(2) + p * math.sin(2)
    exact_p = p * math.cos(2) - x * math.sin(2)
    end = leapfrog(spring, x, p, step_size=h, n_steps=n_steps)
    distance = math.hypot(float(end.x - exact_x), float(end.p - exact_p))
    drift = 0.0
    at = leapfrog(spring, x, p, step_size=h, n_steps=1)
    for _ in range(n_steps - 1):
        drift = max(drift, abs(float(at.x**2 + at.p**2 - x**2 - p**2)) / 2)
        at = leapfrog(spring, at.x, at.p, step_size=h, n_steps=1, force=at.force)
    torch.testing.assert_close(torch.stack(at), torch.stack(end))
    return distance, drift


def test_the_oscillator_is_followed_with_order_two_and_so_is_its_energy() -> None:
    errors = torch.tensor([_oscillator_errors(n) for n in (20, 40, 80, 160)])
    orders = (errors[:-1] / errors[1:]).log2()
    torch.testing.assert_close(orders, torch.full_like(orders, 2.0), rtol=0, atol=0.05)


@pytest.mark.parametrize("h", [0.1, 1.0, 1.9])
def test_the_oscillators_shadow_energy_is_conserved_for_ever(h: float) -> None:
    # p^2 + (1 - h^2 / 4) x^2 is an exact invariant, so that the energy error stays bounded.
    x, p = _normal(5), _normal(5, seed=1)
    end = leapfrog(spring, x, p, step_size=h, n_steps=10_001)
    before, after = (b**2 + (1 - h**2 / 4) * a**2 for a, b in ((x, p), end[:2]))
    torch.testing.assert_close(after, before, rtol=1e-10, atol=0)
    assert not torch.allclose(end.x, x)


def test_a_step_beyond_twice_the_inverse_frequency_explodes() -> None:
    mass, stable = 4.0, 2 * math.sqrt(4.0)
    x, p = torch.tensor(1.0, dtype=torch.float64), torch.tensor(0.0).double()
    below = leapfrog(spring, x, p, step_size=0.99 * stable, n_steps=1000, mass=mass)
    above = leapfrog(spring, x, p, step_size=1.01 * stable, n_steps=1000, mass=mass)
    # The shadow energy bounds |x| by 1 below; above, the growth is exp(1000 * 2 arccosh(1.01)).
    assert abs(float(below.x)) <= 1 + 1e-9
    assert abs(float(above.x)) > 1e50


def test_the_flipped_momentum_leads_back() -> None:
    x, p, mass = _normal(2, 6), _normal(2, 6, seed=1), 0.5 + _normal(6, seed=2).abs()
    end = leapfrog(pendulum, x, p, step_size=0.1, n_steps=25, mass=mass)
    back = leapfrog(pendulum, end.x, -end.p, step_size=0.1, n_steps=25, mass=mass)
    assert not torch.allclose(end.x, x, atol=0.1)
    torch.testing.assert_close(back.x, x, rtol=0, atol=1e-12)
    torch.testing.assert_close(-back.p, p, rtol=0, atol=1e-12)


def test_the_map_is_symplectic_and_keeps_volume() -> None:
    d, mass = 4, 0.5 + _normal(4, seed=2).abs()

    def flow(phase: Tensor) -> Tensor:
        end = leapfrog(pendulum, phase[:d], phase[d:], step_size=0.3, n_steps=5, mass=mass)
        return torch.cat([end.x, end.p])

    jacobian = torch.autograd.functional.jacobian(flow, _normal(2 * d))
    zero, eye = torch.zeros(d, d).double(), torch.eye(d).double()
    omega = torch.cat([torch.cat([zero, eye], 1), torch.cat([-eye, zero], 1)])
    torch.testing.assert_close(jacobian.T @ omega @ jacobian, omega, rtol=0, atol=1e-12)
    torch.testing.assert_close(torch.linalg.det(jacobian), torch.tensor(1.0, dtype=torch.float64))
    assert float((jacobian - torch.eye(2 * d)).abs().max()) > 0.5


def test_one_mass_a_coordinate_is_each_coordinate_alone() -> None:
    x, p, mass = _normal(3, 2), _normal(3, 2, seed=1), torch.tensor([0.5, 4.0]).double()
    both = leapfrog(spring, x, p, step_size=0.4, n_steps=6, mass=mass)
    for i in range(2):
        alone = leapfrog(spring, x[:, i], p[:, i], step_size=0.4, n_steps=6, mass=float(mass[i]))
        torch.testing.assert_close(both.x[:, i], alone.x)
        torch.testing.assert_close(both.p[:, i], alone.p)


def test_one_step_size_an_item_is_each_item_alone() -> None:
    x, p, h = _normal(2, 3), _normal(2, 3, seed=1), torch.tensor([[0.1], [0.7]]).double()
    both = leapfrog(pendulum, x, p, step_size=h, n_steps=4)
    for i in range(2):
        alone = leapfrog(pendulum, x[i], p[i], step_size=float(h[i]), n_steps=4)
        torch.testing.assert_close(both.x[i], alone.x)


def test_a_known_force_saves_one_evaluation_and_changes_nothing() -> None:
    asked: list[Tensor] = []

    def force_fn(x: Tensor) -> Tensor:
        asked.append(x)
        return pendulum(x)

    x, p = _normal(4), _normal(4, seed=1)
    fresh = leapfrog(force_fn, x, p, step_size=0.2, n_steps=6)
    assert len(asked) == 7
    known = leapfrog(force_fn, x, p, step_size=0.2, n_steps=6, force=pendulum(x))
    assert len(asked) == 7 + 6
    assert all(torch.equal(a, b) for a, b in zip(fresh, known, strict=True))
    assert torch.equal(fresh.force, pendulum(fresh.x))


def test_the_arguments_stay_as_they_are() -> None:
    given = (_normal(3), _normal(3, seed=1), pendulum(_normal(3)))
    before = [tensor.clone() for tensor in given]
    leapfrog(pendulum, *given[:2], step_size=0.2, n_steps=3, force=given[2])
    assert all(torch.equal(a, b) for a, b in zip(given, before, strict=True))


def test_no_steps_are_refused() -> None:
    with pytest.raises(ValueError, match="n_steps must be at least 1, got 0"):
        leapfrog(spring, _normal(2), _normal(2), step_size=0.1, n_steps=0)
