"""Asks an ensemble of teachers, and never again what was answered before."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from dpgen.data.charged import ChargedData
from dpgen.data.saved_answers import held_answers
from dpgen.privacy.mechanisms.ensemble import AnyEnsemble
from dpgen.privacy.mechanisms.noisy_ensemble import Ensemble
from dpgen.runs.context import Workplace


class Answered:
    """The answers of one stage. Once it is finished, the ensemble is not opened again, and they are
    the saved ones; until then saved answers are compared with those that were given.

    Args:
        data: the private records, or teachers.
        mechanism: the ensemble, as it was charged.
        label: the name that the stage was charged by.
        work: where answers are saved.
        open_fn: opens the ensemble; called at once, unless the stage is finished.
    """

    def __init__(
        self, data: ChargedData, mechanism: AnyEnsemble, label: str, work: Workplace,
        open_fn: Callable[[], Ensemble],
    ) -> None:  # fmt: skip
        self._data, self._mechanism, self._label = data, mechanism, label
        self._saved = held_answers(mechanism, work.checkpoints.load(label))
        self._n_asked = 0
        self._ask: Callable[..., Tensor] | None = None
        if not data.is_finished(label, mechanism):
            self._ask = open_fn().ask

    def ask(
        self, queries: Tensor, *, centre: Tensor | None = None, candidates: Tensor | None = None
    ) -> Tensor:
        """Returns the noised sums of the answers to the next queries, (B, ...) float64: see
        `Ensemble.ask`.
        """
        if self._ask is not None:
            return self._ask(queries, centre=centre, candidates=candidates)
        first, self._n_asked = self._n_asked, self._n_asked + len(queries)
        found = self._saved[first : self._n_asked]
        if len(found) != len(queries):
            raise RuntimeError(
                f"stage {self._label!r} has {len(self._saved)} saved answers, asked for "
                f"{self._n_asked}: start a new run folder, which is charged anew"
            )
        return torch.clone(found)

    def finish(self) -> None:
        """Notes that the stage is finished, and deletes its key."""
        self._data.finish(self._label, self._mechanism)
