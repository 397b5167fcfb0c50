"""A law with a known score at every noise level, and the oracle."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from samplers import Kernel, LogDensityFn, ScoreFn, Transport


@dataclass(frozen=True)
class Mixture:
    """Isotropic Gaussian components; (B, d) states, sigma () or (B,)."""

    weights: Tensor  # (K,)
    means: Tensor  # (K, d)
    stds: Tensor  # (K,)

    def _terms(self, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        variance = self.stds**2 + sigma.to(x).reshape(-1, 1) ** 2  # (1 or B, K)
        offset = self.means - x[:, None, :]  # (B, K, d)
        log_parts = (
            self.weights.log()
            - (offset**2).sum(-1) / (2 * variance)
            - x.shape[1] / 2 * variance.log()
        )
        return log_parts, offset, variance

    def log_density(self, x: Tensor, sigma: Tensor) -> Tensor:
        """log p_sigma(x) up to a constant, (B,)."""
        return self._terms(x, sigma)[0].logsumexp(-1)

    def score(self, x: Tensor, sigma: Tensor) -> Tensor:
        """grad log p_sigma(x), (B, d)."""
        log_parts, offset, variance = self._terms(x, sigma)
        return ((log_parts.softmax(-1) / variance)[..., None] * offset).sum(1)

    def draw(self, n: int, sigma: float, *, generator: torch.Generator) -> Tensor:
        """Exact samples of p_sigma, (n, d)."""
        chosen = self.weights.multinomial(n, replacement=True, generator=generator)
        z = torch.randn(n, self.means.shape[1], generator=generator, dtype=self.means.dtype)
        return self.means[chosen] + (self.stds[chosen, None] ** 2 + sigma**2).sqrt() * z

    def cdf(self, value: Tensor, direction: Tensor, sigma: float) -> Tensor:
        """P(direction'x <= value) for x ~ p_sigma; direction is a unit vector, (d,)."""
        std = (self.stds**2 + sigma**2).sqrt()
        return torch.special.ndtr((value[:, None] - self.means @ direction) / std) @ self.weights


@dataclass(frozen=True)
class Gaussian:
    """Any covariance; (B, d) states, sigma ()."""

    mean: Tensor  # (d,)
    covariance: Tensor  # (d, d)

    def at(self, sigma: float | Tensor) -> Tensor:
        """The covariance of p_sigma."""
        return self.covariance + sigma**2 * torch.eye(len(self.mean), dtype=self.mean.dtype)

    def score(self, x: Tensor, sigma: Tensor) -> Tensor:
        """grad log p_sigma(x), (B, d)."""
        return (self.mean - x) @ self.at(sigma).inverse()

    def log_density(self, x: Tensor, sigma: Tensor) -> Tensor:
        """log p_sigma(x) up to a constant, (B,)."""
        return ((x - self.mean) * self.score(x, sigma)).sum(1) / 2

    def draw(self, n: int, sigma: float, *, generator: torch.Generator) -> Tensor:
        """Exact samples of p_sigma, (n, d)."""
        z = torch.randn(n, len(self.mean), generator=generator, dtype=self.mean.dtype)
        return self.mean + z @ torch.linalg.cholesky(self.at(sigma)).T

    def cdf(self, value: Tensor, direction: Tensor, sigma: float) -> Tensor:
        """P(direction'x <= value) for x ~ p_sigma; direction is a unit vector, (d,)."""
        std = (direction @ self.at(sigma) @ direction).sqrt()
        return torch.special.ndtr((value - self.mean @ direction) / std)


MIXTURE = Mixture(
    weights=torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64),
    means=torch.tensor([[-1.0, 0.5], [1.2, 0.8], [0.1, -1.5]], dtype=torch.float64),
    stds=torch.tensor([0.4, 0.6, 0.5], dtype=torch.float64),
)


CORRELATED = Gaussian(
    mean=torch.tensor([0.5, -1.0], dtype=torch.float64),
    covariance=torch.tensor([[1.0, 0.6], [0.6, 0.5]], dtype=torch.float64),
)
TWO = Mixture(
    weights=torch.tensor([0.7, 0.3], dtype=torch.float64),
    means=torch.tensor([[-1.0, 0.5], [1.2, -0.3]], dtype=torch.float64),
    stds=torch.tensor([0.4, 0.6], dtype=torch.float64),
)


@pytest.fixture(scope="session", params=[CORRELATED, TWO], ids=["gaussian", "mixture"])
def law(request: pytest.FixtureRequest) -> Gaussian | Mixture:
    """A correlated Gaussian, and two unequal components, in the plane; float64."""
    return request.param


@pytest.fixture(scope="session")
def two_components() -> Mixture:
    """The second of them alone."""
    return TWO


@pytest.fixture(scope="session")
def mixture_score() -> ScoreFn:
    """The score of three unequal components in the plane, float64."""
    return MIXTURE.score


@pytest.fixture(scope="session")
def mixture_log_density() -> LogDensityFn:
    """Its log density."""
    return MIXTURE.log_density


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Thousands of operations on tiny tensors: waiting for threads costs forty times the work."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)


@pytest.fixture(scope="session")
def schedulers() -> ModuleType:
    """diffusers' schedulers, the oracle; it fails to import beside a broken torchvision."""
    try:
        diffusers = importlib.import_module("diffusers")
        assert diffusers.DDIMScheduler
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"diffusers cannot be imported here: {error}")
    return diffusers


class Law(NamedTuple):
    """The exact law of one step on N(0, variance + sigma^2): ``x' = gain x + std z``."""

    gain: float
    std: float


@pytest.fixture(scope="session")
def affine_law() -> Callable[[Transport, float, float, float], Law]:
    """Reads gain and std off a transport, without sampling error.

    On a centred Gaussian a step is linear in the state and in its one draw z. From 0 it gives
    ``std z`` and from 1, with the same z, ``gain + std z``.
    """

    def law(transport: Transport, variance: float, sigma: float, sigma_next: float) -> Law:
        def step(start: float) -> float:
            return transport.step(
                lambda x, s: -x / (variance + s**2),
                torch.full((1,), start, dtype=torch.float64),
                torch.tensor(sigma, dtype=torch.float64),
                torch.tensor(sigma_next, dtype=torch.float64),
                generator=torch.Generator().manual_seed(1),
            ).item()

        generator = torch.Generator().manual_seed(1)
        z = torch.randn(1, generator=generator, dtype=torch.float64).item()
        return Law(gain=step(1.0) - step(0.0), std=abs(step(0.0) / z))

    return law


@pytest.fixture(scope="session")
def stationary_law() -> Callable[[Kernel[Any], float, float], Tensor]:
    """The exact stationary covariance of an unadjusted kernel on N(0, variance + sigma^2).

    There a step is linear in its state y, (x) or (x, p), and in its one draw z: ``y' = A y + b z``.
    Read off without sampling error, they give S of ``S = A S A' + b b'``.
    """

    def law(kernel: Kernel[Any], variance: float, sigma: float) -> Tensor:
        level = torch.tensor(sigma, dtype=torch.float64)

        def score_fn(x: Tensor, s: Tensor) -> Tensor:
            return -x / (variance + s**2)

        def step(x: float, p: float) -> Tensor:
            generator = torch.Generator().manual_seed(1)
            at = torch.tensor([x], dtype=torch.float64)
            state = kernel.init(score_fn, at, level, generator=generator.clone_state())
            if hasattr(state, "momentum"):
                state = state._replace(momentum=torch.tensor([p], dtype=torch.float64))
            state, _ = kernel.step(score_fn, state, level, generator=generator)
            return torch.cat([state.x, state.momentum] if hasattr(state, "momentum") else [state.x])

        at_zero = step(0.0, 0.0)
        z = torch.randn(1, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        unit = torch.eye(2)[: len(at_zero)].tolist()
        a = torch.stack([step(*start) - at_zero for start in unit], 1)
        b = at_zero / z
        drive = torch.outer(b, b).flatten()
        eye = torch.eye(len(drive), dtype=torch.float64)
        return torch.linalg.solve(eye - torch.kron(a, a), drive).reshape(a.shape)

    return law
