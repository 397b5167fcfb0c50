"""A step that several processes share: which records are computed, how often, and what they add."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from dpgen.privacy.mechanisms.clipping import zero_sum
from dpgen.privacy.mechanisms.declared import NoisySGD
from dpgen.privacy.mechanisms.noise import KeyedNoise
from dpgen.privacy.mechanisms.shares import MicroBatch, Shares, Task

Kit = Any  # what conftest.py shares

CPU = torch.device("cpu")
SGD = NoisySGD(0.5, 4, 2.0, n_records=200, clip_norm=0.7)


class Other:
    """A helper in this process, which remembers the records that it was asked about."""

    def __init__(self, n_refused: int = 0) -> None:
        self.slots: list[int] = []
        self.found: list[dict[str, Tensor]] = []
        self.n_waiting, self.n_refused = 0, n_refused

    def ask(self, task: Task, batch: MicroBatch) -> None:
        assert self.n_waiting == 0, "a helper computes one micro-batch at a time"
        self.n_waiting += 1
        valid = batch.rows[2]
        self.slots += [int(s) for s, v in zip(batch.draws.slots, valid, strict=True) if v]
        total = zero_sum(task.parameters)
        task.add(total, batch.rows, batch.draws)
        self.found.append(total)

    def answer(self) -> dict[str, Tensor]:
        self.n_waiting -= 1
        if self.n_refused:
            self.n_refused -= 1
            raise ValueError("no memory")
        return self.found[-1]


class Watching(KeyedNoise):
    """Noise of production; sees every sum before its noise, and how often noise is added to it."""

    def __init__(self, kit: Kit) -> None:
        super().__init__(kit.KEY, "plan")
        self.sums: list[Tensor] = []
        self.stds: list[float] = []

    def for_question(self, question: str) -> Watching:
        self._question = question
        return self

    def add(self, total: Tensor, std: float, *, release: int, name: str) -> Tensor:
        self.sums.append(total.clone())
        self.stds.append(std)
        return super().add(total, std, release=release, name=name)


class Passed:
    """Records that note which of them were read."""

    def __init__(self, rows: Any) -> None:  # noqa: ANN401
        self._rows, self.slots = rows, Counter[int]()

    @property
    def n_slots(self) -> int:
        return int(self._rows.n_slots)

    def read(self, slots: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
        self.slots.update(slots.tolist())
        return self._rows.read(slots)  # type: ignore[no-any-return]


def records(kit: Kit, n: int = 200) -> Passed:
    return Passed(kit.rows(3 * torch.randn(n, 3, generator=torch.Generator().manual_seed(0))))


def stepped(
    kit: Kit, n_helpers: int, sgd: NoisySGD = SGD, n: int = 200
) -> tuple[list[dict[str, Tensor]], Watching, Passed, list[Other]]:
    """All steps, their noise, records and helpers."""
    helpers, noise, rows = [Other() for _ in range(n_helpers)], Watching(kit), records(kit, n)
    steps = sgd.steps(
        rows, noise, start=0, micro_batch=8, device=CPU, shares=Shares(helpers)
    )  # fmt: skip
    return [s.gradient(kit.Linear(), kit.parameters()) for s in steps], noise, rows, helpers


@pytest.mark.parametrize("n_helpers", [1, 2, 3, 30])
def test_answers_are_equal_in_every_bit_for_any_number_of_processes(
    kit: Kit, n_helpers: int
) -> None:
    alone, noise, *_ = stepped(kit, 0)
    found, other, *_ = stepped(kit, n_helpers)
    for one, two in zip(alone, found, strict=True):
        assert all(torch.equal(one[name], two[name]) for name in one)
    assert all(torch.equal(a, b) for a, b in zip(noise.sums, other.sums, strict=True))


@pytest.mark.parametrize("n_helpers", [0, 1, 2, 30])
def test_every_record_of_the_sample_is_added_once(kit: Kit, n_helpers: int) -> None:
    one = NoisySGD(0.5, 1, 2.0, n_records=200, clip_norm=0.7)
    _, noise, rows, helpers = stepped(kit, n_helpers, one)
    assert set(rows.slots.values()) == {1}
    taken = [slot for helper in helpers for slot in helper.slots]
    assert len(taken) == len(set(taken)) and set(taken) <= set(rows.slots)
    n_batches = -(-len(rows.slots) // 8)
    n_own = -(-n_batches // (1 + n_helpers))
    assert sum(len(helper.found) for helper in helpers) == n_batches - n_own
    # What all processes computed together is the sum over records, and no mean.
    pixels, labels, valid = rows._rows.read(np.array(sorted(rows.slots)))
    expected = torch.zeros(3, dtype=torch.float64)
    for x in pixels.reshape(-1, 3).double():
        norm = 101**0.5 * x.norm()
        expected += x * min(1.0, 0.7 / (1 + 1e-5) / float(norm))
    assert torch.allclose(noise.sums[0], expected, rtol=1e-6)


@pytest.mark.parametrize("n_helpers", [0, 1, 2, 30])
def test_noise_of_the_full_scale_is_added_once_and_the_divisor_is_declared(
    kit: Kit, n_helpers: int
) -> None:
    found, noise, *_ = stepped(kit, n_helpers)
    assert noise.stds == [2.0 * 0.7] * (2 * SGD.n_steps)
    large = NoisySGD(0.5, 1, 2.0, n_records=200, clip_norm=0.7)
    parameters = {"w": torch.zeros(3), "table": torch.zeros(2, 3), "rest": torch.zeros(40_000)}

    class Rest(kit.Linear):  # type: ignore[misc, name-defined]
        def loss(self, parameters: Any, *record: Any) -> Tensor:  # noqa: ANN401
            held = {name: parameters[name] for name in ("w", "table")}
            return super().loss(held, *record) + 0 * parameters["rest"].sum()

    source = KeyedNoise(kit.KEY, "plan")
    steps = large.steps(
        records(kit), source, start=0, micro_batch=8, device=CPU,
        shares=Shares([Other() for _ in range(n_helpers)]),
    )  # fmt: skip
    rest = next(steps).gradient(Rest(), parameters)["rest"]
    # Pure noise: its variance over 40,000 coordinates has a standard error of 0.7 %.
    assert float(rest.var()) == pytest.approx((2.0 * 0.7 / 100) ** 2, rel=0.03)
    assert len(found) == SGD.n_steps


def test_an_empty_sample_asks_nobody_and_is_a_step_with_noise(kit: Kit) -> None:
    found, noise, rows, helpers = stepped(kit, 2, n=0)
    assert not rows.slots and not any(helper.found for helper in helpers)
    assert all(not part.any() for part in noise.sums) and len(noise.sums) == 2 * SGD.n_steps
    assert all(part.all() for answer in found for part in answer.values())


def test_a_sample_smaller_than_the_processes_leaves_some_of_them_idle(kit: Kit) -> None:
    found, _, _, helpers = stepped(kit, 30, n=40)
    idle = [helper for helper in helpers if not helper.found]
    assert 0 < len(idle) < 30
    alone, *_ = stepped(kit, 0, n=40)
    assert all(
        torch.equal(a[name], b[name]) for a, b in zip(alone, found, strict=True) for name in a
    )


def test_an_error_of_a_helper_stops_the_step_before_noise_and_leaves_no_answer_behind(
    kit: Kit,
) -> None:
    helpers, noise = [Other(n_refused=1), Other(), Other(n_refused=1)], Watching(kit)
    steps = SGD.steps(
        records(kit), noise, start=0, micro_batch=8, device=CPU, shares=Shares(helpers)
    )  # fmt: skip
    with pytest.raises(ValueError, match="no memory"):
        next(steps).gradient(kit.Linear(), kit.parameters())
    assert not noise.sums
    assert [helper.n_waiting for helper in helpers] == [0, 0, 0]


def test_an_error_here_waits_for_the_answers_of_the_helpers(kit: Kit) -> None:
    class Broken(kit.Linear):  # type: ignore[misc, name-defined]
        calls = 0

        def draw(self, draws: Any) -> Any:  # noqa: ANN401
            Broken.calls += 1
            if Broken.calls == 3:
                raise RuntimeError("out of luck")
            return super().draw(draws)

    helpers, noise = [Other(), Other()], Watching(kit)
    steps = SGD.steps(
        records(kit), noise, start=0, micro_batch=8, device=CPU, shares=Shares(helpers)
    )  # fmt: skip
    with pytest.raises(RuntimeError, match="out of luck"):
        next(steps).gradient(Broken(), kit.parameters())
    assert [helper.n_waiting for helper in helpers] == [0, 0] and not noise.sums


@pytest.mark.parametrize(
    "changed",
    [
        lambda found: {name: part[:1] for name, part in found.items()},
        lambda found: {name: part.float() for name, part in found.items()},
        lambda found: {"w": found["w"]},
        lambda found: {},
    ],
    ids=["another shape", "another type", "a part", "nothing"],
)
def test_an_answer_of_another_shape_is_refused_and_not_spread_over_the_sum(
    kit: Kit, changed: Any  # noqa: ANN401
) -> None:
    class Wrong(Other):
        def answer(self) -> dict[str, Tensor]:
            return changed(super().answer())  # type: ignore[no-any-return]

    noise = Watching(kit)
    steps = SGD.steps(
        records(kit), noise, start=0, micro_batch=8, device=CPU, shares=Shares([Wrong()])
    )  # fmt: skip
    with pytest.raises(RuntimeError, match="a sum of the same shapes"):
        next(steps).gradient(kit.Linear(), kit.parameters())
    assert not noise.sums
