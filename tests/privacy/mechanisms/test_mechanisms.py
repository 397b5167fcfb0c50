from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from dpgen.privacy.accounting.events import leaves
from dpgen.privacy.mechanisms.contributions import Block, Records
from dpgen.privacy.mechanisms.declared import NoisySGD, NoisySum
from dpgen.privacy.mechanisms.draws import Draws
from dpgen.privacy.mechanisms.noise import KeyedNoise, NoiseSource
from dpgen.privacy.mechanisms.noisy_step import NoisyStep

Kit = Any  # what conftest.py shares

CPU = torch.device("cpu")
C = 0.7
HUGE, TINY = 3e38, 1e-30
NEIGHBOURS = {
    "aligned": ([1.0, 0.0, 0.0], 0),
    "opposed to the sum": ([-5.0, -5.0, -5.0], 0),
    "huge": ([HUGE, -HUGE, HUGE], 1),
    "large": ([1e15, 1e15, -1e15], 1),
    "infinite": ([math.inf, 0.0, 0.0], 0),
    "both infinities": ([math.inf, -math.inf, 1.0], 1),
    "not a number": ([math.nan, 1.0, 1.0], 0),
    "tiny": ([TINY, TINY, -TINY], 1),
    "denormal": ([1e-44, 0.0, 0.0], 1),
    "zero": ([0.0, 0.0, 0.0], 0),
    "duplicate": ([0.3, -0.2, 0.9], 1),
    "label too large": ([1.0, 2.0, 3.0], 7),
    "label below zero": ([1.0, 2.0, 3.0], -1),
}
BASE = [[0.3, -0.2, 0.9], [2.0, 2.0, 2.0], [-0.01, 0.02, 0.0], [4.0, -1.0, 0.5], [1.0, 1.0, 1.0]]
LABELS = [1, 0, 1, 0, 1]


def sgd(rate: float = 1.0, n_steps: int = 1, multiplier: float = 2.0) -> NoisySGD:
    return NoisySGD(rate, n_steps, multiplier, n_records=10, clip_norm=C)


def first_step(
    mechanism: NoisySGD, records: Records, noise: NoiseSource, micro_batch: int = 4
) -> NoisyStep:
    return next(iter(mechanism.steps(records, noise, start=0, micro_batch=micro_batch, device=CPU)))


def sgd_sum(kit: Kit, records: Records, micro_batch: int = 4) -> Tensor:  # noqa: ANN401
    """The pre-noise sum of one step on all records."""
    noise = kit.Silent()
    step = first_step(sgd(), records, noise, micro_batch)
    step.gradient(kit.Linear(), kit.parameters())
    return noise.sum()


def sum_sum(kit: Kit, records: Records) -> Tensor:  # noqa: ANN401
    noise = kit.Silent()
    NoisySum(kit.Echo(bound=C), 2.0).release(records, noise, micro_batch=4)
    return noise.sum()


PATHS = {"sgd": sgd_sum, "sum": sum_sum}


@pytest.mark.parametrize("path", list(PATHS))
@pytest.mark.parametrize("base", ["empty", "full"])
@pytest.mark.parametrize("name", list(NEIGHBOURS))
def test_adding_a_record_moves_the_sum_by_at_most_the_bound_and_says_nothing(
    path: str, base: str, name: str, kit: Kit, capfd: pytest.CaptureFixture[str]
) -> None:
    vectors, labels = (BASE, LABELS) if base == "full" else ([], [])
    vector, label = NEIGHBOURS[name]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        before = PATHS[path](kit, kit.rows(vectors, labels))
        after = PATHS[path](kit, kit.rows([*vectors, vector], [*labels, label]))
        first = PATHS[path](kit, kit.rows([vector, *vectors], [label, *labels]))
    moved = float((after - before).norm())
    assert moved <= C
    torch.testing.assert_close(first, after, rtol=0, atol=1e-6)
    if name in ("aligned", "opposed to the sum", "large", "duplicate") or (
        name == "huge" and path == "sum"
    ):
        assert moved >= 0.99 * C
    if name in ("infinite", "both infinities", "not a number", "zero") or "label" in name:
        assert moved == 0
    out, err = capfd.readouterr()
    assert (out, err) == ("", "")


@pytest.mark.parametrize("path", list(PATHS))
def test_replacing_a_record_moves_the_sum_by_at_most_twice_the_bound(path: str, kit: Kit) -> None:
    """And an opposed one reaches it: replace-one really costs 2 C."""
    reached = 0.0
    for one, first_label in NEIGHBOURS.values():
        for other, second_label in NEIGHBOURS.values():
            a = PATHS[path](kit, kit.rows([*BASE, one], [*LABELS, first_label]))
            b = PATHS[path](kit, kit.rows([*BASE, other], [*LABELS, second_label]))
            reached = max(reached, float((a - b).norm()))
    a = PATHS[path](kit, kit.rows([*BASE, [9.0, 0.0, 0.0]], [*LABELS, 0]))
    b = PATHS[path](kit, kit.rows([*BASE, [-9.0, 0.0, 0.0]], [*LABELS, 0]))
    reached = max(reached, float((a - b).norm()))
    assert 1.99 * C <= reached <= 2 * C


@pytest.mark.parametrize("path", list(PATHS))
def test_an_empty_data_set_is_released_like_any_other(path: str, kit: Kit) -> None:
    assert PATHS[path](kit, kit.rows([])).abs().sum() == 0


@pytest.mark.parametrize("micro_batch", [1, 3, 5, 64])
def test_the_micro_batch_changes_no_sum_and_draws_noise_once_per_tensor(
    micro_batch: int, kit: Kit
) -> None:
    records = kit.rows(BASE, LABELS)
    noise = kit.Silent()
    step = first_step(sgd(), records, noise, micro_batch)
    step.gradient(kit.Linear(), kit.parameters())
    torch.testing.assert_close(noise.sum(), sgd_sum(kit, records, 2), rtol=0, atol=1e-6)
    assert sorted(noise.totals) == ["0 table", "0 w"]
    assert len(noise.stds) == 2


@pytest.mark.parametrize("micro_batch", [1, 2, 4, 256])
def test_the_micro_batch_of_a_noisy_sum_changes_nothing_either(micro_batch: int, kit: Kit) -> None:
    noise = kit.Silent()
    records = kit.rows(BASE, LABELS)
    NoisySum(kit.Echo(bound=C), 2.0).release(records, noise, micro_batch=micro_batch)
    torch.testing.assert_close(noise.sum(), sum_sum(kit, records), rtol=0, atol=1e-12)
    assert len(noise.stds) == 2


def test_the_update_is_divided_by_a_constant_whatever_was_drawn(kit: Kit) -> None:
    """rate x n_records, of a data set that has another number of records."""
    mechanism = NoisySGD(0.5, 1, 2.0, n_records=40, clip_norm=C)
    for vectors in (BASE, BASE[:1], []):
        noise = kit.Silent()
        noise.coins = lambda n, rate, *, release: np.arange(n)  # type: ignore[method-assign]
        records = kit.rows(vectors, LABELS[: len(vectors)])
        step = first_step(mechanism, records, noise)
        out = step.gradient(kit.Linear(), kit.parameters())
        for name in ("w", "table"):
            torch.testing.assert_close(out[name].double(), noise.totals[f"0 {name}"] / 20)


def test_the_coins_are_asked_for_every_slot_at_the_accounted_rate(kit: Kit) -> None:
    asked = []
    noise = kit.Silent()
    noise.coins = lambda n, rate, *, release: (  # type: ignore[method-assign]
        asked.append((n, rate, release)) or np.arange(0)
    )
    mechanism = NoisySGD(0.25, 5, 2.0, n_records=1000, clip_norm=C)
    steps = mechanism.steps(kit.rows(BASE), noise, start=2, micro_batch=4, device=CPU)
    assert asked == []  # whoever is handed a step has not asked it yet
    for index, step in zip((2, 3, 4), steps, strict=True):
        assert step.index == index
        step.gradient(kit.Linear(), kit.parameters())
    (leaf,) = leaves(mechanism.event)
    assert asked == [(5, leaf.rate, 2), (5, leaf.rate, 3), (5, leaf.rate, 4)]


def test_only_the_drawn_records_are_read_and_added(kit: Kit) -> None:
    noise = kit.Silent()
    noise.coins = lambda n, rate, *, release: np.array([1, 3])  # type: ignore[method-assign]
    step = first_step(sgd(0.5), kit.rows(BASE, LABELS), noise)
    step.gradient(kit.Linear(), kit.parameters())
    expected = sgd_sum(kit, kit.rows([BASE[1], BASE[3]], [LABELS[1], LABELS[3]]))
    torch.testing.assert_close(noise.sum(), expected, rtol=0, atol=1e-6)


def test_the_noise_that_is_drawn_is_the_noise_that_is_accounted(kit: Kit) -> None:
    for multiplier in (0.5, 2.381):
        mechanism = sgd(0.5, 3, multiplier)
        noise = kit.Silent()
        for step in mechanism.steps(kit.rows(BASE), noise, start=0, micro_batch=4, device=CPU):
            step.gradient(kit.Linear(), kit.parameters())
        (leaf,) = leaves(mechanism.event)
        assert set(noise.stds) == {leaf.noise_multiplier * mechanism.clip_norm}
        assert len(noise.stds) == 2 * leaf.steps
        release = NoisySum(kit.Echo(bound=C), multiplier)
        noise = kit.Silent()
        release.release(kit.rows(BASE), noise)
        (leaf,) = leaves(release.event)
        assert (leaf.rate, leaf.steps) == (1.0, 1)
        assert set(noise.stds) == {leaf.noise_multiplier * C}


@pytest.mark.parametrize("n", [0, 2, 8])
def test_the_noise_of_a_step_has_its_law_on_an_empty_and_on_a_full_batch(n: int, kit: Kit) -> None:
    """5e5 draws: 5 standard errors are 0.5 %. The sum is known, so what is left is the noise."""
    d = 500_000
    mechanism = NoisySGD(1.0, 1, 1.5, n_records=3, clip_norm=C)
    parameters = {"w": torch.zeros(d)}

    class Summed(kit.Linear):  # type: ignore[misc, name-defined]
        def loss(
            self, p: dict[str, Tensor], pixels: Tensor, label: Tensor, draws: dict[str, Tensor]
        ) -> Tensor:
            return p["w"].sum() * pixels.sum() + 0 * draws["z"].sum()

    records = kit.rows(torch.full((n, 3), 2.0))
    silent = kit.Silent()
    first_step(mechanism, records, silent).gradient(Summed(), parameters)
    noise = KeyedNoise(kit.KEY, "plan")
    out = first_step(mechanism, records, noise).gradient(Summed(), parameters)
    left = (out["w"].double() * mechanism.expected_batch - silent.totals["0 w"]).numpy()
    assert left.std() == pytest.approx(1.5 * C, rel=5e-3)
    assert abs(left.mean()) < 6 * 1.5 * C / math.sqrt(d)


def test_noise_of_two_steps_and_two_tensors_is_unrelated(kit: Kit) -> None:
    d = 50_000
    parameters = {"a": torch.zeros(d), "b": torch.zeros(d)}

    class Flat(kit.Linear):  # type: ignore[misc, name-defined]
        def loss(
            self, p: dict[str, Tensor], pixels: Tensor, label: Tensor, draws: dict[str, Tensor]
        ) -> Tensor:
            return (p["a"].sum() + p["b"].sum()) * 0 * pixels.sum()

    noise = KeyedNoise(kit.KEY, "plan")
    found = []
    for step in sgd(0.5, 3).steps(kit.rows([]), noise, start=0, micro_batch=4, device=CPU):
        out = step.gradient(Flat(), parameters)
        found += [out["a"].numpy(), out["b"].numpy()]
    z = (np.corrcoef(found) - np.eye(6)) * math.sqrt(d)
    assert np.abs(z).max() < 6


def test_noise_of_two_tables_is_unrelated_and_on_rows_that_no_record_sits_in(kit: Kit) -> None:
    class Wide(kit.Echo):  # type: ignore[misc, name-defined]
        def __call__(self, pixels: Tensor, labels: Tensor) -> dict[str, Block]:
            x = torch.ones(len(pixels), 20_000, dtype=torch.float64)
            return {"own": Block(x, labels), "all": Block(x, labels * 0)}

    wide = Wide(tables={"own": (3, 20_000), "all": (1, 20_000)})
    tables = NoisySum(wide, 3.0).release(kit.rows([]), KeyedNoise(kit.KEY, "plan"))
    found = np.concatenate([tables["own"].numpy(), tables["all"].numpy()])
    assert found.std(1) == pytest.approx(6.0, rel=0.03)
    assert np.abs((np.corrcoef(found) - np.eye(4)) * math.sqrt(20_000)).max() < 6


def test_draws_belong_to_slot_and_step_and_not_to_who_else_was_drawn(kit: Kit) -> None:
    """A removed record must not shift its neighbours' draws."""

    class Drawn(kit.Linear):  # type: ignore[misc, name-defined]
        def draw(self, draws: Draws) -> dict[str, Tensor]:
            return {"z": 1e-3 * draws.normal(3)}

        def loss(
            self, p: dict[str, Tensor], pixels: Tensor, label: Tensor, draws: dict[str, Tensor]
        ) -> Tensor:
            return p["w"] @ draws["z"]

    def total(slots: list[int], micro_batch: int = 4) -> Tensor:
        noise = kit.Silent()
        noise.coins = lambda n, rate, *, release: np.array(slots)  # type: ignore[method-assign]
        step = first_step(sgd(), kit.rows(BASE), noise, micro_batch)
        step.gradient(Drawn(), {"w": torch.zeros(3)})
        return noise.sum()

    whole = total([0, 1, 2, 3, 4])
    for out in range(5):
        rest = [slot for slot in range(5) if slot != out]
        torch.testing.assert_close(whole - total(rest), total([out]), rtol=0, atol=1e-9)
    torch.testing.assert_close(total([0, 1, 2, 3, 4], micro_batch=1), whole, rtol=0, atol=1e-9)


def test_empty_batches_are_steps_that_release_noise(kit: Kit) -> None:
    """rate x n = 0.5: most steps are empty, none is skipped."""
    mechanism = NoisySGD(0.1, 60, 2.0, n_records=5, clip_norm=C)
    noise = KeyedNoise(kit.KEY, "plan")
    values, sizes = [], []
    for step in mechanism.steps(
        kit.rows(BASE, LABELS), noise, start=0, micro_batch=4, device=CPU
    ):  # fmt: skip
        values.append(step.gradient(kit.Linear(), kit.parameters()))
        sizes.append(len(step._slots))
    assert 10 < sizes.count(0) < 60
    assert len(values) == 60
    assert all((out["w"] != 0).all() for out in values)


def test_a_step_answers_once(kit: Kit) -> None:
    step = first_step(sgd(), kit.rows(BASE), kit.Silent())
    step.gradient(kit.Linear(), kit.parameters())
    with pytest.raises(RuntimeError, match="answers once"):
        step.gradient(kit.Linear(), kit.parameters())


@pytest.mark.parametrize("start", [-1, 4])
def test_a_step_outside_the_plan_is_refused(start: int, kit: Kit) -> None:
    steps = sgd(0.5, 3).steps(kit.rows(BASE), kit.Silent(), start=start, micro_batch=4, device=CPU)
    with pytest.raises(ValueError, match="start must lie in"):
        next(iter(steps))


@pytest.mark.parametrize(
    "change",
    [
        {"rate": 0.0},
        {"rate": 1.1},
        {"noise_multiplier": 0.0},
        {"noise_multiplier": math.nan},
        {"n_steps": 0},
        {"n_records": 0},
        {"clip_norm": 0.0},
        {"clip_norm": math.inf},
    ],
)
def test_a_mechanism_that_cannot_be_priced_cannot_be_made(change: dict[str, float]) -> None:
    numbers: dict[str, Any] = {"rate": 0.1, "n_steps": 3, "noise_multiplier": 2.0, "n_records": 9}
    with pytest.raises(ValueError, match="must"):
        NoisySGD(**(numbers | change))


@pytest.mark.parametrize("bound", [0.0, -1.0, math.inf, math.nan])
def test_a_statistic_without_a_bound_is_refused(bound: float, kit: Kit) -> None:
    with pytest.raises(ValueError, match="bound must be"):
        NoisySum(kit.Echo(bound=bound), 1.0)


def test_every_number_of_a_mechanism_is_in_its_settings(kit: Kit) -> None:
    settings = NoisySGD(0.1, 3, 2.0, 9, 0.5).settings
    assert settings == {
        "mechanism": "NoisySGD",
        "rate": 0.1,
        "n_steps": 3,
        "noise_multiplier": 2.0,
        "n_records": 9,
        "clip_norm": 0.5,
    }
    assert NoisySum(kit.Echo(bound=3.0), 2.0).settings == {
        "mechanism": "NoisySum",
        "noise_multiplier": 2.0,
        "bound": 3.0,
        "statistic": {"name": "Echo", "bound": 3.0},
    }


def test_rounding_of_sixty_thousand_equal_records_stays_within_the_bound(kit: Kit) -> None:
    """T18: all point one way, so every addition rounds at the size of the whole sum."""
    record = torch.tensor([[0.1, 0.7, -1.3]])
    before = sum_sum_wide(kit, kit.rows(record.expand(60_000, 3)))
    after = sum_sum_wide(kit, kit.rows(record.expand(60_001, 3)))
    assert float(before.norm()) > 59_000 * C
    moved = float((after - before).norm())
    assert 0.9999 * C <= moved <= C * (1 - 0.9e-5)


def sum_sum_wide(kit: Kit, records: Records) -> Tensor:  # noqa: ANN401
    noise = kit.Silent()
    NoisySum(kit.Echo(bound=C), 2.0).release(records, noise)
    return noise.sum()


@pytest.mark.parametrize("n", [1, 4, 6])
def test_the_statistic_of_a_noisy_sum_always_sees_batches_of_one_size(n: int, kit: Kit) -> None:
    """Rounding inside a kernel goes with the shape of its input; it must not tell the number of
    records."""
    seen: list[int] = []

    class Watched(kit.Echo):  # type: ignore[misc]
        def __call__(self, pixels: Tensor, labels: Tensor) -> Any:  # noqa: ANN401
            seen.append(len(pixels))
            return super().__call__(pixels, labels)

    NoisySum(Watched(bound=C), 2.0).release(kit.rows(BASE[:1] * n), kit.Silent(), micro_batch=4)
    assert set(seen) == {4}
