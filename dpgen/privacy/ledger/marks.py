"""The file in which an installation keeps the keyed marks of the records of one ledger.

A mark is 8 bytes of an HMAC under the installation's key (`dpgen.data.identity` computes them).
The key is necessary and sufficient to test whether an image is marked: a backup of key and marks is
as secret as a list of who is in the data. Marks are added in blocks and never removed, so a data
set that shrinks is still recognised by what it once held.

Layout: one line ``dpgen-marks/1 {"ledger": PATH}``, then the blocks, each its random name (16
bytes), a count (8 bytes), the SHA-256 of its marks (32 bytes) and the marks themselves in rising
order (8 bytes each); all numbers little-endian. The ledger names each block, so a lost one is
noticed. Names are random and every charged run adds one block, even an empty one: everything in a
ledger enters the hashes that a run publishes, and so must not depend on the records.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dpgen.privacy.ledger.chain import LedgerError
from dpgen.storage.durable import replace_durably, sweep_partials
from dpgen.storage.files import TEXT_BYTES, parse_json, read_bytes

SCHEMA = b"dpgen-marks/1 "
MARK_BYTES = 8
MARKS_BYTES = 2**32  # the most bytes of a file: the marks of 500 million records
_NAME_BYTES, _COUNT_BYTES, _DIGEST_BYTES = 16, 8, 32
_ON_DISK = np.dtype("<u8")


def n_shared(one: np.ndarray, other: np.ndarray) -> int:
    """Counts the marks that are in both. Each is (N,) uint64, distinct and in ascending order."""
    few, many = sorted((one, other), key=len)
    if not len(few):
        return 0
    places = np.searchsorted(many, few)
    inside = places < len(many)
    return int((many[places[inside]] == few[inside]).sum())


class RecordMarks(NamedTuple):
    """The content of a marks file.

    ledger: path of the ledger, as the writer of the file stated it.
    blocks: the blocks by name, in the order in which they were added; each is (N,) uint64 in
        ascending order, and no mark is in two.
    """

    ledger: str
    blocks: dict[str, np.ndarray]

    @property
    def all(self) -> np.ndarray:
        """Returns every mark once, in ascending order, (N,) uint64."""
        filled = [block for block in self.blocks.values() if len(block)]
        if len(filled) == 1:
            return filled[0]
        return np.unique(np.concatenate([np.empty(0, np.uint64), *filled]))


class MarksFile:
    """The marks of one ledger's records, mode 0600.

    Args:
        path: the file; it need not exist yet. Writers must be kept apart by a lock.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> RecordMarks | None:
        """Reads the file; None if there is none. Raises LedgerError when it is damaged."""
        if not self.path.exists():
            return None
        content = read_bytes(self.path, MARKS_BYTES)
        try:
            return _parsed(content, str(self.path))
        except (ValueError, LookupError, TypeError):
            raise LedgerError(
                f"the marks file {self.path} is damaged: restore it from a backup"
            ) from None

    def add(self, ledger: str, marks: np.ndarray, *, name: str | None = None) -> str:
        """Adds a block of those marks that the file does not hold yet; it is on disk when this
        returns.

        Args:
            ledger: the current path of the ledger.
            marks: (N,) uint64, distinct and in ascending order; N may be 0.
            name: name of a block that was lost; a new block gets a random name.

        Returns:
            The name of the block.
        """
        sweep_partials(self.path)
        held = self.read() or RecordMarks("", {})
        name = name or secrets.token_hex(_NAME_BYTES)
        blocks = {**held.blocks, name: np.setdiff1d(marks, held.all, assume_unique=True)}
        head = SCHEMA + json.dumps({"ledger": ledger}).encode() + b"\n"
        content = head + b"".join(_packed(*block) for block in blocks.items())
        if len(content) > MARKS_BYTES:
            raise LedgerError(
                f"the marks file {self.path} must have at most {MARKS_BYTES} bytes, with these "
                f"records it would have {len(content)}: nothing was written"
            )
        replace_durably(self.path, content, mode=0o600)
        return name


def _packed(name: str, block: np.ndarray) -> bytes:
    marks = block.astype(_ON_DISK).tobytes()
    count = len(block).to_bytes(_COUNT_BYTES, "little")
    return bytes.fromhex(name) + count + hashlib.sha256(marks).digest() + marks


def _parsed(content: bytes, name: str) -> RecordMarks:
    """Reads the content of a marks file. Raises ValueError if it is not whole and unchanged."""
    end = content.index(b"\n", 0, TEXT_BYTES)
    if not content.startswith(SCHEMA):
        raise ValueError("another schema")
    ledger = parse_json(content[len(SCHEMA) : end].decode(), name)["ledger"]
    if type(ledger) is not str:
        raise ValueError("no path")
    blocks, place = {}, end + 1
    while place < len(content):
        counted = place + _NAME_BYTES
        summed = counted + _COUNT_BYTES
        start = summed + _DIGEST_BYTES
        stop = start + MARK_BYTES * int.from_bytes(content[counted:summed], "little")
        held = content[start:stop]
        if stop > len(content) or hashlib.sha256(held).digest() != content[summed:start]:
            raise ValueError("a block is torn or changed")
        blocks[content[place:counted].hex()] = np.frombuffer(held, _ON_DISK).astype(np.uint64)
        place = stop
    return RecordMarks(ledger, blocks)
