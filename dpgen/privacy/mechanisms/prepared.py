"""Private records as the objective of a stage sees them: what it makes of them once is kept."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from dpgen.privacy.mechanisms.contributions import Objective, Preparing, Records
from dpgen.privacy.mechanisms.micro_batches import Rows, filled
from dpgen.privacy.mechanisms.question import Question
from dpgen.storage.canonical import digest


class PreparedRecords:
    """The records of one stage. They are as private as the records, lie in memory alone, and only
    the steps of the stage hold them.

    Args:
        records: the private records.
        keep: whether what an objective prepares is kept for the next step, which asks for the same
            micro-batches: those of a stage without sampling.
    """

    def __init__(self, records: Records, *, keep: bool) -> None:
        self.records, self._keep = records, keep
        self._kept: dict[bytes, Rows] = {}
        self._stage = ""

    @property
    def n_slots(self) -> int:
        return self.records.n_slots

    def seen_by(
        self, objective: Objective, question: Question
    ) -> Callable[[np.ndarray, int], Rows]:
        """Returns the function that reads the micro-batch of some slots, filled up to its size.

        Args:
            objective: asks the question. One that is `Preparing` gets its own rows for pixels.
            question: rows that were made for another stage of it are forgotten.
        """

        def read(slots: np.ndarray, size: int) -> Rows:
            return filled(*self.records.read(slots), size)

        if not isinstance(objective, Preparing):
            return read
        if (stage := digest(question.stage)) != self._stage:
            self._kept.clear()
            self._stage = stage

        def prepared(slots: np.ndarray, size: int) -> Rows:
            address = slots.tobytes()
            if (held := self._kept.get(address)) is not None:
                return held
            pixels, labels, valid = read(slots, size)
            rows = objective.prepare(pixels), labels, valid
            if self._keep:
                self._kept[address] = rows
            return rows

        return prepared
