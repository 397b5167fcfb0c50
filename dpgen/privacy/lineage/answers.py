"""Stores, beside the ledger, the digests of the questions and answers that a saved state holds.

A state on disk reveals the answers that it was made from, and may have been copied. A resume starts
from the last state; if an earlier state was restored, it reaches releases whose answers may have
been seen. Such a release may only be asked its earlier question, and its answer must be the same in
every bit: a sum added up by another number of threads differs in its last bits and gets other
noise, which would be a second answer. Answers that were never saved are lost with the process, and
the charge of those releases is unused.

The run folder cannot store this, because it may be the folder that was restored. The file lies
beside the ledger; it exists before the ledger says that the stage has asked anything, and is
deleted when the stage is finished. It holds 64 bytes per release, the digests of its question and
of its answer, from release 0 on without a gap. They are written before the state is saved, so if a
state holds more answers than the file, one of the two was changed. Both are written under the lock
of the ledger, by the last descendant only.

A file that was cut or restored to an earlier state by someone who may write beside the ledger is
not detected: as with a ledger that was copied with its folder, that person is trusted.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from dpgen.privacy.ledger.chain import LedgerError
from dpgen.storage.canonical import digest
from dpgen.storage.durable import replace_durably
from dpgen.storage.files import read_bytes
from dpgen.storage.tensors import tensors_digest

HEADER = b"dpgen-answers/2\n"
DIGEST_BYTES = 32
ENTRY_BYTES = 2 * DIGEST_BYTES
ANSWERS_BYTES = 2**30  # the most bytes of a file: the digests of 16 million releases


def answer_digest(tensors: Mapping[str, Tensor]) -> str:
    """Computes the SHA-256 of a release's answer: names, types, shapes and every bit."""
    return tensors_digest(tensors).hex()


class Entry(NamedTuple):
    """The digests of one release's question and, once it is answered, of its answer."""

    question: str
    answer: str | None = None


class Answers:
    """The questions and answers of one stage of one run that a saved state holds.

    Args:
        ledger: path of the ledger.
        run: id of the run.
        plan: the plan hash of the stage.
    """

    def __init__(self, ledger: Path, run: str, plan: str) -> None:
        self.path = ledger.with_name(f"{ledger.name}.{digest([run, plan])[:32]}.answers")
        self._entries: list[bytes] | None = None

    def create(self) -> None:
        """Creates the file, durably, unless it exists."""
        if not self.path.exists():
            replace_durably(self.path, HEADER, mode=0o600)

    def require(self) -> None:
        """Raises LedgerError if the file, which a stage needs once it has asked, is missing."""
        if not self.path.exists():
            raise LedgerError(
                f"{self.path} must lie beside its ledger until the run is finished, and is not "
                "there: it tells which answers were seen, and without it a step could be answered "
                "twice under one charge. Put it back (it is moved together with the ledger), or "
                "start a new run folder, which is charged anew"
            )

    def _read(self) -> list[bytes]:
        if self._entries is None:
            held = read_bytes(self.path, ANSWERS_BYTES) if self.path.exists() else HEADER
            if not held.startswith(HEADER):
                raise LedgerError(
                    f"{self.path} must begin with {HEADER.decode().strip()!r}: it is damaged, or "
                    "of an earlier version, with which the run is finished. Otherwise start a new "
                    "run folder, which is charged anew"
                )
            # A torn last entry was never acknowledged.
            starts = range(len(HEADER), len(held) - ENTRY_BYTES + 1, ENTRY_BYTES)
            self._entries = [held[start : start + ENTRY_BYTES] for start in starts]
        return self._entries

    def __len__(self) -> int:
        """Returns the largest number of releases whose answers a saved state holds."""
        return len(self._read())

    def contradict(self, release: int, entry: Entry) -> bool:
        """Returns whether a saved state holds another question or another answer for this release.
        An entry without an answer yet contradicts no answer.
        """
        for held in self._read()[release : release + 1]:
            question, answer = held[:DIGEST_BYTES].hex(), held[DIGEST_BYTES:].hex()
            return entry.question != question or entry.answer not in (None, answer)
        return False

    def add(self, entries: Sequence[Entry]) -> None:
        """Appends the entries of the next releases; they are on disk when this returns. Raises
        ValueError for one that has no answer.
        """
        if any(entry.answer is None for entry in entries):
            raise ValueError("every release of a saved state must have an answer, one has none")
        held = self._read()
        new = [bytes.fromhex(f"{entry.question}{entry.answer}") for entry in entries]
        with open(os.open(self.path, os.O_WRONLY | os.O_CLOEXEC), "r+b") as file:
            file.seek(len(HEADER) + ENTRY_BYTES * len(held))
            file.write(b"".join(new))
            file.flush()
            os.fsync(file.fileno())
        held.extend(new)

    def forget(self) -> None:
        """Deletes the file: a finished stage is never asked again."""
        self.path.unlink(missing_ok=True)
        self._entries = None
