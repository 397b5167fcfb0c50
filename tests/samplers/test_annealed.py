from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from samplers import DDIM, Annealed, Explicit, Geometric, Heun, Info, Karras, ScoreFn, unit_noise

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
