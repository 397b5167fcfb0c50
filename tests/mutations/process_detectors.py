"""The detector of mistakes that only several processes make: a step shared among some that live
here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from dpgen.auditing import randomness
from dpgen.privacy.mechanisms.checked_records import CheckedRecords, SlotDigests
from dpgen.privacy.mechanisms.clipping import zero_sum
from dpgen.privacy.mechanisms.micro_batches import filled
from dpgen.privacy.mechanisms.shares import MicroBatch, Shares, Task
from tests.mutations.mechanism_detectors import CPU, SGD, Listening, RowByRow, Rows, rough

N_RECORDS = 100


class Helper:
    """Another process, without the way to it."""

    def __init__(self) -> None:
        self._found: dict[str, Tensor] = {}

    def ask(self, task: Task, batch: MicroBatch) -> None:
        self._found = zero_sum(task.parameters)
        task.add(self._found, batch.rows, batch.draws)

    def answer(self) -> dict[str, Tensor]:
        return self._found


class Reading(Helper):
    """Another process that reads its records itself: of the same data in another order."""

    def ask(self, task: Task, batch: MicroBatch) -> None:
        digests = SlotDigests(bytes(32)).of(batch.records, batch.slots)
        own = CheckedRecords(Rows(_values().roll(1, 0)))
        rows = own.read(batch.slots, digests, bytes(32))
        self._found = zero_sum(task.parameters)
        task.add(self._found, filled(*rows, len(batch.draws)), batch.draws)


def _values() -> Tensor:
    return torch.randn(N_RECORDS, 12, generator=torch.Generator().manual_seed(0))


def _shared(n_processes: int, kind: type[Helper] = Helper) -> tuple[Tensor, Tensor]:
    """The sum of a step before its noise, and its answer times the declared batch."""
    values = _values()
    noise, shares = Listening(), Shares([kind() for _ in range(n_processes - 1)])
    steps = SGD.steps(Rows(values), noise, start=0, micro_batch=8, device=CPU, shares=shares)
    answer = next(steps).gradient(RowByRow(), {"w": torch.zeros(12, 1000)})["w"]
    return noise.heard["w"][0], answer.double() * SGD.expected_batch


def processes(place: Path) -> str:
    """A step has one sum, one noise and one divisor, however many processes share it, and a helper
    adds no record but that of the first process.
    """
    alone, _ = _shared(1)
    for n in (3, 5):
        total, answer = _shared(n)
        if not torch.equal(total, alone):
            apart = float((total - alone).norm()) / SGD.clip_norm
            how = "in its last bits" if apart < 1e-9 else f"by {rough(apart)} clip norms"
            return f"the sum of {n} processes differs from that of one {how}"
        noise = ((answer - total) / SGD.noise_std).flatten()
        variance = float(noise.square().mean())
        if abs(variance - 1) * math.sqrt(len(noise) / 2) > randomness.LIMIT:
            return f"the noise of {n} processes has {variance:.1g} of the variance that is priced"
    try:
        total, _ = _shared(3, Reading)
    except ValueError:
        return ""
    apart = float((total - alone).norm()) / SGD.clip_norm
    return f"a helper with other records moves the sum by {rough(apart)} clip norms"


PROCESSES: dict[str, Callable[[Path], str]] = {"processes": processes}
