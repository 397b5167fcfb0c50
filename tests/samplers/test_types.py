"""The contract of every sampler, and the law that the other tests sample from."""

from __future__ import annotations

import math
import pickle

import pytest
import torch
from torch import Tensor

from samplers import (
    DDIM,
    Annealed,
    Explicit,
    Hamiltonian,
    Heun,
    Info,
    Karras,
    Langevin,
    LogDensityFn,
    Sampler,
    ScoreFn,
    UnderdampedLangevin,
)


def score_fn(x: Tensor, sigma: Tensor) -> Tensor:
    return -(x - 0.5) / (2 + sigma**2)


def log_density_fn(x: Tensor, sigma: Tensor) -> Tensor:
    d = math.prod(x.shape[1:])
    return -((x.float() - 0.5) ** 2).reshape(len(x), d).sum(1) / (2 + sigma**2) / 2


LEVELS = Karras(5, sigma_min=0.1, sigma_max=8.0)
SAMPLERS: list[Annealed] = [
    Annealed(LEVELS, DDIM()),
    Annealed(LEVELS, DDIM(eta=1.0)),
    Annealed(LEVELS, Heun()),
    Annealed(LEVELS, Heun(churn=0.2, s_noise=1.01)),
    Annealed(Explicit((3.0, 0.0)), DDIM(eta=0.5)),
]
KERNELS: list[Annealed] = [
    Annealed(LEVELS, None, Langevin(0.5), 2),
    Annealed(LEVELS, None, UnderdampedLangevin(0.5), 2),
    Annealed(LEVELS, None, Hamiltonian(0.5, 2, 0.5), 2),
    Annealed(LEVELS, DDIM(), Langevin(0.5)),
]
ADJUSTED: list[Annealed] = [
    Annealed(LEVELS, None, Langevin(1.5, log_density_fn), 2),
    Annealed(LEVELS, None, Hamiltonian(1.5, 2, 0.5, 1.0, log_density_fn), 2),
]
every_transport = pytest.mark.parametrize("sampler", SAMPLERS)
every_unadjusted = pytest.mark.parametrize("sampler", SAMPLERS + KERNELS)
every_sampler = pytest.mark.parametrize("sampler", SAMPLERS + KERNELS + ADJUSTED)


def _noise(shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1)).to(dtype)


def _run(sampler: Sampler, x: Tensor, seed: int = 2) -> Tensor:
    return sampler(score_fn, x, generator=torch.Generator().manual_seed(seed))


@every_sampler
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(3,), (2, 4), (2, 3, 8, 8), (0, 3, 8, 8)])
def test_shape_and_dtype_are_kept_at_every_level(
    sampler: Sampler, dtype: torch.dtype, shape: tuple[int, ...]
) -> None:
    seen: list[tuple[torch.Size, torch.dtype]] = []
    x = sampler(
        score_fn,
        _noise(shape, dtype),
        generator=torch.Generator().manual_seed(2),
        observe=lambda x, sigma, info: seen.append((x.shape, x.dtype)),
    )
    assert set(seen) == {(torch.Size(shape), dtype)} == {(x.shape, x.dtype)}


@every_unadjusted
def test_half_precision_follows_single_precision_to_its_rounding(sampler: Sampler) -> None:
    x = _noise((64, 4), torch.bfloat16)
    difference = _run(sampler, x).float() - _run(sampler, x.float())
    # Eight bits: 2^-9 of a state of at most 8 |z| < 32 at each of at most 5 levels (and 4 middles).
    assert float(difference.abs().max()) < 9 * 32 * 2**-9


@every_sampler
def test_the_same_generator_gives_the_same_samples(sampler: Sampler) -> None:
    x = _noise((4, 3))
    assert torch.equal(_run(sampler, x), _run(sampler, x))


@pytest.mark.parametrize("sampler", [SAMPLERS[1], SAMPLERS[3], *KERNELS, *ADJUSTED])
def test_another_generator_gives_other_samples(sampler: Sampler) -> None:
    x = _noise((4, 3))
    assert not torch.allclose(_run(sampler, x, seed=2), _run(sampler, x, seed=3))


@every_sampler
def test_the_global_random_state_is_neither_moved_nor_read(sampler: Sampler) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(10)
        before = torch.get_rng_state()
        first = _run(sampler, _noise((4, 3)))
        assert torch.equal(torch.get_rng_state(), before)
        torch.manual_seed(11)
        assert torch.equal(_run(sampler, _noise((4, 3))), first)


@every_sampler
def test_the_given_noise_is_left_as_it_is_and_no_graph_is_kept(sampler: Sampler) -> None:
    x = _noise((4, 3)).requires_grad_()
    before = x.detach().clone()
    samples = _run(sampler, x)
    assert torch.equal(x.detach(), before)
    assert x.grad is None
    assert not samples.requires_grad


@every_transport
def test_transports_leave_their_input_as_it_is(sampler: Annealed) -> None:
    x, sigma, sigma_next = _noise((4, 3)), torch.tensor(2.0), torch.tensor(1.0)
    before = (x.clone(), sigma.clone(), sigma_next.clone())
    generator = torch.Generator().manual_seed(2)
    assert sampler.transport is not None
    moved = sampler.transport.step(score_fn, x, sigma, sigma_next, generator=generator)
    assert all(torch.equal(a, b) for a, b in zip((x, sigma, sigma_next), before, strict=True))
    assert not torch.equal(moved, x)


@pytest.mark.parametrize("sampler", [SAMPLERS[0], SAMPLERS[2]])
def test_an_image_does_not_depend_on_its_batch_without_fresh_noise(sampler: Sampler) -> None:
    x = _noise((4, 3)).double()
    torch.testing.assert_close(_run(sampler, x)[:2], _run(sampler, x[:2]), rtol=0, atol=0)


@every_sampler
def test_samplers_are_values_that_survive_a_copy(sampler: Sampler) -> None:
    assert pickle.loads(pickle.dumps(sampler)) == sampler


def test_info_says_nothing_by_default() -> None:
    assert Info() == (None, None, None)


@pytest.mark.parametrize("sigma", [torch.tensor(0.7), torch.tensor([0.1, 0.7, 3.0])])
def test_the_mixtures_score_is_the_gradient_of_its_log_density(
    mixture_score: ScoreFn, mixture_log_density: LogDensityFn, sigma: Tensor
) -> None:
    generator = torch.Generator().manual_seed(4)
    x = torch.randn(3, 2, generator=generator, dtype=torch.float64).requires_grad_()
    (gradient,) = torch.autograd.grad(mixture_log_density(x, sigma).sum(), x)
    torch.testing.assert_close(mixture_score(x, sigma), gradient)
