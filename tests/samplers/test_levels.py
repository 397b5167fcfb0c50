from __future__ import annotations

import dataclasses
import math
from types import ModuleType

import pytest
import torch
from torch import Tensor

from samplers import Explicit, Geometric, Karras, Levels, check_ladder


@pytest.mark.parametrize("ladder", [Karras, Geometric])
@pytest.mark.parametrize("n_levels", [1, 2, 40])
def test_ladder_is_float64_descends_from_sigma_max_to_sigma_min_and_ends_at_zero(
    ladder: type[Karras] | type[Geometric], n_levels: int
) -> None:
    sigmas = ladder(n_levels, sigma_min=0.05, sigma_max=20.0)()
    assert sigmas.dtype == torch.float64
    assert sigmas.shape == (n_levels + 1,)
    assert bool((sigmas.diff() < 0).all())
    assert sigmas[-1].item() == 0.0
    assert sigmas[0].item() == pytest.approx(20.0, rel=1e-12)
    if n_levels > 1:
        assert sigmas[-2].item() == pytest.approx(0.05, rel=1e-12)


def test_karras_has_the_middle_level_of_its_equation() -> None:
    middle = Karras(3, sigma_min=0.002, sigma_max=80.0, rho=7.0)()[1].item()
    assert middle == pytest.approx(((80 ** (1 / 7) + 0.002 ** (1 / 7)) / 2) ** 7, rel=1e-12)


def test_karras_with_rho_one_is_evenly_spaced() -> None:
    sigmas = Karras(5, sigma_min=1.0, sigma_max=9.0, rho=1.0)()
    expected = torch.tensor([9.0, 7.0, 5.0, 3.0, 1.0, 0.0], dtype=torch.float64)
    torch.testing.assert_close(sigmas, expected)


def test_karras_equals_the_schedule_of_diffusers(schedulers: ModuleType) -> None:
    scheduler = schedulers.EDMEulerScheduler(sigma_min=0.002, sigma_max=80.0, rho=7.0)
    scheduler.set_timesteps(18)
    # The oracle rounds to float32.
    torch.testing.assert_close(Karras(18)().float(), scheduler.sigmas, rtol=1e-6, atol=0)


def test_geometric_has_a_constant_ratio() -> None:
    sigmas = Geometric(4, sigma_min=0.01, sigma_max=10.0)()
    torch.testing.assert_close(
        sigmas, torch.tensor([10.0, 1.0, 0.1, 0.01, 0.0], dtype=torch.float64)
    )


def test_constant_betas_give_the_closed_form() -> None:
    beta = 0.02
    ladder = Explicit.from_betas(torch.full((50,), beta), timesteps=[49, 9, 0])
    # float32 betas: 0.02 is off by 4e-10, fifty times over.
    expected = [math.sqrt((1 - beta) ** -(t + 1) - 1) for t in (49, 9, 0)]
    assert ladder.sigmas == pytest.approx((*expected, 0.0), rel=1e-6)
    assert ladder.n_levels == 3


def test_diffusers_schedule_becomes_the_same_levels(schedulers: ModuleType) -> None:
    scheduler = schedulers.DDIMScheduler(num_train_timesteps=1000)
    scheduler.set_timesteps(25)
    euler = schedulers.EulerDiscreteScheduler(num_train_timesteps=1000, timestep_spacing="leading")
    euler.set_timesteps(25)
    ladder = Explicit.from_alphas_cumprod(scheduler.alphas_cumprod, scheduler.timesteps)
    torch.testing.assert_close(ladder().float(), euler.sigmas, rtol=1e-5, atol=0)
    torch.testing.assert_close(
        Explicit.from_betas(scheduler.betas, scheduler.timesteps)(), ladder(), rtol=1e-4, atol=0
    )


def test_all_timesteps_are_taken_by_default() -> None:
    alphas_cumprod = torch.tensor([0.9, 0.5, 0.2], dtype=torch.float64)
    whole = Explicit.from_alphas_cumprod(alphas_cumprod)
    assert whole == Explicit.from_alphas_cumprod(alphas_cumprod, timesteps=torch.tensor([2, 1, 0]))
    assert whole.sigmas == pytest.approx((2.0, 1.0, 1 / 3, 0.0), rel=1e-12)


def test_ladders_are_frozen_numbers_that_compare() -> None:
    assert Karras(4, sigma_max=5.0) == Karras(4, sigma_max=5.0) != Karras(5, sigma_max=5.0)
    assert dataclasses.asdict(Geometric(2)) == {"n_levels": 2, "sigma_min": 0.002, "sigma_max": 80}
    with pytest.raises(dataclasses.FrozenInstanceError):
        Karras(4).n_levels = 5  # type: ignore[misc]


@pytest.mark.parametrize(
    ("kind", "numbers", "message"),
    [
        (Karras, {"n_levels": 0}, "n_levels must be at least 1, got 0"),
        (Geometric, {"n_levels": -1}, "n_levels must be at least 1, got -1"),
        (Karras, {"n_levels": 2, "sigma_min": 0.0}, "0 < sigma_min < sigma_max < inf, got 0.0"),
        (Geometric, {"n_levels": 2, "sigma_min": 90.0}, "got 90.0 and 80.0"),
        (Karras, {"n_levels": 2, "sigma_max": math.inf}, "got 0.002 and inf"),
        (Karras, {"n_levels": 2, "rho": 0.5}, "rho must be finite and at least 1, got 0.5"),
        (Explicit, {"sigmas": (0.0,)}, "n_levels >= 1"),
        (Explicit, {"sigmas": (2.0, 1.0)}, "levels must end at 0, got 1.0"),
        (Explicit, {"sigmas": (1.0, 1.0, 0.0)}, "strictly descending"),
        (Explicit, {"sigmas": (1.0, 2.0, 0.0)}, "strictly descending"),
        (Explicit, {"sigmas": (math.inf, 1.0, 0.0)}, "must be finite"),
        (Explicit, {"sigmas": (math.nan, 1.0, 0.0)}, "must be finite"),
    ],
)
def test_what_is_no_ladder_is_refused(
    kind: type[Levels], numbers: dict[str, float], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        kind(**numbers)


def test_check_ladder_refuses_a_batch_of_ladders() -> None:
    with pytest.raises(ValueError, match=r"got \(2, 3\)"):
        check_ladder(torch.zeros(2, 3))


@pytest.mark.parametrize(
    ("alphas_cumprod", "timesteps", "message"),
    [
        ([0.9, 0.0], None, r"alphas_cumprod must lie in \(0, 1\], got 0.0 to"),
        ([0.9, 0.5], [2, 0], r"timesteps must lie in \[0, 2\), got 0 to 2"),
        ([0.9, 0.5], [-1], r"timesteps must lie in \[0, 2\), got -1 to -1"),
        ([0.9, 0.5], [0.5], "timesteps must be integers"),
        ([0.9, 0.5], [0, 1], "strictly descending"),
    ],
)
def test_a_schedule_that_cannot_be_converted_is_refused(
    alphas_cumprod: list[float], timesteps: list[int] | None, message: str
) -> None:
    a: Tensor = torch.tensor(alphas_cumprod)
    with pytest.raises(ValueError, match=message):
        Explicit.from_alphas_cumprod(a, timesteps)
