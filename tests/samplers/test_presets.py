from __future__ import annotations

import pytest
import torch

from samplers import DDIM, SAMPLERS, Annealed, Heun, Karras, make_sampler

ENDS = {"sigma_min": 0.05, "sigma_max": 20.0}
LEVELS = Karras(8, **ENDS)


@pytest.mark.parametrize(
    ("name", "transport"),
    [("ddim", DDIM()), ("ddpm", DDIM(1.0)), ("heun", Heun()), ("edm", Heun.edm(8))],
)
def test_each_name_is_its_transport_down_a_karras_ladder(name: str, transport: DDIM | Heun) -> None:
    assert make_sampler(name, n_steps=8, **ENDS) == Annealed(LEVELS, transport)


def test_the_table_is_covered_by_these_tests() -> None:
    assert set(SAMPLERS) == {"ddim", "ddpm", "heun", "edm"}


@pytest.mark.parametrize(
    ("name", "option", "expected"),
    [
        ("ddim", {"eta": 0.5}, Annealed(LEVELS, DDIM(0.5))),
        ("ddpm", {"rho": 3.0}, Annealed(Karras(8, **ENDS, rho=3.0), DDIM(1.0))),
        ("heun", {"rho": 3.0}, Annealed(Karras(8, **ENDS, rho=3.0), Heun())),
        ("edm", {"s_churn": 1.0}, Annealed(LEVELS, Heun.edm(8, s_churn=1.0))),
        ("edm", {"s_min": 1.0}, Annealed(LEVELS, Heun.edm(8, s_min=1.0))),
        ("edm", {"s_max": 9.0}, Annealed(LEVELS, Heun.edm(8, s_max=9.0))),
        ("edm", {"s_noise": 1.1}, Annealed(LEVELS, Heun.edm(8, s_noise=1.1))),
    ],
)
def test_each_option_arrives(name: str, option: dict[str, float], expected: Annealed) -> None:
    sampler = make_sampler(name, n_steps=8, **ENDS, **option)
    assert sampler == expected != make_sampler(name, n_steps=8, **ENDS)


@pytest.mark.parametrize("name", SAMPLERS)
def test_each_option_that_a_preset_names_is_taken(name: str) -> None:
    for option in SAMPLERS[name][1]:
        make_sampler(name, n_steps=8, **ENDS, **{option: 1.0})


def test_an_unknown_name_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(ValueError, match="got 'huen'; the nearest is 'heun'"):
        make_sampler("huen", n_steps=8, **ENDS)


@pytest.mark.parametrize(
    ("name", "option", "message"),
    [
        ("ddim", "etta", "options of ddim are eta, rho, got 'etta'; the nearest is 'eta'"),
        ("edm", "churn", "got 'churn'; the nearest is 's_churn'"),
        ("ddpm", "eta", "options of ddpm are rho, got 'eta'"),
        ("heun", "s_churn", "options of heun are rho, got 's_churn'"),
    ],
)
def test_an_option_that_would_do_nothing_is_refused(name: str, option: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_sampler(name, n_steps=8, **ENDS, **{option: 0.5})


def test_n_steps_is_the_number_of_steps() -> None:
    seen: list[float] = []
    make_sampler("ddim", n_steps=8, **ENDS)(
        lambda x, sigma: -x / (1 + sigma**2),
        torch.ones(2, 1),
        generator=torch.Generator(),
        observe=lambda x, sigma, info: seen.append(float(sigma)),
    )
    assert len(seen) == 8
