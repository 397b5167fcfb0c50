"""Keeps what an unfinished run must remember of its descent: two marks, and what its stages have
asked.

Every begin of a run, first or resumed, draws a random mark. It is written here first, as pending,
and into the ledger second. The ledger knows one last mark of a run, and a run goes on where that is
either of the two that lie here:

    current    the mark that stood in the ledger when this folder was last begun
    pending    the mark of that begin, which a kill may have kept from the ledger

A copy of the folder, or a backup of it, has the marks of the moment at which it was made. When
another descendant has been begun since, the ledger holds a mark that is neither, and the copy is
refused. In the other order a kill between the two writes would look just like that.

What a stage has asked lies here in clear, so that a refusal can say what differs, and in the ledger
as a digest, which an edit of this folder does not reach. That a stage is over lies here as well,
before the ledger says so: a folder that does not know it was copied before, lacks the answer that
can never be given again, and must not take the run over.
"""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any, NamedTuple

from dpgen.privacy.ledger.chain import LedgerError
from dpgen.storage.canonical import canonical, digest
from dpgen.storage.durable import replace_durably
from dpgen.storage.files import read_json

QUESTION_BYTES = 2**24  # of a description in clear; that of a large network has some 10**5
UNMARKED = (
    "this run was begun by an earlier version of dpgen, which kept no mark of its lineage: finish "
    "it with that version, or start a new run folder, which is charged anew"
)


class Marks(NamedTuple):
    """The two marks of a folder; "" where there is none yet."""

    current: str
    pending: str


class Overtaken(LedgerError):
    """Another descendant of this run has been begun: this one answers nothing any more."""


class Lineage:
    """Marks and questions of one run, beside its keys.

    Args:
        folder: that of the keys, which exists.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @property
    def _path(self) -> Path:
        return self._folder / "lineage.json"

    @property
    def marks(self) -> Marks | None:
        """The marks; None where none was ever left."""
        if not self._path.exists():
            return None
        held = self._read(self._path)
        if set(held) != {"current", "pending"} or any(type(x) is not str for x in held.values()):
            raise self._damaged(self._path)
        return Marks(**held)

    def propose(self, current: str) -> str:
        """Draws a mark and leaves it here as pending, on disk when this returns.

        Args:
            current: the mark that the ledger holds; "" for none.
        """
        mark = secrets.token_hex(16)
        marks = Marks(current, mark)
        replace_durably(self._path, canonical(marks._asdict()).encode(), mode=0o600)
        return mark

    def question(self, plan: str) -> dict[str, Any] | None:
        """Reads what the stage has asked, as it was noted; None if it has asked nothing."""
        path = self._asked(plan)
        return self._read(path) if path.exists() else None

    def note(self, plan: str, question: dict[str, Any]) -> str:
        """Leaves what a stage asks, on disk when this returns; its digest is for the ledger."""
        replace_durably(self._asked(plan), canonical(question).encode(), mode=0o600)
        return digest(question)

    def leave(self, plan: str) -> None:
        """Notes that a stage is answered and its answer saved here; on disk when this returns."""
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
