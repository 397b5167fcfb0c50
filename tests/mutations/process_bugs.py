"""Bugs that several processes make: in how they share a step, and in what each of them adds."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from torch import Tensor

from tests.mutations.bug import Around, Bug, Change

ADD = "dpgen.privacy.mechanisms.shares.Shares.add"
READ = "dpgen.privacy.mechanisms.checked_records.CheckedRecords.read"
GRADIENT = "dpgen.privacy.mechanisms.noisy_step.NoisyStep.gradient"


def _n(shares: Any) -> int:  # noqa: ANN401
    return 1 + len(shares._helpers)


def a_mean(original: Callable[..., None]) -> Callable[..., None]:
    def add(shares: Any, total: dict[str, Tensor], *given: Any) -> None:  # noqa: ANN401
        original(shares, total, *given)
        for part in total.values():
            part /= _n(shares)

    return add


def the_last_one_twice(original: Callable[..., None]) -> Callable[..., None]:
    """Process 0 computes the last micro-batch as well, which it has sent to another one."""

    def add(shares: Any, total: Any, task: Any, batches: Any) -> None:  # noqa: ANN401
        every = list(batches)
        original(shares, total, task, every)
        if (len(every) - 1) % _n(shares):
            task.add(total, every[-1].rows, every[-1].draws)

    return add


def share_by_share(original: Callable[..., None]) -> Callable[..., None]:
    """The sums of one process after those of another, and not in the order of micro-batches."""

    def add(shares: Any, total: Any, task: Any, batches: Any) -> None:  # noqa: ANN401
        every, n = list(batches), _n(shares)
        original(shares, total, task, [batch for k in range(n) for batch in every[k::n]])

    return add


def of_all_processes(scale: Callable[[int], float]) -> Change:
    """Noise whose standard deviation depends on the number of processes."""

    def change(original: Callable[..., Any]) -> Callable[..., Any]:
        def gradient(step: Any, *given: Any) -> Any:  # noqa: ANN401
            factor = scale(_n(step._shares))

            def add(source: Any, total: Tensor, std: float, t: int, name: str) -> Tensor:  # noqa: ANN401
                noisy: Tensor = source.add(total, factor * std, release=t, name=name)
                return noisy

            step._noise = Around(step._noise, add)
            return original(step, *given)

        return gradient

    return change


def divided(original: Callable[..., Any]) -> Callable[..., Any]:
    def gradient(step: Any, *given: Any) -> Any:  # noqa: ANN401
        return {k: g / _n(step._shares) for k, g in original(step, *given).items()}

    return gradient


def unchecked(original: Callable[..., Any]) -> Callable[..., Any]:
    def read(records: Any, slots: Any, digests: Any, key: bytes) -> Any:  # noqa: ANN401
        return records._records.read(slots)

    return read


BUGS = (
    Bug(
        "a mean over processes",
        "the clip norm of what is released is then not the one that is priced",
        "processes", {ADD: a_mean},
    ),
    Bug(
        "noise averaged over processes",
        "the mean of W noises has 1 / W of the variance that is priced",
        "processes", {GRADIENT: of_all_processes(lambda n: 1 / math.sqrt(n))},
    ),
    Bug(
        "noise once per process",
        "the noise is then not that of the plan, and what is trained depends on the machine",
        "processes", {GRADIENT: of_all_processes(math.sqrt)},
    ),
    Bug(
        "a share computed by two processes",
        "its records move the sum by twice the clip norm",
        "processes", {ADD: the_last_one_twice},
    ),
    Bug(
        "a divisor that counts processes",
        "signal and noise are then scaled by what is not in the plan",
        "processes", {GRADIENT: divided},
    ),
    Bug(
        "sums added process by process",
        "a resume on another number of processes then gives a second answer to one question",
        "processes", {ADD: share_by_share},
    ),
    Bug(
        "records of a helper that nobody compares",
        "in another order a record is added by two processes, in other data one that is not "
        "charged",
        "processes", {READ: unchecked},
    ),
)
