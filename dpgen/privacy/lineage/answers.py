"""Remembers, beside the ledger, which question each answer in a saved state belongs to.

A copy of a state on disk shows the answers that it was made of. A resume starts from the last
state; from an earlier one that was put back, it meets releases whose answers were seen. Such a
release may be asked what it was asked before, and nothing else. That repeats its answer where sums
come out bit for bit, as on one machine with one number of threads. What was answered and never
saved is gone with the process, and the charge of those releases is unused.

The run folder cannot remember this, it may be the one that was put back. The file lies beside the
ledger and goes when the stage is finished: 32 bytes a release, the digest of its question, all zero
where it is not known. It is written before the state is saved.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from dpgen.storage.canonical import digest
from dpgen.storage.files import read_bytes

DIGEST_BYTES = 32
ANSWERS_BYTES = 2**30  # of a file: those of 30 million releases
UNKNOWN = bytes(DIGEST_BYTES)


class Answers:
    """The questions of one stage of one run whose answers are saved.

    Args:
        ledger: where the ledger lies.
        run: id of the run.
        plan: the plan hash of the stage.
    """

    def __init__(self, ledger: Path, run: str, plan: str) -> None:
        self.path = ledger.with_name(f"{ledger.name}.{digest([run, plan])[:32]}.answers")
        self._questions: list[bytes] | None = None

    def _read(self) -> list[bytes]:
        if self._questions is None:
            held = read_bytes(self.path, ANSWERS_BYTES) if self.path.exists() else b""
            whole = len(held) // DIGEST_BYTES  # a torn last one was never acknowledged
            self._questions = [
                held[DIGEST_BYTES * n : DIGEST_BYTES * (n + 1)] for n in range(whole)
            ]
        return self._questions

    def __len__(self) -> int:
        """The largest number of releases that a saved state holds."""
        return len(self._read())

    def contradict(self, release: int, question: str) -> bool:
        """Returns whether a saved state holds the answer of this release to another question."""
        held = self._read()[release : release + 1]
        return bool(held) and held[0] not in (UNKNOWN, bytes.fromhex(question))

    def add(self, questions: Sequence[str | None]) -> None:
        """Adds the questions of the next releases, on disk when it returns; None: not known."""
        if not questions:
            return
        held = self._read()
        new = [UNKNOWN if question is None else bytes.fromhex(question) for question in questions]
        flags = os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC
        with open(os.open(self.path, flags, 0o600), "r+b") as file:
            file.seek(DIGEST_BYTES * len(held))
            file.write(b"".join(new))
            file.flush()
            os.fsync(file.fileno())
        held.extend(new)

    def forget(self) -> None:
        """Deletes the file: a finished stage is never asked again."""
        self.path.unlink(missing_ok=True)
        self._questions = None
