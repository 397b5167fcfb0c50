"""The ledgers that an installation knows, and which of them hold records of a data set.

An installation knows the ledgers in its own folder, and those elsewhere that one of its runs was
charged to. Each has a marks file here, ``DATASET.marks``, named by the random name in the ledger's
open line, which also states the ledger's path. Marks are useful only with the installation's key,
so they are kept in the installation: a ledger that was moved is found again by its name, and one
that was lost is still recognised by its records.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dpgen.privacy.ledger.chain import LEDGER_BYTES, LedgerError, check_fields
from dpgen.privacy.ledger.marks import MarksFile, RecordMarks, n_shared
from dpgen.storage.durable import held_alone
from dpgen.storage.files import parse_json, read_bytes

MARKED = b'"kind":"marked"'  # as it is written in a canonical line


class Overlap(NamedTuple):
    """A known ledger that holds some of the images of a data set.

    path: path of the ledger.
    dataset: its random name.
    shared: number of different images that are in both.
    known: number of different images of which the ledger has marks.
    """

    path: Path
    dataset: str
    shared: int
    known: int

    def __str__(self) -> str:
        return self.told("images")

    def told(self, noun: str) -> str:
        """Says how many of them, which are called so, are in the ledger."""
        return f"{self.shared} different {noun} are in the ledger {self.path} ({self.dataset})"


class KnownLedger(NamedTuple):
    """One ledger of the installation.

    path: path of the ledger.
    dataset: its random name; None where the file states none.
    marks: marks of its records; None for a ledger from a version without marks, or whose marks were
        made under the key of another installation: overlap with it cannot be detected.
    missing: the blocks of marks that it names and this installation has lost.
    declared: whether records were added to it that its fingerprint does not cover.
    """

    path: Path
    dataset: str | None
    marks: RecordMarks | None
    missing: tuple[str, ...]
    declared: bool


class KnownLedgers:
    """The ledgers of one installation.

    Args:
        folder: the folder of its ledgers and of all marks.
        key: the public name of the installation's key, by which a ledger's lines state under whose
            key its marks were made.
    """

    def __init__(self, folder: Path, key: str) -> None:
        self.folder, self.key = folder, key

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Holds a lock that keeps other runs of the installation from beginning: of two runs that
        share a record the second must see the first.
        """
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with held_alone(self.folder / "known"):
            yield

    def file_of(self, dataset: str) -> MarksFile:
        """Returns the marks file of a ledger, given the name in its open line."""
        if not dataset.isalnum():
            raise LedgerError(f"a ledger must be named by letters and digits, got {dataset!r:.60}")
        return MarksFile(self.folder / f"{dataset}.marks")

    def place_of(self, path: Path) -> str:
        """Returns a ledger's place as marks files state it: by name alone within the installation's
        folder, so that the folder can be moved, and by absolute path elsewhere.
        """
        whole = path.resolve()
        return whole.name if whole.parent == self.folder.resolve() else str(whole)

    def path_at(self, place: str) -> Path:
        """Returns the path of a ledger from the place that `place_of` states."""
        return self.folder / place  # an absolute path stays as it is

    def all(self) -> list[KnownLedger]:
        """Returns every known ledger, sorted by path."""
        held = {p.stem: MarksFile(p).read() for p in sorted(self.folder.glob("*.marks"))}
        found = [self._glance(path, held) for path in sorted(self.folder.glob("*.jsonl"))]
        here = {ledger.dataset for ledger in found}
        for name, marks in held.items():
            if name not in here and marks is not None:
                there = self._glance(self.path_at(marks.ledger), held)
                # The ledger is gone or another took its place; its records are still known.
                gone = KnownLedger(there.path, name, marks, (), True)
                found.append(there if there.dataset == name else gone)
        return sorted(found, key=lambda ledger: (ledger.path, str(ledger.dataset)))

    def glance(self, path: Path) -> KnownLedger:
        """Summarises the ledger at ``path``."""
        dataset = _named(path, self.key)[0]
        marks = None if dataset is None else self.file_of(dataset).read()
        return self._glance(path, {} if dataset is None else {dataset: marks})

    def _glance(self, path: Path, held: dict[str, RecordMarks | None]) -> KnownLedger:
        dataset, marked = _named(path, self.key)
        marks = None if dataset is None else held.get(dataset)
        names = [line["block"] for line in marked]
        missing = tuple(name for name in names if marks is None or name not in marks.blocks)
        declared = any(line["declared"] for line in marked)
        return KnownLedger(path, dataset, marks, missing, declared)

    def sharing(self, marks: np.ndarray, *, own: str | None) -> list[Overlap]:
        """Returns the known ledgers other than ``own`` that hold at least one of these records,
        sorted by how many they hold, most first.

        Raises LedgerError when a ledger has lost its marks: overlap with it cannot be detected,
        and is not assumed to be none.

        Args:
            marks: (N,) uint64, distinct and in ascending order.
            own: the name of the ledger that the data are charged to anyway.
        """
        found = []
        for ledger in self.all():
            if ledger.dataset is None or ledger.dataset == own:
                continue
            if ledger.missing:
                raise LedgerError(self.lost_marks(ledger))
            theirs = np.empty(0, np.uint64) if ledger.marks is None else ledger.marks.all
            shared = n_shared(marks, theirs)
            if shared:
                found.append(Overlap(ledger.path, ledger.dataset, shared, len(theirs)))
        return sorted(found, key=lambda overlap: -overlap.shared)

    def lost_marks(self, ledger: KnownLedger) -> str:
        """Returns the error message for a ledger whose marks are lost."""
        return (
            f"the ledger {ledger.path} has lost the marks of its records, "
            f"{self.folder / f'{ledger.dataset}.marks'}, and without them it cannot be told which "
            "data share records with it. Nothing was read. Restore the file from a backup"
            + (
                ""
                if ledger.declared
                else ", or train once more on that very data set without --ledger: the marks are "
                "made again even if the run is refused"
            )
        )


def _named(path: Path, key: str) -> tuple[str | None, list[dict[str, Any]]]:
    """Reads a ledger's name, and its lines about marks under ``key``. Whether the ledger is intact
    is checked only when it is charged.
    """
    try:
        rows = read_bytes(path, LEDGER_BYTES).split(b"\n")
        dataset = str(parse_json(rows[0].decode(), str(path))["dataset"])
    except (OSError, ValueError, LookupError, TypeError):
        return None, []
    marked = []
    for row in rows:
        if MARKED in row:
            with contextlib.suppress(ValueError, LookupError, TypeError):
                line = parse_json(row.decode(), str(path))
                check_fields([line], str(path))
                if line["kind"] == "marked" and line["key"] == key:
                    marked.append(line)
    return dataset, marked
