"""The file in which an installation keeps the keyed marks of the records of one ledger.

A mark is 8 bytes of an HMAC under the installation's key (`dpgen.data.identity` computes them).
Without the key nobody can test whether an image is marked; with it anyone can, so a backup of key
and marks is as secret as a list of who is in the data. Marks are added in blocks and never removed:
a data set that shrinks is still recognised by what it once held.

Layout: one line ``dpgen-marks/1 {"ledger": PATH}``, then the blocks, each a count (8 bytes), the
SHA-256 of its marks (32 bytes) and the marks themselves in rising order (8 bytes each); all numbers
little-endian. The ledger names the SHA-256 of each block, so a lost block is noticed, and a number
of records stands in no ledger.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dpgen.files import TEXT_BYTES, parse_json, read_bytes
from dpgen.privacy.chain import LedgerError, replace_durably, sweep_partials

SCHEMA = b"dpgen-marks/1 "
MARK_BYTES = 8
MARKS_BYTES = 2**32  # of a file: the marks of 500 million records
_COUNT_BYTES, _DIGEST_BYTES = 8, 32
_ON_DISK = np.dtype("<u8")


def digest_of(marks: np.ndarray) -> str:
    """SHA-256 of marks in rising order, in hexadecimal: how a ledger names a block."""
    return hashlib.sha256(marks.astype(_ON_DISK).tobytes()).hexdigest()


def n_shared(one: np.ndarray, other: np.ndarray) -> int:
    """How many marks are in both. Each is (N,) uint64, distinct and in rising order."""
    few, many = sorted((one, other), key=len)
    if not len(few):
        return 0
    places = np.searchsorted(many, few)
    inside = places < len(many)
    return int((many[places[inside]] == few[inside]).sum())


class RecordMarks(NamedTuple):
    """What a marks file holds.

    ledger: where the ledger lies, as whoever wrote the file put it.
    blocks: marks in the order in which they were added, each block (N,) uint64 in rising order.
    names: SHA-256 of each block, as `digest_of` gives it.
    """

    ledger: str
    blocks: tuple[np.ndarray, ...]
    names: tuple[str, ...]

    @property
    def all(self) -> np.ndarray:
        """Every mark once, in rising order, (N,) uint64."""
        if len(self.blocks) == 1:
            return self.blocks[0]
        return np.unique(np.concatenate([np.empty(0, np.uint64), *self.blocks]))

    def new_among(self, marks: np.ndarray) -> np.ndarray:
        """Those of ``marks`` that are not there yet."""
        return np.setdiff1d(marks, self.all, assume_unique=True)


class MarksFile:
    """The marks of one ledger's records, mode 0600.

    Args:
        path: the file; it need not exist yet. Writers must be kept apart by a lock.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> RecordMarks | None:
        """What the file holds, None without one. Raises LedgerError when it is damaged."""
        if not self.path.exists():
            return None
        content = read_bytes(self.path, MARKS_BYTES)
        try:
            return _parsed(content, str(self.path))
        except (ValueError, LookupError, TypeError):
            raise LedgerError(
                f"the marks file {self.path} is damaged: restore it from a backup"
            ) from None

    def add(self, ledger: str, marks: np.ndarray) -> tuple[str, ...]:
        """Adds the marks that are not there yet, on disk when it returns.

        Args:
            ledger: where the ledger lies now.
            marks: (N,) uint64, distinct and in rising order; N may be 0.

        Returns:
            The names of all blocks, the added one among them.
        """
        sweep_partials(self.path)
        held = self.read() or RecordMarks("", (), ())
        new = held.new_among(marks)
        added = len(new) > 0 or not held.blocks
        if not added and held.ledger == ledger:
            return held.names
        whole = (*held.blocks, new) if added else held.blocks
        head = SCHEMA + json.dumps({"ledger": ledger}).encode() + b"\n"
        content = head + b"".join(map(_packed, whole))
        if len(content) > MARKS_BYTES:
            raise LedgerError(
                f"the marks file {self.path} must have at most {MARKS_BYTES} bytes, with these "
                f"records it would have {len(content)}: nothing was written"
            )
        replace_durably(self.path, content, mode=0o600)
        return (*held.names, digest_of(new)) if added else held.names


def _packed(block: np.ndarray) -> bytes:
    marks = block.astype(_ON_DISK).tobytes()
    count = len(block).to_bytes(_COUNT_BYTES, "little")
    return count + hashlib.sha256(marks).digest() + marks


def _parsed(content: bytes, name: str) -> RecordMarks:
    """Raises ValueError for what is no marks file, whole and unchanged."""
    end = content.index(b"\n", 0, TEXT_BYTES)
    if not content.startswith(SCHEMA):
        raise ValueError("another schema")
    ledger = parse_json(content[len(SCHEMA) : end].decode(), name)["ledger"]
    if type(ledger) is not str:
        raise ValueError("no path")
    blocks, names, place = [], [], end + 1
    while place < len(content):
        start = place + _COUNT_BYTES + _DIGEST_BYTES
        count = int.from_bytes(content[place : place + _COUNT_BYTES], "little")
        stop = start + count * MARK_BYTES
        held = content[start:stop]
        digest = content[place + _COUNT_BYTES : start]
        if stop > len(content) or hashlib.sha256(held).digest() != digest:
            raise ValueError("a block is torn or changed")
        blocks.append(np.frombuffer(held, _ON_DISK).astype(np.uint64))
        names.append(digest.hex())
        place = stop
    return RecordMarks(ledger, tuple(blocks), tuple(names))
