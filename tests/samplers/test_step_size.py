from __future__ import annotations

import pytest
import torch

from samplers import Hamiltonian, Langevin, ScoreFn, UnderdampedLangevin
from samplers.step_size import step_length


@pytest.mark.parametrize("kernel", [Langevin, Hamiltonian, UnderdampedLangevin])
@pytest.mark.parametrize("step_size", [0.0, -0.5, 2.0, 3.1, float("nan")])
def test_a_step_beyond_the_stability_of_every_law_is_refused(
    kernel: type[Langevin], step_size: float
) -> None:
    with pytest.raises(ValueError, match=rf"step_size must lie in \(0, 2\), got {step_size}"):
        kernel(step_size)


def test_a_light_mass_narrows_the_steps_and_a_heavy_one_widens_them() -> None:
    Hamiltonian(3.9, mass=4.0)
    with pytest.raises(ValueError, match=r"step_size must lie in \(0, 4\), got 4.1"):
        Hamiltonian(4.1, mass=4.0)
    with pytest.raises(ValueError, match=r"step_size must lie in \(0, 1\), got 1.1"):
        Hamiltonian(1.1, mass=torch.tensor([4.0, 0.25]))


@pytest.mark.parametrize("sigma", [0.05, 0.7, 5.0])
def test_no_direction_of_a_blurred_law_is_stiffer_than_one_over_sigma_squared(
    sigma: float, mixture_score: ScoreFn
) -> None:
    generator = torch.Generator().manual_seed(0)
    level = torch.tensor(sigma, dtype=torch.float64)
    for x in 2 * torch.randn(200, 2, generator=generator, dtype=torch.float64):
        hessian = -torch.autograd.functional.jacobian(lambda y: mixture_score(y[None], level)[0], x)
        assert float(torch.linalg.eigvalsh(hessian).max()) <= 1 / sigma**2


def test_the_length_is_in_the_unit_of_the_state_and_one_an_item() -> None:
    x = torch.zeros(2, 3, 4)
    length = step_length(0.5, torch.tensor([2.0, 4.0]), x)
    assert torch.equal(length, torch.tensor([1.0, 2.0]).reshape(2, 1, 1))
    assert step_length(0.5, torch.tensor(2.0), x.bfloat16()).dtype == torch.float32
