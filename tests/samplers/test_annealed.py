from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from samplers import (
    DDIM,
    Annealed,
    Explicit,
    Geometric,
    Hamiltonian,
    Heun,
    Info,
    Karras,
    Langevin,
    ScoreFn,
    UnderdampedLangevin,
    denoised_from_score,
    unit_noise,
)

MEAN, VARIANCE = 0.5, 2.0


def _seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=_seeded(seed), dtype=torch.float64)


def gaussian_score(x: Tensor, sigma: Tensor) -> Tensor:
    return -(x - MEAN) / (VARIANCE + sigma**2)


class Position(NamedTuple):
    x: Tensor


@dataclass(frozen=True)
class OrnsteinUhlenbeck:
    """The exact kernel of a Gaussian: ``x' = m + r (x - m) + sqrt(1 - r^2) std z``."""

    memory: float = 0.0

    def init(
        self, score_fn: ScoreFn, x: Tensor, sigma: Tensor, *, generator: torch.Generator
    ) -> Position:
        return Position(x)

    def step(
        self, score_fn: ScoreFn, state: Position, sigma: Tensor, *, generator: torch.Generator
    ) -> tuple[Position, Info]:
        std = (VARIANCE + sigma**2).sqrt() * math.sqrt(1 - self.memory**2)
        x = MEAN + self.memory * (state.x - MEAN) + std * unit_noise(state.x, generator=generator)
        return Position(x), Info(acceptance=torch.ones(len(x)))

    def n_evaluations(self, n_steps: int) -> int:
        return 0


@dataclass(frozen=True)
class Stay:
    """A transport that does not move: wrong on purpose, unless a kernel repairs it."""

    def step(
        self,
        score_fn: ScoreFn,
        x: Tensor,
        sigma: Tensor,
        sigma_next: Tensor,
        *,
        generator: torch.Generator,
    ) -> Tensor:
        return x

    def n_evaluations(self, n_levels: int) -> int:
        return 0


class Seen:
    """An observer that keeps what it sees."""

    def __init__(self) -> None:
        self.x: list[Tensor] = []
        self.sigma: list[float] = []
        self.by_kernel: list[bool] = []

    def __call__(self, x: Tensor, sigma: Tensor, info: Info) -> None:
        self.x.append(x)
        self.sigma.append(sigma.item())
        self.by_kernel.append(info.acceptance is not None)


LADDER = Explicit((4.0, 2.0, 1.0, 0.0))


def test_unit_noise_is_scaled_by_the_first_level() -> None:
    z = _normal(4, 3)
    x = Annealed(LADDER, Stay())(gaussian_score, z, generator=_seeded())
    torch.testing.assert_close(x, 4.0 * z, rtol=0, atol=0)


def test_transport_alone_is_seen_once_at_each_next_level() -> None:
    seen = Seen()
    x = Annealed(LADDER, DDIM())(gaussian_score, _normal(4, 1), generator=_seeded(), observe=seen)
    assert seen.sigma == [2.0, 1.0, 0.0]
    assert seen.by_kernel == [False] * 3
    assert torch.equal(seen.x[-1], x)


def test_kernel_alone_moves_at_every_positive_level_and_then_denoises() -> None:
    seen = Seen()
    sampler = Annealed(LADDER, kernel=OrnsteinUhlenbeck(), n_kernel_steps=2)
    x = sampler(gaussian_score, _normal(4, 1), generator=_seeded(), observe=seen)
    assert seen.sigma == [4.0, 4.0, 2.0, 2.0, 1.0, 1.0, 0.0]
    assert seen.by_kernel == [True] * 6 + [False]
    last = seen.x[-2]
    torch.testing.assert_close(x, last + 1.0**2 * gaussian_score(last, torch.tensor(1.0)))


def test_kernel_and_transport_alternate_down_the_ladder() -> None:
    seen = Seen()
    sampler = Annealed(LADDER, DDIM(), OrnsteinUhlenbeck())
    sampler(gaussian_score, _normal(4, 1), generator=_seeded(), observe=seen)
    assert seen.sigma == [4.0, 2.0, 2.0, 1.0, 1.0, 0.0]
    assert seen.by_kernel == [True, False] * 3


def test_an_exact_kernel_gives_the_exact_law_at_every_level() -> None:
    n, seen = 50_000, Seen()
    sampler = Annealed(LADDER, Stay(), OrnsteinUhlenbeck())
    sampler(gaussian_score, _normal(n, 1), generator=_seeded(), observe=seen)
    for x, sigma, by_kernel in zip(seen.x, seen.sigma, seen.by_kernel, strict=True):
        if by_kernel:
            variance = VARIANCE + sigma**2
            # Five standard errors of a mean and of a variance.
            assert float(x.mean()) == pytest.approx(MEAN, abs=5 * math.sqrt(variance / n))
            assert float(x.var()) == pytest.approx(variance, rel=5 * math.sqrt(2 / n))


@pytest.mark.parametrize("memory", [0.5, 0.9])
def test_the_kernel_forgets_a_wrong_start_at_its_own_rate(memory: float) -> None:
    # From x far away, each of k steps keeps `memory` of the offset.
    n, k, start = 20_000, 3, 100.0
    seen = Seen()
    sampler = Annealed(Explicit((1.0, 0.0)), kernel=OrnsteinUhlenbeck(memory), n_kernel_steps=k)
    x = torch.full((n, 1), start, dtype=torch.float64)
    sampler(gaussian_score, x, generator=_seeded(), observe=seen)
    expected = MEAN + memory**k * (start - MEAN)
    std = math.sqrt((VARIANCE + 1) * (1 - memory ** (2 * k)))
    assert float(seen.x[k - 1].mean()) == pytest.approx(expected, abs=5 * std / math.sqrt(n))


def test_the_final_denoising_has_the_closed_form_law() -> None:
    n = 50_000
    sampler = Annealed(LADDER, kernel=OrnsteinUhlenbeck())
    x = sampler(gaussian_score, _normal(n, 1), generator=_seeded())
    # D = m + v / (v + s^2) (x - m) shrinks the variance v + s^2 to v^2 / (v + s^2); s = 1.
    variance = VARIANCE**2 / (VARIANCE + 1)
    assert float(x.mean()) == pytest.approx(MEAN, abs=5 * math.sqrt(variance / n))
    assert float(x.var()) == pytest.approx(variance, rel=5 * math.sqrt(2 / n))


def test_ancestral_samples_have_the_moments_of_the_closed_form_recursion() -> None:
    n, levels = 50_000, Geometric(6, sigma_min=0.1, sigma_max=20.0)
    x = Annealed(levels, DDIM(1.0))(gaussian_score, _normal(n, 1), generator=_seeded(2))
    sigmas = levels().tolist()
    mean, variance = 0.0, sigmas[0] ** 2
    for s, s_next in zip(sigmas, sigmas[1:], strict=False):
        r = s_next**2 / s**2
        gain = r + (1 - r) * VARIANCE / (VARIANCE + s**2)
        mean = MEAN + gain * (mean - MEAN)
        variance = gain**2 * variance + s_next**2 * (1 - r)
    assert float(x.mean()) == pytest.approx(mean, abs=5 * math.sqrt(variance / n))
    assert float(x.var()) == pytest.approx(variance, rel=5 * math.sqrt(2 / n))


def test_score_functions_get_a_scalar_sigma_in_at_least_float32_and_no_gradients() -> None:
    asked = []

    def score_fn(x: Tensor, sigma: Tensor) -> Tensor:
        asked.append((sigma.shape, sigma.dtype, torch.is_grad_enabled()))
        return gaussian_score(x, sigma)

    x = torch.randn(2, 3, generator=_seeded()).bfloat16()
    Annealed(LADDER, Heun(0.1), OrnsteinUhlenbeck())(score_fn, x, generator=_seeded())
    assert set(asked) == {(torch.Size([]), torch.float32, False)}


def test_what_cannot_run_is_refused() -> None:
    with pytest.raises(ValueError, match="needs a transport, a kernel or both, got neither"):
        Annealed(LADDER)
    with pytest.raises(ValueError, match="n_kernel_steps must be at least 1, got 0"):
        Annealed(LADDER, kernel=OrnsteinUhlenbeck(), n_kernel_steps=0)
    with pytest.raises(ValueError, match="n_kernel_steps = 2 needs a kernel, got none"):
        Annealed(LADDER, DDIM(), n_kernel_steps=2)
    with pytest.raises(ValueError, match="denoise = False needs a kernel alone"):
        Annealed(LADDER, DDIM(), OrnsteinUhlenbeck(), denoise=False)


def test_a_ladder_of_ones_own_is_checked() -> None:
    with pytest.raises(ValueError, match="levels must end at 0, got 1.0"):
        Annealed(lambda: torch.tensor([3.0, 1.0], dtype=torch.float64), DDIM())


@pytest.mark.parametrize("x", [torch.zeros(2, 3, dtype=torch.int64), torch.tensor(1.0)])
def test_noise_of_the_wrong_kind_is_refused(x: Tensor) -> None:
    with pytest.raises(ValueError, match=r"x must be floating point of shape \(B, \*S\), got"):
        Annealed(LADDER, DDIM())(gaussian_score, x, generator=_seeded())


def test_samplers_compare_and_print_their_numbers() -> None:
    sampler = Annealed(Karras(4), DDIM(0.5))
    assert sampler == Annealed(Karras(4), DDIM(0.5)) != Annealed(Karras(4), DDIM(0.6))
    assert "Karras(n_levels=4" in repr(sampler)
    assert "DDIM(eta=0.5)" in repr(sampler)


def test_without_the_last_denoising_a_sample_of_the_lowest_level_is_given() -> None:
    n, seen = 50_000, Seen()
    sampler = Annealed(LADDER, kernel=OrnsteinUhlenbeck(), denoise=False)
    x = sampler(gaussian_score, _normal(n, 1), generator=_seeded(), observe=seen)
    assert seen.sigma == [4.0, 2.0, 1.0]
    assert torch.equal(seen.x[-1], x)
    assert float(x.var()) == pytest.approx(VARIANCE + 1, rel=5 * math.sqrt(2 / n))
    denoised = Annealed(LADDER, kernel=OrnsteinUhlenbeck())
    expected = denoised_from_score(gaussian_score(x, torch.tensor(1.0)), x, torch.tensor(1.0))
    assert torch.equal(denoised(gaussian_score, _normal(n, 1), generator=_seeded()), expected)


KERNELS: list[Any] = [
    Langevin(0.8),
    UnderdampedLangevin(0.8),
    Hamiltonian(0.8, 2, 0.7),
    Langevin(0.8, lambda x, s: -((x - MEAN) ** 2).sum(1) / (VARIANCE + s**2) / 2),
    Hamiltonian(0.8, 2, 0.7, 1.0, lambda x, s: -((x - MEAN) ** 2).sum(1) / (VARIANCE + s**2) / 2),
]


@pytest.mark.parametrize("transport", [None, DDIM(1.0)], ids=repr)
@pytest.mark.parametrize("kernel", KERNELS, ids=range(5))
def test_only_the_position_passes_from_level_to_level(
    kernel: Any,  # noqa: ANN401
    transport: DDIM | None,
) -> None:
    sampler = Annealed(LADDER, transport, kernel, n_kernel_steps=2)
    found = sampler(gaussian_score, _normal(6, 2), generator=_seeded())
    generator, levels, momenta = _seeded(), LADDER(), []
    x = levels[0] * _normal(6, 2)
    for sigma, sigma_next in zip(levels[:-1], levels[1:], strict=True):
        state = kernel.init(gaussian_score, x, sigma, generator=generator)
        momenta.append(getattr(state, "momentum", None))
        for _ in range(2):
            state, _ = kernel.step(gaussian_score, state, sigma, generator=generator)
        x = state.x
        if transport is not None:
            x = transport.step(gaussian_score, x, sigma, sigma_next, generator=generator)
    if transport is None:
        x = denoised_from_score(gaussian_score(x, levels[-2]), x, levels[-2])
    torch.testing.assert_close(found, x, rtol=1e-14, atol=1e-14)
    if momenta[0] is not None:
        assert not torch.equal(momenta[0], momenta[1])


@pytest.mark.parametrize("kernel", KERNELS, ids=range(5))
def test_the_observer_hears_what_the_kernel_says(kernel: Any) -> None:  # noqa: ANN401
    infos: list[Info] = []
    Annealed(LADDER, kernel=kernel, n_kernel_steps=2)(
        gaussian_score,
        _normal(6, 2),
        generator=_seeded(),
        observe=lambda x, sigma, info: infos.append(info),
    )
    assert infos[-1] == Info()
    assert len(infos) == 7
    for info in infos[:-1]:
        assert info.rejected is not None and info.rejected.shape == (6,)
        adjusted = kernel in KERNELS[3:]
        assert (info.acceptance is not None) == (info.energy_error is not None) == adjusted


@pytest.mark.parametrize(
    "sampler",
    [Annealed(LADDER, t, k, n) for t in (None, DDIM(), Heun(0.1)) for k in KERNELS for n in (1, 3)]
    + [Annealed(LADDER, kernel=k, denoise=False) for k in KERNELS]
    + [Annealed(Karras(n), t) for n in (1, 6) for t in (DDIM(0.5), Heun(), Heun(0.2))],
    ids=lambda s: f"{type(s.transport).__name__}-{type(s.kernel).__name__}-{s.n_kernel_steps}",
)
def test_the_evaluations_that_are_stated_are_those_that_run(sampler: Annealed) -> None:
    asked: list[float] = []

    def score_fn(x: Tensor, sigma: Tensor) -> Tensor:
        asked.append(float(sigma))
        return gaussian_score(x, sigma)

    sampler(score_fn, _normal(3, 2), generator=_seeded())
    assert sampler.n_evaluations == len(asked)
    sampler.refine(score_fn, _normal(3, 2), generator=_seeded())
    assert 2 * sampler.n_evaluations == len(asked)


def test_annealed_hamiltonian_sampling_recovers_the_weights_and_moments_of_a_mixture(
    two_components: Any,  # noqa: ANN401
) -> None:
    n, law = 8_000, two_components
    levels = Geometric(14, sigma_min=0.05, sigma_max=12.0)
    kernel = Hamiltonian(0.9, 4, 0.3, log_density_fn=law.log_density)
    x = Annealed(levels, None, kernel, 8)(law.score, _normal(n, 2), generator=_seeded())
    exact = law.draw(400_000, 0.0, generator=_seeded(1))
    covariance = exact.T.cov()
    # Five standard errors, with those of the reference.
    wide = 5 * math.sqrt(1 / n + 1 / 400_000)
    assert bool(((x.mean(0) - exact.mean(0)).abs() < wide * covariance.diag().sqrt()).all())
    fourth = torch.einsum("ni,nj->ij", *2 * [(exact - exact.mean(0)) ** 2]) / len(exact)
    assert bool(((x.T.cov() - covariance).abs() < wide * (fourth - covariance**2).sqrt()).all())

    def share(x: Tensor) -> float:
        return float(
            ((x - law.means[0]).norm(dim=1) < (x - law.means[1]).norm(dim=1)).double().mean()
        )

    p = share(exact)
    assert share(x) == pytest.approx(p, abs=wide * math.sqrt(p * (1 - p)))


def test_exact_proposals_are_refined_to_the_exact_law(two_components: Any) -> None:  # noqa: ANN401
    n, law, seen = 20_000, two_components, Seen()
    sampler = Annealed(Explicit((0.5, 0.0)), kernel=Langevin(1.0, law.log_density))
    start = law.draw(n, 0.0, generator=_seeded(1))
    sampler.refine(law.score, start, generator=_seeded(), observe=seen)
    exact = law.draw(400_000, 0.5, generator=_seeded(2))
    wide = 5 * math.sqrt(1 / n + 1 / 400_000)
    covariance = exact.T.cov()
    fourth = torch.einsum("ni,nj->ij", *2 * [(exact - exact.mean(0)) ** 2]) / len(exact)
    x = seen.x[0]
    assert bool(((x.mean(0) - exact.mean(0)).abs() < wide * covariance.diag().sqrt()).all())
    assert bool(((x.T.cov() - covariance).abs() < wide * (fourth - covariance**2).sqrt()).all())


def test_refining_adds_the_noise_of_the_first_level_once() -> None:
    proposals = 3 + _normal(6, 2)
    sampler = Annealed(LADDER, Stay())
    x = sampler.refine(gaussian_score, proposals, generator=_seeded(5))
    torch.testing.assert_close(x, proposals + 4.0 * _normal(6, 2, seed=5), rtol=0, atol=1e-14)


@pytest.mark.parametrize(
    "sampler", [Annealed(LADDER, DDIM(1.0)), Annealed(LADDER, None, KERNELS[2])]
)
def test_refining_nothing_is_sampling_from_noise(sampler: Annealed) -> None:
    generator = _seeded(5)
    z = torch.randn(6, 2, generator=generator, dtype=torch.float64)
    from_noise = sampler(gaussian_score, z, generator=generator)
    refined = sampler.refine(gaussian_score, torch.zeros_like(z), generator=_seeded(5))
    assert torch.equal(refined, from_noise)


def test_a_kernel_that_forgets_makes_good_proposals_of_bad_ones() -> None:
    n, bad = 20_000, 2 + 0.1 * _normal(20_000, 1)
    sampler = Annealed(Explicit((1.0, 0.0)), None, Hamiltonian(0.5, 5), 30, denoise=False)
    x = sampler.refine(gaussian_score, bad, generator=_seeded())
    # Bias of the unadjusted variance at h^2 k = 0.25 / 3.
    variance = (VARIANCE + 1) / (1 - 0.25 / 3 / 4)
    assert float(x.mean()) == pytest.approx(MEAN, abs=5 * math.sqrt(variance / n))
    assert float(x.var()) == pytest.approx(variance, rel=5 * math.sqrt(2 / n))


def test_proposals_stay_as_they_are_and_keep_their_dtype() -> None:
    proposals = torch.randn(3, 2, generator=_seeded()).bfloat16().requires_grad_()
    before = proposals.detach().clone()
    x = Annealed(LADDER, None, KERNELS[2]).refine(gaussian_score, proposals, generator=_seeded())
    assert torch.equal(proposals.detach(), before)
    assert x.dtype == torch.bfloat16 and not x.requires_grad


def test_proposals_of_the_wrong_kind_are_refused() -> None:
    with pytest.raises(ValueError, match="x must be floating point of shape"):
        Annealed(LADDER, DDIM()).refine(
            gaussian_score, torch.zeros(2, 3, dtype=torch.int64), generator=_seeded()
        )


class Forgetful(Hamiltonian):
    """The same kernel, which does not tell what it knows."""

    keeps_score = False  # type: ignore[assignment]


@pytest.mark.parametrize("transport", [None, DDIM(), DDIM(0.5), Heun(), Heun(0.1)])
def test_a_score_that_the_kernel_knows_is_not_asked_for_again_and_changes_nothing(
    transport: DDIM | Heun | None,
) -> None:
    def run(kernel: Hamiltonian) -> tuple[Tensor, int]:
        sampler = Annealed(LADDER, transport, kernel, 2)
        x = sampler(gaussian_score, _normal(3, 2), generator=_seeded())
        return x, sampler.n_evaluations

    (one, fewer), (other, more) = run(Hamiltonian(0.4, 2)), run(Forgetful(0.4, 2))
    assert torch.equal(one, other)
    spared = {Heun(0.1): 0, None: 1}.get(transport, 3)  # churn moves before it asks
    assert more - fewer == spared
