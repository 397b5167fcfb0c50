from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from dpgen.auditing.randomness import _dispersion, randomness
from dpgen.privacy.mechanisms.declared import NoisySGD, NoisySum
from dpgen.privacy.mechanisms.noise import KeyedNoise
from dpgen.privacy.mechanisms.noisy_step import NoisyStep
from dpgen.stages.moments import ClassMeans

pytestmark = pytest.mark.usefixtures("one_thread")

MECHANISM = NoisySGD(0.2, 4, 1.3, 1000, clip_norm=0.7)
RELEASE = NoisySum(ClassMeans((1, 8, 8), 3, 0.0, 8.0, 1.0), 1.7)
add, coins = KeyedNoise.add, KeyedNoise.coins


@pytest.mark.parametrize("rate", [0.2, 0.01, 1.0])
def test_the_noise_and_the_coins_of_production_pass(rate: float) -> None:
    found = randomness(NoisySGD(rate, 4, 1.3, 1000, clip_norm=0.7))
    assert found.passed, (found.worst, found.scores, found.distinct)


def test_the_noise_of_a_release_passes_and_has_no_coins() -> None:
    found = randomness(RELEASE)
    assert found.passed, (found.worst, found.scores, found.distinct)
    assert not any("coin" in name for name in found.scores)


def test_a_key_that_two_runs_share_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dpgen.auditing.overheard.new_key", lambda: bytes(32))
    found = randomness(RELEASE)
    assert abs(found.scores["noise of two releases"]) > 6


def test_a_dispersion_of_fair_coins_is_standard_normal() -> None:
    rng = np.random.default_rng(0)
    n, q = 50, 0.3
    sums = rng.binomial(n, q, (4000, 200)) - n * q
    z = np.array([_dispersion(row, n, q) for row in sums])
    assert abs(z.mean()) < 5 / math.sqrt(len(z))
    assert abs(z.var() - 1) < 0.15


def _less(source: KeyedNoise, total: Tensor, std: float, *, release: int, name: str) -> Tensor:
    return add(source, total, 0.99 * std, release=release, name=name)


def _again(source: KeyedNoise, total: Tensor, std: float, *, release: int, name: str) -> Tensor:
    return add(source, total, std, release=0, name=name)


def _for_all(source: KeyedNoise, total: Tensor, std: float, *, release: int, name: str) -> Tensor:
    return add(source, total, std, release=release, name="")


def _repeated(source: KeyedNoise, total: Tensor, std: float, *, release: int, name: str) -> Tensor:
    flat = add(source, total, std, release=release, name=name).reshape(-1)
    half = len(flat) // 2
    flat[half : 2 * half] = flat[:half]
    return flat.reshape(total.shape)


def _coarse(source: KeyedNoise, total: Tensor, std: float, *, release: int, name: str) -> Tensor:
    """As if it were drawn in half precision."""
    return add(source, total, std, release=release, name=name).half().double()


def _shifted(source: KeyedNoise, total: Tensor, std: float, *, release: int, name: str) -> Tensor:
    return add(source, total, std, release=release, name=name) + 0.01 * std


def _uniform(source: KeyedNoise, total: Tensor, std: float, *, release: int, name: str) -> Tensor:
    """Of the right mean and standard deviation."""
    normal = add(source, 0 * total.double(), 1.0, release=release, name=name)
    return total + std * math.sqrt(12) * (torch.special.ndtr(normal) - 0.5)


@pytest.mark.parametrize(
    ("wrong", "seen"),
    [
        (_less, "standard deviation of the noise"),
        (_again, "noise of two releases"),
        (_for_all, "noise of two tensors"),
        (_repeated, "noise within a tensor"),
        (_shifted, "mean of the noise"),
        (_uniform, "shape of the noise"),
    ],
)
@pytest.mark.parametrize("mechanism", [MECHANISM, RELEASE], ids=["steps", "release"])
def test_noise_that_is_wrong_is_caught(
    wrong: Callable[..., Tensor],
    seen: str,
    mechanism: NoisySGD | NoisySum,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if wrong is _again and mechanism is RELEASE:
        pytest.skip("releases of a sum are of different runs")
    monkeypatch.setattr(KeyedNoise, "add", wrong)
    found = randomness(mechanism)
    assert not found.passed and abs(found.scores[seen]) > 6


def test_noise_of_half_precision_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(KeyedNoise, "add", _coarse)
    found = randomness(MECHANISM)
    assert not found.passed and found.distinct < 0.5


def _shuffled(source: KeyedNoise, n: int, rate: float, *, release: int) -> np.ndarray:
    """A batch of fixed size."""
    order = np.random.default_rng(release).permutation(n)
    return np.sort(order[: round(rate * n)])


def _once(source: KeyedNoise, n: int, rate: float, *, release: int) -> np.ndarray:
    return coins(source, n, rate, release=0)


def _epochs(source: KeyedNoise, n: int, rate: float, *, release: int) -> np.ndarray:
    """Every record once in 1 / rate steps."""
    n_steps = round(1 / rate)
    order = np.random.default_rng(release // n_steps).permutation(n)
    return np.sort(np.array_split(order, n_steps)[release % n_steps])


def _often(source: KeyedNoise, n: int, rate: float, *, release: int) -> np.ndarray:
    return coins(source, n, 1.1 * rate, release=release)


def _some_never(source: KeyedNoise, n: int, rate: float, *, release: int) -> np.ndarray:
    """Twice the rate for one half of the records."""
    chosen = coins(source, n, 2 * rate, release=release)
    return chosen[chosen < n // 2]


@pytest.mark.parametrize(
    ("wrong", "seen"),
    [
        (_shuffled, "variance of batch sizes"),
        (_once, "coins 1 steps apart"),
        (_epochs, "coins 1 steps apart"),
        (_often, "rate of the coins"),
        (_some_never, "variance of a record's coins"),
    ],
)
def test_coins_that_are_wrong_are_caught(
    wrong: Callable[..., Any], seen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(KeyedNoise, "coins", wrong)
    found = randomness(MECHANISM)
    assert not found.passed and abs(found.scores[seen]) > 6


def test_a_record_left_out_of_a_batch_of_all_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(KeyedNoise, "coins", lambda s, n, rate, release: np.arange(n - 1))
    assert not randomness(NoisySGD(1.0, 4, 1.3, 1000)).passed


def test_a_micro_batch_that_is_left_out_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """As loaders do that drop the last one."""
    batches = NoisyStep._batches

    def whole_ones(step: Any, noise: Any) -> Any:  # noqa: ANN401
        n_whole = len(step._slots) // step._micro_batch
        step._slots = step._slots[: n_whole * step._micro_batch]
        return batches(step, noise)

    monkeypatch.setattr(NoisyStep, "_batches", whole_ones)
    found = randomness(NoisySGD(0.9, 4, 1.3, 1000))
    assert found.worst == "records that are read" and not found.passed
