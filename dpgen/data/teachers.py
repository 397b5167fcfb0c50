"""Private teachers: classifiers that silos have trained, one in each slot, which answer a charged
run with noised sums alone.

A slot is named by the file, or the folder, that its teacher lies in. Number and names of the slots
are public; what a teacher is, and everything behind it, is not. Teachers are charged as records
are: an installation recognises each by a keyed mark of its weights, in another folder, under
another name or among other teachers. The teachers' order is that of their names.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
from torch import Tensor

from dpgen.data.charged import ChargedData
from dpgen.data.teacher_files import Given, read_given
from dpgen.images.classes import Classes
from dpgen.images.facts import PublicFacts
from dpgen.privacy.accounting.accountant import Budget
from dpgen.privacy.ledger.shared_ledger import OverlapRule
from dpgen.privacy.mechanisms.ensemble import FixedEnsemble
from dpgen.privacy.mechanisms.noisy_ensemble import Ensemble
from dpgen.privacy.mechanisms.teachers import Teacher
from dpgen.runs.checkpoint import Checkpoints


class TeacherSource:
    """Teachers in the order of their names, as an account reads them: by what identifies them.

    Args:
        given: the teachers, of images of one shape in the same classes, no two of them the same.
        class_names: one per class, in the order of the scores.
    """

    kind, public = "teachers", False

    def __init__(self, given: Sequence[Given], class_names: tuple[str, ...]) -> None:
        self._given, self.class_names = given, class_names
        self.shape = given[0].shape
        self.names = tuple(one.name for one in given)

    def __len__(self) -> int:
        return len(self._given)

    def read(self, indices: Sequence[int] | np.ndarray) -> tuple[Tensor, Tensor]:
        """Raises TypeError: a teacher is no image."""
        raise TypeError("teachers answer queries and are not read as images")

    def raw_records(self) -> Iterator[tuple[np.ndarray, int]]:
        """Yields what identifies each teacher, as the pixels (1, 32, 1) of a record without a
        label: no name and no place among the others.
        """
        for one in self._given:
            yield np.frombuffer(one.digest, np.uint8).reshape(1, -1, 1), 0

    def teachers(self) -> Sequence[Teacher | None]:
        """Returns the teacher of every slot."""
        return [one.teacher for one in self._given]


class PrivateTeachers(ChargedData):
    """Private teachers that answer a charged run through `ensemble` only.

    Args:
        source: the teachers.
        ledger, limit, overlap: as for `AccountedData`.
    """

    of_teachers: ClassVar[bool] = True

    def __init__(
        self,
        source: TeacherSource,
        *,
        ledger: Path | None = None,
        limit: Budget | None = None,
        overlap: OverlapRule = "refuse",
    ) -> None:
        facts = PublicFacts(source.shape, source.class_names, len(source), "fixed_slots")
        super().__init__(source, facts=facts, ledger=ledger, limit=limit, overlap=overlap)
        self._slots = source

    @property
    def names(self) -> tuple[str, ...]:
        """Returns the names of the slots, which are public, in their order."""
        return self._slots.names

    def _require_unlearned(self) -> None:
        """Does nothing: no network learns from a teacher as from a public image."""

    def ensemble(
        self, mechanism: FixedEnsemble, *, label: str, checkpoints: Checkpoints, seed: int,
        stand_in: Teacher,
    ) -> Ensemble:  # fmt: skip
        """Returns the ensemble of the teachers, which answers queries with noised sums.

        Args:
            mechanism: the ensemble, as it was charged.
            label: the name that the stage was charged by.
            checkpoints: where all answers are saved under the label, before anyone uses them. A
                resumed stage asks its queries anew and is given the saved answers.
            seed: public seed of whatever a teacher draws.
            stand_in: a teacher of the same images and classes that is public: it is asked first, so
                that queries which no teacher can answer are an error.

        Raises:
            RuntimeError: the run was not begun, or the stage was asked already.
            LedgerError: the stage is not what was charged, is finished, or asks another question.
        """
        noise, witness, kept = self._answering(mechanism, label, checkpoints)
        return mechanism.ensemble(
            self._slots, noise, seed=seed, witness=witness, kept=kept, rehearsed=stand_in
        )


def open_teachers(
    folder: str | Path,
    *,
    classes: Classes | None = None,
    ledger: str | Path | None = None,
    limit: Budget | None = None,
    overlap: OverlapRule = "refuse",
) -> PrivateTeachers:
    """Opens the teachers in a folder: a file or a folder for each silo.

    Args:
        folder: with NAME.safetensors or NAME/, as `dpgen.data.teacher_files` reads them.
        classes: names of the classes, in the order of the scores, where the files do not state
            them.
        ledger, limit, overlap: as for `AccountedData`.

    Raises:
        ValueError: a file holds no classifier, or two of them do not fit together.
        FileNotFoundError: there is no such folder.
    """
    given, class_names = read_given(Path(folder), classes)
    for one in given:
        one.check(len(class_names))
    return PrivateTeachers(
        TeacherSource(given, class_names), ledger=Path(ledger) if ledger else None, limit=limit,
        overlap=overlap,
    )  # fmt: skip
