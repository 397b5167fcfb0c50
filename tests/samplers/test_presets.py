from __future__ import annotations

import pytest
import torch

from samplers import (
    DDIM,
    SAMPLERS,
    Annealed,
    Hamiltonian,
    Heun,
    Karras,
    Langevin,
    UnderdampedLangevin,
    make_sampler,
)

ENDS = {"sigma_min": 0.05, "sigma_max": 20.0}
LEVELS = Karras(8, **ENDS)


@pytest.mark.parametrize(
    ("name", "transport"),
    [("ddim", DDIM()), ("ddpm", DDIM(1.0)), ("heun", Heun()), ("edm", Heun.edm(8))],
)
def test_each_name_is_its_transport_down_a_karras_ladder(name: str, transport: DDIM | Heun) -> None:
    assert make_sampler(name, n_steps=8, **ENDS) == Annealed(LEVELS, transport)


KERNELS = {
    "langevin": Annealed(LEVELS, None, Langevin(0.5), 5),
    "underdamped": Annealed(LEVELS, None, UnderdampedLangevin(0.5, 1.0), 4),
    "hamiltonian": Annealed(LEVELS, None, Hamiltonian(0.5, 3), 1),
    "predictor-corrector": Annealed(LEVELS, DDIM(), Langevin(0.5), 1),
    "ddim-hamiltonian": Annealed(LEVELS, DDIM(), Hamiltonian(0.5, 3), 1),
}


@pytest.mark.parametrize("name", KERNELS)
def test_each_kernel_is_named(name: str) -> None:
    assert make_sampler(name, n_steps=8, **ENDS) == KERNELS[name]


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
        ("langevin", {"step_size": 0.3}, Annealed(LEVELS, None, Langevin(0.3), 5)),
        ("langevin", {"n_kernel_steps": 2}, Annealed(LEVELS, None, Langevin(), 2)),
        ("underdamped", {"step_size": 0.3}, Annealed(LEVELS, None, UnderdampedLangevin(0.3), 4)),
        ("underdamped", {"friction": 2}, Annealed(LEVELS, None, UnderdampedLangevin(0.5, 2), 4)),
        ("underdamped", {"n_kernel_steps": 1}, Annealed(LEVELS, None, UnderdampedLangevin(), 1)),
        ("hamiltonian", {"step_size": 0.3}, Annealed(LEVELS, None, Hamiltonian(0.3))),
        ("hamiltonian", {"n_leapfrog": 7}, Annealed(LEVELS, None, Hamiltonian(n_leapfrog=7))),
        ("hamiltonian", {"n_kernel_steps": 2}, Annealed(LEVELS, None, Hamiltonian(), 2)),
        (
            "hamiltonian",
            {"persistence": 0.6, "n_kernel_steps": 2},
            Annealed(LEVELS, None, Hamiltonian(persistence=0.6), 2),
        ),
        ("ddim-hamiltonian", {"eta": 1.0}, Annealed(LEVELS, DDIM(1.0), Hamiltonian())),
        ("ddim-hamiltonian", {"n_leapfrog": 1}, Annealed(LEVELS, DDIM(), Hamiltonian(0.5, 1))),
        ("ddim-hamiltonian", {"step_size": 0.3}, Annealed(LEVELS, DDIM(), Hamiltonian(0.3))),
        ("ddim-hamiltonian", {"n_kernel_steps": 2}, Annealed(LEVELS, DDIM(), Hamiltonian(), 2)),
        ("predictor-corrector", {"eta": 1.0}, Annealed(LEVELS, DDIM(1.0), Langevin())),
        ("predictor-corrector", {"step_size": 0.3}, Annealed(LEVELS, DDIM(), Langevin(0.3))),
        ("predictor-corrector", {"n_kernel_steps": 2}, Annealed(LEVELS, DDIM(), Langevin(), 2)),
    ],
)
def test_each_option_arrives(name: str, option: dict[str, float], expected: Annealed) -> None:
    sampler = make_sampler(name, n_steps=8, **ENDS, **option)
    assert sampler == expected != make_sampler(name, n_steps=8, **ENDS)


@pytest.mark.parametrize("name", SAMPLERS)
def test_each_option_that_a_preset_names_is_taken(name: str) -> None:
    values = {"n_leapfrog": 2, "n_kernel_steps": 2, "persistence": 0.5}
    for option in SAMPLERS[name][1]:
        # 2 kernel moves, without which a persistence does nothing.
        moves = {"n_kernel_steps": 2} if option == "persistence" else {}
        make_sampler(name, n_steps=8, **ENDS, **{option: values.get(option, 1.0)}, **moves)


def test_a_persistence_that_would_do_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="persistence = 0.5 needs n_kernel_steps of at least 2"):
        make_sampler("hamiltonian", n_steps=8, **ENDS, persistence=0.5)


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_preset_recovers_a_gaussian_and_runs_what_it_states(name: str) -> None:
    n, asked = 4000, []

    def score_fn(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        asked.append(float(sigma))
        return -(x - 0.5) / (0.04 + sigma**2)

    sampler = make_sampler(name, n_steps=100, sigma_min=0.02, sigma_max=20.0)
    generator = torch.Generator().manual_seed(0)
    x = sampler(score_fn, torch.randn(n, 1, generator=generator), generator=generator)
    assert sampler.n_evaluations == len(asked)
    # Five standard errors, and a tenth for 100 levels and a step of half a sigma.
    assert float(x.mean()) == pytest.approx(0.5, abs=(5 / n**0.5 + 0.1) * 0.2)
    assert float(x.std()) == pytest.approx(0.2, rel=5 / (2 * n) ** 0.5 + 0.1)


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
