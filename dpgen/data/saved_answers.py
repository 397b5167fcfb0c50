"""The saved answers of an ensemble, as a checkpoint holds them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from dpgen.privacy.mechanisms.ensemble import AnyEnsemble

ANSWERS = "answers"  # name of the tensor in the checkpoint
State = tuple[Mapping[str, Tensor], Mapping[str, Any]]


def held_answers(mechanism: AnyEnsemble, state: State | None) -> Tensor:
    """Returns the answers that a checkpoint holds, (n, ...) float64, those of queries 0 to n - 1.

    Args:
        mechanism: the ensemble whose answers they are.
        state: tensors and numbers of the checkpoint; None before the first one.

    Raises:
        ValueError: the checkpoint does not hold answers of this ensemble.
    """
    shape = mechanism.answer.shape
    if state is None:
        return torch.zeros(0, *shape, dtype=torch.float64)
    tensors, numbers = state
    found = tensors.get(ANSWERS)
    if (
        found is None
        or found.dtype != torch.float64
        or tuple(found.shape[1:]) != shape
        or len(found) != numbers.get("step")
        or len(found) > mechanism.n_queries
    ):
        raise ValueError(
            f"the checkpoint of an ensemble must hold at most {mechanism.n_queries} float64 "
            f"answers of shape {shape} and their number, and holds others: it was changed. "
            "Start a new run folder, which is charged anew"
        )
    return found


class SavedAnswers:
    """The answers that a stage has saved, and the function that saves more of them.

    Args:
        mechanism, state: as for `held_answers`.
        save: saves the answers of queries 0 to n - 1.
    """

    def __init__(
        self, mechanism: AnyEnsemble, state: State | None, save: Callable[[Tensor], None]
    ) -> None:
        self._answers, self._save = held_answers(mechanism, state), save

    def load(self) -> Tensor:
        """Returns the saved answers, (n, ...) float64."""
        return self._answers

    def save(self, answers: Tensor) -> None:
        """Saves the answers of queries 0 to ``len(answers) - 1``."""
        self._save(answers)
