"""Identifies a data set and the records that it shares with others, without revealing its content:
fingerprints and marks under a secret key.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from dpgen.privacy.ledger.chain import LedgerError
from dpgen.privacy.ledger.known_ledgers import KnownLedgers
from dpgen.privacy.ledger.marks import MARK_BYTES
from dpgen.storage.durable import held_alone, replace_durably, sweep_partials
from dpgen.storage.files import TEXT_BYTES, read_bytes

if TYPE_CHECKING:
    from dpgen.data.formats.records import Records
    from dpgen.data.sources import Source


def home() -> Path:
    """Returns the folder of this installation's key and ledgers: ``$DPGEN_HOME``, else
    ``~/.local/state/dpgen``.
    """
    return Path(os.environ.get("DPGEN_HOME") or Path.home() / ".local" / "state" / "dpgen")


def installation_key() -> bytes:
    """Returns the secret key for fingerprints of data sets and marks of records, drawn once. It is
    needed to test whether a record is in a data set.

    Raises LedgerError when it is missing while there are ledgers: under a new key no data set would
    be recognised, and each would get a fresh budget.
    """
    # Imported here because it loads torch, which callers of `home` do not need.
    from dpgen.privacy.mechanisms.noise import KEY_BYTES, new_key

    path = home() / "key"
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not path.exists() or any(path.parent.glob(".key.*.partial")):
        with held_alone(path):
            sweep_partials(path)  # deletes secrets that a killed writer left
            if not path.exists():  # the first of two racing processes writes it, both read it
                if any((home() / "ledgers").glob("*.jsonl")):
                    raise LedgerError(
                        f"the installation key {path} is missing, and without it the ledgers "
                        "beside it fit no data set: restore it from a backup"
                    )
                replace_durably(path, new_key(), mode=0o600)
    key = read_bytes(path, TEXT_BYTES)
    if len(key) != KEY_BYTES:
        raise LedgerError(f"the installation key {path} is damaged: restore it from a backup")
    return key


def known_ledgers() -> KnownLedgers:
    """Returns the ledgers of this installation, under the public name of its key; makes no key."""
    name = ""
    if (home() / "key").exists():
        name = hmac.digest(installation_key(), b"dpgen installation", "sha256").hex()[:16]
    return KnownLedgers(home() / "ledgers", name)


class Identity(NamedTuple):
    """A data set and its records, as an installation identifies them.

    fingerprint: hash of the whole data set with its labels, 64 hexadecimal digits, which names the
        ledger.
    marks: marks of the single records, (M,) uint64, distinct and in ascending order; M is the
        number of different images of more than one colour.
    """

    fingerprint: str
    marks: np.ndarray


def identify(source: Source, key: bytes) -> Identity:
    """Computes fingerprint and marks, in one pass over the decoded records.

    The fingerprint is an HMAC over the sorted HMACs of records with their labels, before any
    resize: the same images in another order or another lossless format are the same data set, a
    grown data set is another one.

    A mark is the first 8 bytes of an HMAC of the pixels alone, in a canonical form: an RGB image
    whose three channels are equal counts as grey. So a record is recognised in another order, in
    another lossless format, among other records, and under another label or none. It is not
    recognised when a single pixel differs: after a resize, a crop, another value range, a lossy
    compression, a rotation. Copies within a data set have one mark. An image of a single colour has
    none: it shows nothing, and unrelated data sets may hold the same one.

    Two different images have the same mark with probability 2^-64. Of 10^6 images against 100
    ledgers of 10^6, the expected number of false matches is 10^6 10^8 / 2^64 = 5e-6.
    """
    keyed = hmac.new(key, digestmod="sha256")
    digests, marks = [], bytearray()
    for pixels, label in source.raw_records():
        digests.append(record_digest(keyed, pixels, f"{label}:"))
        marks += _mark(pixels, keyed) or b""
    shown = np.unique(np.frombuffer(bytes(marks), "<u8").astype(np.uint64))
    return Identity(joined(key, digests), shown)


def record_digest(keyed: hmac.HMAC, pixels: np.ndarray, words: str) -> bytes:
    """Computes the HMAC of a record: its pixels, and in words what else belongs to it."""
    record = keyed.copy()
    record.update(f"{pixels.shape}:{words}".encode() + np.ascontiguousarray(pixels).tobytes())
    return record.digest()


def joined(key: bytes, digests: Iterable[bytes]) -> str:
    """Computes the HMAC of the digests of all records, whatever their order."""
    return hmac.new(key, b"".join(sorted(digests)), "sha256").hexdigest()


def fingerprint(source: Source, key: bytes) -> str:
    """Computes only the fingerprint of `identify`."""
    return identify(source, key).fingerprint


def overlap(source: Source, other: Source) -> int:
    """Counts the different images of ``other`` that are in ``source``: as decoded, which `identify`
    recognises, or as either is learned from, after the public resize. Of ``source`` those count,
    too, that a count of units leaves out. It leaves no trace in the installation.
    """
    from dpgen.privacy.mechanisms.noise import new_key

    key, whole = new_key(), getattr(source, "uncounted", None)
    own = _marked(source if whole is None else _Raw(whole, source.shape), key)
    theirs = _marked(other, key)
    known = own.marks[own.shown]
    shared = np.isin(theirs.marks, known) & theirs.shown
    return len(np.unique(theirs.marks[shared.any(1), 0]))


def marks_learned(source: Source, key: bytes) -> np.ndarray:
    """Computes the marks of all images, as decoded and as they are learned from after the public
    resize: (M,) uint64, distinct and in ascending order.
    """
    found = _marked(source, key)
    return np.unique(found.marks[found.shown])


class _Marked(NamedTuple):
    """Marks of images, (N, 2) uint64, as decoded and as learned from, and whether there is one."""

    marks: np.ndarray
    shown: np.ndarray


def _marked(source: Source | _Raw, key: bytes) -> _Marked:
    from dpgen.data.formats.pictures import fit_picture

    keyed, (depth, height, width) = hmac.new(key, digestmod="sha256"), source.shape
    found: list[tuple[bytes | None, bytes | None]] = []
    for pixels, _ in source.raw_records():
        size = None if pixels.shape[:2] == (height, width) else height
        learned = fit_picture(pixels, size, depth)
        mark = _mark(pixels, keyed)
        found.append((mark, mark if learned is pixels else _mark(learned, keyed)))
    content = b"".join(mark or bytes(MARK_BYTES) for both in found for mark in both)
    marks = np.frombuffer(content, "<u8").astype(np.uint64).reshape(-1, 2)
    shown = np.array([mark is not None for both in found for mark in both], bool)
    return _Marked(marks, shown.reshape(-1, 2))


class _Raw:
    """Records as decoded, and the shape in which they are learned from."""

    def __init__(self, records: Records, shape: tuple[int, int, int]) -> None:
        self._records, self.shape = records, shape

    def raw_records(self) -> Iterator[tuple[np.ndarray, int]]:
        for i, label in enumerate(self._records.labels.tolist()):
            yield self._records.decode_fn(i), label


def _mark(pixels: np.ndarray, keyed: hmac.HMAC) -> bytes | None:
    """Returns the mark of an image, uint8 (H, W, C); None for a single colour."""
    shown = _canonical(np.ascontiguousarray(pixels).tobytes(), pixels.shape)
    if shown is None:
        return None
    image = keyed.copy()
    image.update(shown)
    return image.digest()[:MARK_BYTES]


def _canonical(content: bytes, shape: tuple[int, ...]) -> bytes | None:
    """Returns the bytes from which the mark of an image is made; None for a single colour.

    Args:
        content: uint8 pixels, (H, W, C), row by row.
    """
    height, width, depth = shape
    if depth == 3 and content[::3] == content[1::3] == content[2::3]:
        content, depth = content[::3], 1
    if content == content[:depth] * (height * width):
        return None
    # The prefix differs from that of every record in a fingerprint.
    return f"image {height}x{width}x{depth}:".encode() + content
