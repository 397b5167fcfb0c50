"""Noise that comes back and tails that are cut: of kinds that the mutation table does not hold."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from dpgen.auditing import long_run
from dpgen.auditing.games.canaries import CanaryStatistic
from dpgen.auditing.long_run import of_a_run
from dpgen.privacy.mechanisms.declared import NoisySGD, NoisySum
from dpgen.privacy.mechanisms.noise import KeyedNoise

pytestmark = pytest.mark.usefixtures("one_thread", "short_audits")

STEPS = NoisySGD(0.2, 4, 1.3, 1000, clip_norm=0.7)
RELEASE = NoisySum(CanaryStatistic(3.0, 5), 1.7)
draw = KeyedNoise.add


def bare(shape: Any, seed: str) -> Tensor:  # noqa: ANN401
    """Standard normals of a name, the same for every sum and question."""
    source = KeyedNoise(bytes(32), "")
    return draw(source, torch.zeros(shape, dtype=torch.float64), 1.0, release=0, name=seed)


def changed(normals: Callable[[Any, int, str], Tensor]) -> Callable[..., Tensor]:
    def add(source: KeyedNoise, total: Tensor, std: float, *, release: int, name: str) -> Tensor:
        own = f"{source._key.hex()} {name}"
        return total.double() + std * normals(total.shape, release, own).reshape(total.shape)

    return add


@pytest.mark.parametrize("mechanism", [STEPS, RELEASE], ids=["steps", "release"])
def test_the_noise_of_production_passes(mechanism: NoisySGD | NoisySum) -> None:
    found = long_run.long_run(mechanism)
    assert found.passed, found.values


def test_noise_that_is_drawn_anew_for_every_name_passes_in_this_way_of_planting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        KeyedNoise, "add", changed(lambda shape, t, own: bare(shape, f"{t} {own}"))
    )
    assert long_run.long_run(STEPS).passed


@pytest.mark.parametrize(
    ("normals", "seen"),
    [
        (lambda s, t, own: bare(s, f"{t % 4001} {own}"), "two vectors of noise"),
        (lambda s, t, own: bare(s, f"{t ^ 1 if t % 2 else t} {own}"), "two vectors of noise"),
        (lambda s, t, own: 0.6 * bare(s, own) + 0.8 * bare(s, f"{t} {own}"),
         "two vectors of noise"),
        (lambda s, t, own: 0.1 * bare(s, own) + 0.995 * bare(s, f"{t} {own}"),
         "sum of all releases"),
        (lambda s, t, own: 0.8 * bare(s, f"{t} {own}") - 0.6 * bare(s, f"{t - 1} {own}"),
         "two vectors of noise"),
        (lambda s, t, own: bare(s, f"{t} {own[-3:]}"), "the same noise to the last bit"),
        (lambda s, t, own: bare(10_007, f"{t} {own}").repeat(40)[: s.numel()],
         "noise within a tensor"),
        (lambda s, t, own: bare(s.numel() + 33, f"{t}")[len(own) % 33 :][: s.numel()],
         "noise of two tensors or runs"),
        (lambda s, t, own: bare(s, f"{t} {own}").clamp(-3.9, 3.9), "tails of the noise"),
        (lambda s, t, own: bare(s, f"{t} {own}").sign() * bare(s, f"{t} {own}").abs() ** 1.1,
         "tails of the noise"),
    ],
    ids=["a period of 4001", "pairs of steps", "mixed with some that is fresh", "a tenth of it",
         "in steps", "two runs", "tiles of 10,007", "one stream for all tensors", "clamped",
         "longer tails"],
)  # fmt: skip
def test_noise_that_comes_back_is_not_chance(
    normals: Callable[[Any, int, str], Tensor], seen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(KeyedNoise, "add", changed(normals))
    assert seen in long_run.long_run(STEPS).accused


def test_noise_that_two_runs_of_a_release_share_is_not_chance(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("dpgen.auditing.overheard.new_key", lambda: bytes(32))
    assert not long_run.long_run(RELEASE).passed


@pytest.mark.parametrize("period", [1, 63, 64, 65, 1000, 4095, 4096])
def test_every_period_up_to_the_square_of_the_stride_is_the_difference_of_two_releases(
    period: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(long_run, "STRIDE", 64)
    asked: list[int] = []

    def overhear(mechanism: Any, source: Any, shapes: Any, releases: Any) -> Any:  # noqa: ANN401
        asked.extend(releases)
        return {name: np.zeros((len(releases), 256)) for name in shapes}

    monkeypatch.setattr(long_run, "overhear", overhear)
    long_run._vectors(STEPS)
    assert any(release + period in set(asked) for release in asked)


def noise_of_a_run(seed: int = 0) -> dict[Any, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = {"weight": (16, 1, 3, 3), "wide": (64, 300), "bias": (16,), "one": (1,)}
    return {
        (plan, release, name): torch.randn(shape, generator=generator, dtype=torch.float64)
        for plan in ("a", "b")
        for release in range(2)
        for name, shape in shapes.items()
    }


def test_a_run_in_which_a_few_words_come_back_anywhere_is_not_chance() -> None:
    assert of_a_run(noise_of_a_run()).passed
    for start, there in ((0, 5), (7, 3000)):
        noise = noise_of_a_run()
        wide = noise["a", 1, "wide"].reshape(-1)
        # Opposed, and with the rounding of a sum that was taken away again.
        wide[there : there + 8] = -noise["b", 0, "weight"].reshape(-1)[start : start + 8] + 1e-14
        assert of_a_run(noise).accused == ("two words in a row",)


def test_a_run_in_which_a_layer_is_scaled_noise_of_another_stage_is_not_chance() -> None:
    noise = noise_of_a_run()
    noise["b", 1, "weight"] = 0.7 * noise["a", 0, "weight"]
    assert of_a_run(noise).accused == ("two vectors of noise",)
    noise = noise_of_a_run()
    noise["b", 0, "wide"] = 0.7 * noise["a", 0, "wide"].reshape(-1).roll(1234).reshape(64, 300)
    assert of_a_run(noise).accused == ("noise within a tensor or of two",)
