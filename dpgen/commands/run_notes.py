"""Where the runs of an installation lie and what they learned from: notes, for people's use alone.

A ledger names neither: it says what was spent, and may be shown to others. Nothing is decided by a
note, and one that is lost costs a line in a table.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from dpgen.data.identity import home
from dpgen.data.remote import is_address
from dpgen.privacy.ledger.privacy_ledger import PrivacyLedger
from dpgen.privacy.statements.document import read_document
from dpgen.runs.folder import RunFolder
from dpgen.storage.canonical import canonical
from dpgen.storage.durable import held_alone, replace_durably
from dpgen.storage.files import TEXT_BYTES, parse_json, read_json, read_text

__all__ = ["RunNote", "folders", "note_of", "note_run", "run_notes"]

SCHEMA = "dpgen-runs/1"
MOST = 1000  # notes that are kept, the newest
LEDGER_BYTES = 2**26  # of a run's copy of its lines


@dataclass(frozen=True)
class RunNote:
    """A run that was charged here.

    Args:
        folder: of the run, in full.
        data: path in full, or address, of the private images.
        reading: the options that they were read with, as they are typed.
        time: when it was noted last, ISO 8601, UTC.
    """

    folder: str
    data: str
    reading: tuple[str, ...]
    time: str


def note_run(folder: Path, ledger: PrivacyLedger, data: str, reading: Sequence[str]) -> None:
    """Notes a run that was charged, finished or not, in the place of an earlier note on its folder.
    Does nothing where it was not charged, or the note cannot be written.

    Args:
        folder: of the run.
        ledger: that a run in the folder is in, or the folder holds another one's.
        data: path or address of the images.
        reading: the options that they were read with.
    """
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, IndexError):
        if any(line.get("run") == _id(folder) for line in ledger.lines()):
            _write(folder, data, reading)


def _write(folder: Path, data: str, reading: Sequence[str]) -> None:
    where = data if is_address(data) else str(Path(data).absolute())
    now = datetime.now(UTC).isoformat(timespec="seconds")
    new = RunNote(str(folder.absolute()), where, tuple(reading), now)
    path = _file()
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with held_alone(path):
        notes = [note for note in run_notes() if note.folder != new.folder]
        told = {"schema": SCHEMA, "runs": [asdict(note) for note in [*notes, new][-MOST:]]}
        replace_durably(path, canonical(told).encode(), mode=0o600)


def run_notes() -> list[RunNote]:
    """Returns the notes, oldest first; of a file that cannot be read, none."""
    try:
        held = read_json(_file(), 16 * TEXT_BYTES)
        if held["schema"] != SCHEMA:
            return []
        return [
            RunNote(str(x["folder"]), str(x["data"]), tuple(map(str, x["reading"])), str(x["time"]))
            for x in held["runs"]
        ]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def note_of(dataset: str) -> RunNote | None:
    """Returns the newest note on a finished run of a data set, by the name that certificates give
    it.
    """
    for note in reversed(run_notes()):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            document = read_document(Path(note.folder))  # refuses a run that is not finished
            if document.content["data_set"]["name"] == dataset:
                return note
    return None


def folders() -> dict[str, RunNote]:
    """Returns the notes by the id of the run that lies in their folder now."""
    found = {}
    for note in run_notes():
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, IndexError):
            found[_id(Path(note.folder))] = note
    return found


def _id(folder: Path) -> str:
    unfinished = RunFolder.id_of(folder)
    if unfinished is not None:
        return unfinished
    lines = read_text(folder / "ledger.jsonl", LEDGER_BYTES).splitlines()
    runs = (parse_json(line, "a line of a ledger").get("run") for line in lines)
    return [str(run) for run in runs if run is not None][0]


def _file() -> Path:
    return home() / "runs.json"
