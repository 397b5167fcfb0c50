"""Stores what an unfinished run must know of its descent: two marks, and the questions of its
stages.

Every begin of a run, first or resumed, draws a random mark. It is written here first, as pending,
and into the ledger second. A run may continue if its last mark in the ledger is one of the two that
are stored here:

    current    the run's last mark in the ledger when this folder was last begun
    pending    the mark of that begin, which may not have reached the ledger before a kill

A copy or a backup of the folder has the marks of the moment at which it was made. If another
descendant has been begun since, the ledger holds a mark that is neither, and the copy is refused.
If the ledger were written first, a kill between the two writes would look the same.

A stage's question is stored here in clear, so that a refusal can say what differs, and in the
ledger as a digest, which an edit of this folder cannot change. That a stage is finished is also
stored here, before it is noted in the ledger: a folder without this entry was copied earlier, lacks
the answer that can never be given again, and must not take over the run.
"""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any, NamedTuple

from dpgen.privacy.ledger.chain import LedgerError
from dpgen.storage.canonical import canonical, digest
from dpgen.storage.durable import replace_durably
from dpgen.storage.files import read_json

QUESTION_BYTES = 2**24  # the most bytes of a description; that of a large network has some 10**5
UNMARKED = (
    "this run was begun by an earlier version of dpgen, which kept no mark of its lineage: finish "
    "it with that version, or start a new run folder, which is charged anew"
)


class Marks(NamedTuple):
    """The two marks of a folder; "" where there is none yet."""

    current: str
    pending: str


class Overtaken(LedgerError):
    """Another descendant of this run has been begun, so this one gets no more answers."""


class Lineage:
    """Marks and questions of one run, beside its keys.

    Args:
        folder: the folder of the keys; it must exist.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @property
    def _path(self) -> Path:
        return self._folder / "lineage.json"

    @property
    def marks(self) -> Marks | None:
        """Returns the marks; None if none was ever stored."""
        if not self._path.exists():
            return None
        held = self._read(self._path)
        if set(held) != {"current", "pending"} or any(type(x) is not str for x in held.values()):
            raise self._damaged(self._path)
        return Marks(**held)

    def propose(self, current: str) -> str:
        """Draws a mark and stores it as pending; it is on disk when this returns.

        Args:
            current: the mark that the ledger holds; "" for none.
        """
        mark = secrets.token_hex(16)
        marks = Marks(current, mark)
        replace_durably(self._path, canonical(marks._asdict()).encode(), mode=0o600)
        return mark

    def question(self, plan: str) -> dict[str, Any] | None:
        """Reads the stored question of the stage; None if it has asked nothing."""
        path = self._asked(plan)
        return self._read(path) if path.exists() else None

    def note(self, plan: str, question: dict[str, Any]) -> str:
        """Stores the question of a stage on disk, and returns its digest for the ledger."""
        replace_durably(self._asked(plan), canonical(question).encode(), mode=0o600)
        return digest(question)

    def leave(self, plan: str) -> None:
        """Notes on disk that a stage is finished and its answer is saved in this folder."""
        replace_durably(self._over(plan), b"", mode=0o600)

    def left(self, plan: str) -> bool:
        """Returns whether this folder has the answer of a finished stage."""
        return self._over(plan).exists()

    def _over(self, plan: str) -> Path:
        return self._folder / f"{plan}.over"

    def _asked(self, plan: str) -> Path:
        return self._folder / f"{plan}.asked.json"

    def _read(self, path: Path) -> dict[str, Any]:
        try:
            held = read_json(path, QUESTION_BYTES)
        except ValueError:
            raise self._damaged(path) from None
        if not isinstance(held, dict):
            raise self._damaged(path)
        return held

    def _damaged(self, path: Path) -> LedgerError:
        return LedgerError(f"{path} is damaged: start a new run folder, which is charged anew")
