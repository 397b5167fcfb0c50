"""What holds for every kernel: the law it leaves invariant, what it carries, what it refuses."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
import torch
from torch import Tensor

from samplers import Hamiltonian, Kernel, Langevin, LogDensityFn, ScoreFn, UnderdampedLangevin

SIGMA, N = 0.5, 20_000
MASS = torch.tensor([0.7, 2.0], dtype=torch.float64)


def _seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _named(kernel: Kernel[Any]) -> str:
    """An id that every process gives alike: without the addresses of functions."""
    return re.sub(r"=<function .*? at 0x\w+>", "", repr(kernel))


def _run(kernel: Kernel[Any], score_fn: ScoreFn, x: Tensor, n_steps: int, seed: int = 1) -> Tensor:
    generator, sigma = _seeded(seed), torch.tensor(SIGMA, dtype=x.dtype)
    state = kernel.init(score_fn, x, sigma, generator=generator)
    for _ in range(n_steps):
        state, _ = kernel.step(score_fn, state, sigma, generator=generator)
    return state.x


def _distance(x: Tensor, law: Any) -> float:  # noqa: ANN401
    """The largest Kolmogorov-Smirnov distance to the exact law over eight directions."""
    ranks = torch.arange(len(x) + 1, dtype=torch.float64) / len(x)
    worst = 0.0
    for angle in torch.arange(8) * math.pi / 8:
        direction = torch.stack([angle.cos(), angle.sin()]).double()
        exact = law.cdf((x @ direction).sort().values, direction, SIGMA)
        worst = max(worst, float((exact - ranks[:-1]).max()), float((ranks[1:] - exact).max()))
    return worst


# Dvoretzky-Kiefer-Wolfowitz: exceeded with probability 1e-8 a direction.
KOLMOGOROV = math.sqrt(math.log(2 / 1e-8) / (2 * N))


def _widened(law: Any, bias: float) -> tuple[float, Tensor, Tensor]:  # noqa: ANN401
    """Distance, mean and covariance tolerances where variances may be too large by ``bias``."""
    exact = law.draw(200_000, SIGMA, generator=_seeded(9))
    centred = exact - exact.mean(0)
    fourth = torch.einsum("ni,nj->ij", centred**2, centred**2) / len(exact)
    covariance = exact.T.cov()
    # Five standard errors; the reference's own are a tenth of them in variance, 1.05 in length.
    mean = 5 * 1.05 * (covariance.diag() / N).sqrt()
    spread = 5 * 1.05 * ((fourth - covariance**2) / N).sqrt()
    # Widening a Gaussian by a fraction b of its variance moves its distribution by at most
    # b / 2 max(u phi(u)) = 0.121 b.
    return KOLMOGOROV + 0.121 * bias, mean, spread + bias * covariance.diag().max()


# Unadjusted: the bias of a variance is at most 1 / (1 - step_size^2 / 4 / mass) - 1.
UNADJUSTED: list[tuple[Any, float]] = [
    (Langevin(0.2), 0.0101),
    (UnderdampedLangevin(0.3, friction=1.0), 0.0231),
    (UnderdampedLangevin(0.3, friction=0.2), 0.0231),
    (Hamiltonian(0.2, n_leapfrog=5), 0.0101),
    (Hamiltonian(0.2, n_leapfrog=4, persistence=0.7), 0.0101),
    (Hamiltonian(0.2, n_leapfrog=4, persistence=0.3, mass=MASS), 0.0145),
]


@pytest.mark.parametrize(("kernel", "bias"), UNADJUSTED, ids=lambda v: repr(v)[:60])
def test_an_unadjusted_kernel_at_a_short_step_keeps_the_law_up_to_its_bias(
    kernel: Kernel[Any],
    bias: float,
    law: Any,  # noqa: ANN401
) -> None:
    start = law.draw(N, SIGMA, generator=_seeded())
    x = _run(kernel, law.score, start, n_steps=60)
    distance, mean, spread = _widened(law, bias)
    exact = law.draw(200_000, SIGMA, generator=_seeded(9))
    assert not torch.allclose(x, start, atol=0.5)
    assert _distance(x, law) < distance
    assert bool(((x.mean(0) - exact.mean(0)).abs() < mean).all())
    assert bool(((x.T.cov() - exact.T.cov()).abs() < spread).all())


def _adjusted(log_density_fn: LogDensityFn | None) -> list[Kernel[Any]]:
    """Kernels at a step far from zero."""
    return [
        Langevin(1.9, log_density_fn),
        Hamiltonian(1.9, 3, log_density_fn=log_density_fn),
        Hamiltonian(1.9, 2, 0.9, log_density_fn=log_density_fn),
        Hamiltonian(1.9, 1, 0.6, 1.0, log_density_fn),
        Hamiltonian(1.5, 2, 0.5, MASS, log_density_fn),
    ]


@pytest.mark.parametrize("which", range(5))
def test_an_adjusted_kernel_is_exact_at_a_step_at_which_the_unadjusted_one_is_not(
    which: int,
    law: Any,  # noqa: ANN401
) -> None:
    start = law.draw(N, SIGMA, generator=_seeded())
    adjusted, unadjusted = (_adjusted(f)[which] for f in (law.log_density, None))
    x = _run(adjusted, law.score, start, n_steps=40)
    distance, mean, spread = _widened(law, 0.0)
    exact = law.draw(200_000, SIGMA, generator=_seeded(9))
    assert _distance(x, law) < distance
    assert bool(((x.mean(0) - exact.mean(0)).abs() < mean).all())
    assert bool(((x.T.cov() - exact.T.cov()).abs() < spread).all())
    assert _distance(_run(unadjusted, law.score, start, n_steps=40), law) > 1.5 * distance


@pytest.mark.parametrize("which", range(5))
def test_the_energy_error_in_the_stationary_law_has_mean_exponential_one(
    which: int,
    law: Any,  # noqa: ANN401
) -> None:
    # E exp(-dH) = 1, by reversibility and the conservation of volume (Creutz 1988).
    kernel: Any = _adjusted(law.log_density)[which]
    sigma, generator = torch.tensor(SIGMA, dtype=torch.float64), _seeded(3)
    start = law.draw(N, SIGMA, generator=generator)
    state = kernel.init(law.score, start, sigma, generator=generator)
    _, info = kernel.step(law.score, state, sigma, generator=generator)
    weight = (-info.energy_error).exp()
    assert float(weight.std()) > 0.1
    assert float(weight.mean()) == pytest.approx(1, abs=5 * float(weight.std()) / math.sqrt(N))


EVERY: list[Any] = [kernel for kernel, _ in UNADJUSTED]


@pytest.mark.parametrize("which", range(len(EVERY) + 5))
def test_what_the_state_remembers_is_what_holds_at_its_position(
    which: int,
    two_components: Any,  # noqa: ANN401
) -> None:
    law = two_components
    kernel = (EVERY + _adjusted(law.log_density))[which]
    sigma, generator = torch.tensor(SIGMA, dtype=torch.float64), _seeded(3)
    x = law.draw(200, SIGMA, generator=generator)
    state = kernel.init(law.score, x, sigma, generator=generator)
    n_rejected = 0
    for _ in range(5):
        before = state.x.clone()
        state, info = kernel.step(law.score, state, sigma, generator=generator)
        assert torch.equal((state.x == before).all(1), info.rejected)
        n_rejected += int(info.rejected.sum())
        if getattr(state, "score", None) is not None:
            torch.testing.assert_close(state.score, law.score(state.x, sigma))
        if getattr(state, "log_density", None) is not None:
            torch.testing.assert_close(state.log_density, law.log_density(state.x, sigma))
    assert (n_rejected > 0) == (info.acceptance is not None)


def _walled(x: Tensor, sigma: Tensor) -> Tensor:
    """A unit Gaussian's score, and none to be had right of 1."""
    return torch.where(x.sum(1, keepdim=True) > 1, torch.nan, -x)


def _walled_log_density(x: Tensor, sigma: Tensor) -> Tensor:
    return torch.where(x.sum(1) > 1, torch.nan, -(x**2).sum(1) / 2)


def _ringing(x: Tensor, sigma: Tensor) -> Tensor:
    """Infinite density right of 1: an overflow, not a better place."""
    return torch.where(x.sum(1) > 1, torch.inf, -(x**2).sum(1) / 2)


@pytest.mark.parametrize(
    "kernel",
    [
        Hamiltonian(1.0, 1, 0.5),
        Hamiltonian(0.5, 3),
        UnderdampedLangevin(1.0),
        Hamiltonian(0.6, 2, 0.5, log_density_fn=_walled_log_density),
        Langevin(1.0, _walled_log_density),
    ],
    ids=_named,
)
def test_an_item_whose_proposal_is_not_finite_stays_and_the_others_go_on(kernel: Any) -> None:  # noqa: ANN401
    sigma, generator = torch.tensor(1.0, dtype=torch.float64), _seeded(3)
    x = torch.randn(500, 2, generator=generator, dtype=torch.float64) - 1
    x = x[x.sum(1) <= 1]
    state = kernel.init(_walled, x, sigma, generator=generator)
    stayed = torch.zeros(len(x), dtype=torch.bool)
    for _ in range(20):
        state, info = kernel.step(_walled, state, sigma, generator=generator)
        stayed |= info.rejected
        assert bool((state.x.sum(1) <= 1).all())
        assert all(bool(part.isfinite().all()) for part in state if part is not None)
    assert 0 < int(stayed.sum())
    assert not bool((state.x == x).all(1).any()), "whoever stays can leave at a later move"


@pytest.mark.parametrize(
    "kernel", [Langevin(1.0, _ringing), Hamiltonian(1.0, 2, log_density_fn=_ringing)], ids=_named
)
def test_an_infinite_density_is_not_a_place_to_be(kernel: Any) -> None:  # noqa: ANN401
    sigma, generator = torch.tensor(1.0, dtype=torch.float64), _seeded(3)
    x = torch.full((200, 2), 0.4, dtype=torch.float64)
    state = kernel.init(lambda x, s: -x, x, sigma, generator=generator)
    for _ in range(5):
        state, _ = kernel.step(lambda x, s: -x, state, sigma, generator=generator)
    assert bool((state.x.sum(1) <= 1).all())


@pytest.mark.parametrize(
    "kernel",
    [Langevin(1.0), UnderdampedLangevin(1.0), Hamiltonian(1.0, 1)]
    + [Langevin(1.0, lambda x, s: 0.0 * s.expand(len(x)))]
    + [Hamiltonian(1.0, 1, log_density_fn=lambda x, s: 0.0 * s.expand(len(x)))],
)
def test_a_position_too_large_for_its_dtype_is_not_taken(kernel: Any) -> None:  # noqa: ANN401
    # The largest half precision number is 65504; steps are of 10,000.
    x, sigma = torch.full((100, 1), 60_000.0, dtype=torch.float16), torch.tensor(1e4)

    def score_fn(x: Tensor, sigma: Tensor) -> Tensor:
        return torch.zeros_like(x)

    state = kernel.init(score_fn, x, sigma, generator=_seeded())
    state, info = kernel.step(score_fn, state, sigma, generator=_seeded(1))
    assert bool(state.x.isfinite().all())
    assert 0 < int(info.rejected.sum()) < 100


def test_an_unadjusted_langevin_move_that_is_not_finite_is_not_made() -> None:
    kernel, sigma = Langevin(1.0), torch.tensor(1.0)
    x = torch.tensor([[3.0, 0.0], [0.0, 0.0]])
    state = kernel.init(_walled, x, sigma, generator=_seeded())
    state, info = kernel.step(_walled, state, sigma, generator=_seeded())
    assert info.rejected is not None and info.rejected.tolist() == [True, False]
    assert torch.equal(state.x[0], x[0]) and not torch.equal(state.x[1], x[1])


@pytest.mark.parametrize("kernel", EVERY[:3] + _adjusted(lambda x, s: -(x**2).flatten(1).sum(1)))
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_one_sigma_an_item_is_each_item_at_its_own_sigma(kernel: Any, dtype: torch.dtype) -> None:  # noqa: ANN401
    # Ten alike at each sigma, so that the draws can be matched item by item.
    def score_fn(x: Tensor, sigma: Tensor) -> Tensor:
        return -x / 2

    sigmas = torch.tensor([0.1, 3.0])
    x = torch.randn(2, 2, generator=_seeded()).to(dtype)

    def moved(sigma: Tensor) -> Tensor:
        state = kernel.init(score_fn, x, sigma, generator=_seeded(1))
        return kernel.step(score_fn, state, sigma, generator=_seeded(2))[0].x

    together = moved(sigmas)
    assert together.dtype == dtype
    for i in range(2):
        torch.testing.assert_close(together[i], moved(sigmas[i])[i])


@pytest.mark.parametrize("kernel", EVERY + _adjusted(lambda x, s: -(x**2).sum(1)), ids=_named)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("returned", [torch.bfloat16, torch.float32, torch.float64])
def test_functions_see_the_dtype_of_the_state_and_may_return_another(
    kernel: Any,  # noqa: ANN401
    dtype: torch.dtype,
    returned: torch.dtype,
) -> None:
    asked = set()

    def score_fn(x: Tensor, sigma: Tensor) -> Tensor:
        asked.add(x.dtype)
        return -x.to(returned)

    x = torch.randn(4, 2, generator=_seeded()).to(dtype)
    state = kernel.init(score_fn, x, torch.tensor(1.0), generator=_seeded())
    for _ in range(2):
        state, _ = kernel.step(score_fn, state, torch.tensor(1.0), generator=_seeded())
        assert asked == {dtype} == {state.x.dtype}
        wide = torch.promote_types(dtype, torch.float32)
        for name in ("momentum", "score"):
            part = getattr(state, name, None)
            assert part is None or part.dtype == wide


@pytest.mark.parametrize("kernel", EVERY + _adjusted(lambda x, s: -(x**2).sum(1)), ids=_named)
def test_no_graph_is_kept_and_the_given_state_stays_as_it_is(kernel: Any) -> None:  # noqa: ANN401
    x = torch.randn(4, 2, generator=_seeded()).requires_grad_()
    sigma, asked = torch.tensor(1.0), []

    def score_fn(x: Tensor, sigma: Tensor) -> Tensor:
        asked.append(torch.is_grad_enabled())
        return -x

    state = kernel.init(score_fn, x, sigma, generator=_seeded())
    before = [None if part is None else part.detach().clone() for part in state]
    moved, _ = kernel.step(score_fn, state, sigma, generator=_seeded())
    assert not any(asked) and not moved.x.requires_grad
    for part, was in zip(state, before, strict=True):
        assert part is was is None or torch.equal(part, was)
