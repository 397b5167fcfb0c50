"""A law with a known score at every noise level, and the oracle."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from samplers import LogDensityFn, ScoreFn, Transport


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


MIXTURE = Mixture(
    weights=torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64),
    means=torch.tensor([[-1.0, 0.5], [1.2, 0.8], [0.1, -1.5]], dtype=torch.float64),
    stds=torch.tensor([0.4, 0.6, 0.5], dtype=torch.float64),
)


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
