"""Remembers, beside the ledger, which questions the answers in a saved state belong to, and which
answers they are.

A copy of a state on disk shows the answers that it was made of. A resume starts from the last
state; from an earlier one that was put back, it meets releases whose answers were seen. Such a
release may be asked what it was asked before, and nothing else, and what comes of it must be the
same answer in every bit: a sum that another number of threads has added up ends in other bits and
gets other noise, which would be a second answer. What was answered and never saved is gone with the
process, and the charge of those releases is unused.

The run folder cannot remember this, it may be the one that was put back. The file lies beside the
ledger, is there before the ledger says that the stage has asked anything, and goes when the stage
is finished: 64 bytes a release, the digests of its question and of its answer, from release 0 on
without a gap. They are written before the state is saved, so a state that holds more answers than
the file knows was changed, or the file was. Both are written under the lock of the ledger, by the
last descendant alone.

What this cannot see is a file that was cut, or put back to an earlier state, by whoever may write
beside the ledger: as with a ledger that was copied with its folder, that person is believed.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from dpgen.privacy.ledger.chain import LedgerError
from dpgen.storage.canonical import digest
from dpgen.storage.durable import replace_durably
from dpgen.storage.files import read_bytes

HEADER = b"dpgen-answers/2\n"
DIGEST_BYTES = 32
ENTRY_BYTES = 2 * DIGEST_BYTES
ANSWERS_BYTES = 2**30  # of a file: those of 16 million releases


def answer_digest(tensors: Mapping[str, Tensor]) -> str:
    """Computes the SHA-256 of what a release hands out: names, types, shapes and every bit."""
    found = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        found.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        found.update(flat.view(torch.uint8).numpy().data)
    return found.hexdigest()


class Entry(NamedTuple):
    """What is known of one release: digests of its question and, once it is there, its answer."""

    question: str
    answer: str | None = None


class Answers:
    """The questions and answers of one stage of one run that a saved state holds.

    Args:
        ledger: where the ledger lies.
        run: id of the run.
        plan: the plan hash of the stage.
    """

    def __init__(self, ledger: Path, run: str, plan: str) -> None:
        self.path = ledger.with_name(f"{ledger.name}.{digest([run, plan])[:32]}.answers")
        self._entries: list[bytes] | None = None

    def create(self) -> None:
        """Makes the file, durably, unless it is there."""
        if not self.path.exists():
            replace_durably(self.path, HEADER, mode=0o600)

    def require(self) -> None:
        """Raises LedgerError where a stage has asked a question and the file is gone."""
        if not self.path.exists():
            raise LedgerError(
                f"{self.path} must lie beside its ledger until the run is finished, and is not "
                "there: it tells which answers were seen, and without it a step could be answered "
                "twice under one charge. Put it back (who moves a ledger moves it, too), or start "
                "a new run folder, which is charged anew"
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
        """Returns the largest number of releases that a saved state holds."""
        return len(self._read())

    def contradict(self, release: int, entry: Entry) -> bool:
        """Returns whether a saved state holds another question or another answer of this release;
        an answer that is not there yet contradicts nothing.
        """
        for held in self._read()[release : release + 1]:
            question, answer = held[:DIGEST_BYTES].hex(), held[DIGEST_BYTES:].hex()
            return entry.question != question or entry.answer not in (None, answer)
        return False

    def add(self, entries: Sequence[Entry]) -> None:
        """Adds the next releases, on disk when it returns. Raises ValueError for one that has no
        answer.
        """
        if any(entry.answer is None for entry in entries):
            raise ValueError("a state must hold answers that were given, one of these was not")
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
