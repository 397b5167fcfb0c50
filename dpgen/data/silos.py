"""Reads which silo each record is of, and what is declared public of the silos."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar, runtime_checkable

import numpy as np

from dpgen.data.formats.records import Records
from dpgen.data.formats.unit_ids import FOLDERS, unit_id
from dpgen.data.identity import installation_key, joined, record_digest
from dpgen.privacy.mechanisms.ensemble import NoisyEnsemble
from dpgen.privacy.mechanisms.silos import Silos
from dpgen.privacy.plan import Plan

if TYPE_CHECKING:
    from dpgen.data.sources import Source

PURPOSE = b"dpgen silos of records"
LIST, GIVEN = "a CSV file", "ids given with the records"
Place = str | Path
T = TypeVar("T")
# In messages of the readers, which speak of units.
WORDS = (
    ("--unit", "--silo"), ("unit=", "silo="), ("unit ids", "silo ids"), ("unit id", "silo id"),
    ("(a person with two ids would count as two)", "(one under two ids would count as two)"),
    ("one of its own if nobody else's records can be meant, or ", "or "),
    ("PERSON/", "SILO/"), ("people", "silos"), ("its person", "its silo"),
    ("a person", "a silo"), ("'person' for one", "'silo' for one"),
)  # fmt: skip


@runtime_checkable
class OfSilos(Protocol):
    """A `Source` whose records are each of a silo."""

    @property
    def silos(self) -> Silos | None:
        """Returns the silos, all of it public; None where none were asked for."""

    def silo_of(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Returns the number of the silo of each of these records, (B,) int64."""


@dataclass(frozen=True)
class SiloIds:
    """Where it is written which silo each record is of, and what is declared of the silos.

    Args:
        ids: as `dpgen.data.units.Units.ids`; with ``top-folder`` silos are the folders above the
            classes, SILO/CLASS/.
        most: the most records of a silo that its teacher sees, at least 1.
        names: the ids of all silos, in any order, among them those without records; None declares
            those that the data name.
    """

    ids: Place | Sequence[str | int]
    most: int
    names: Sequence[str | int] | None = None

    def __post_init__(self) -> None:
        if isinstance(self.ids, str) and not self.ids:
            raise ValueError("silo must be a column, 'folder', 'top-folder' or a CSV file, got ''")
        if isinstance(self.names, str):
            raise ValueError(f"silos must be a list of names, got {self.names!r:.60}")

    @property
    def place(self) -> Place | None:
        """Returns the column, the kind of folder or the CSV file; None for ids one by one."""
        if isinstance(self.ids, str) and self.ids not in FOLDERS and self.ids.endswith(".csv"):
            return Path(self.ids)
        return self.ids if isinstance(self.ids, Place) else None

    def declared(self, found: Sequence[str]) -> Silos:
        """Returns what is public of the silos, for these ids of the records."""
        given = set(found) if self.names is None else (unit_id(x, "silos") for x in self.names)
        names = sorted(given)
        for name in names:
            if any(not letter.isprintable() for letter in name):
                raise ValueError(f"silo ids must be printable text, got {name!r:.60}: rename it")
        place = GIVEN if self.place is None else self.place
        return Silos(LIST if isinstance(place, Path) else place, tuple(names), self.most)


def in_silos(
    read: Callable[..., Records], asked: SiloIds, unit: Place | None
) -> tuple[Records, Silos]:
    """Returns the records of a location with their silo ids, and with their unit ids where those
    are asked for; and the silos.

    Raises ValueError for a record of a silo that was not declared.

    Args:
        read: reads the records with the ids that stand in a place, None for none; in a CSV file in
            the column of a second argument, "unit" without it.
        asked: the silos.
        unit: where unit ids stand, if they are asked for.
    """
    if asked.place is None:
        records = read(unit)
        ids = _told_of_silos(lambda: _given(asked.ids, len(records.labels)))
    else:
        place = asked.place
        records = _told_of_silos(lambda: read(place, "silo"))
        assert records.units is not None
        ids, records = records.units, replace(records, units=None)
        if unit is not None:
            records = _both(records, read(unit))
    silos = _told_of_silos(lambda: asked.declared(ids))
    silos.numbers(ids)
    return replace(records, silos=ids), silos


def _told_of_silos(read: Callable[[], T]) -> T:
    """Reads ids, with errors that speak of silos."""
    try:
        return read()
    except ValueError as error:
        said = str(error)
        for theirs, ours in WORDS:
            said = said.replace(theirs, ours)
        raise type(error)(said) from None


def _given(ids: object, n_records: int) -> tuple[str, ...]:
    assert isinstance(ids, Sequence)
    if len(ids) != n_records:
        raise ValueError(
            f"silo must hold one id per record, got {len(ids)} ids and {n_records} records"
        )
    return tuple(unit_id(value, f"record {i}") for i, value in enumerate(ids))


def _both(records: Records, with_units: Records) -> Records:
    """Returns the records with the units that another reading found. Raises ValueError unless both
    found the same records in the same order.
    """
    names = [[one.name_fn(i) for i in range(len(one.labels))] for one in (records, with_units)]
    if names[0] != names[1] or not np.array_equal(records.labels, with_units.labels):
        raise ValueError(
            "--silo and --unit must read the same records with the same labels, and these do not: "
            "write both ids in columns of one table"
        )
    return replace(records, units=with_units.units)


def silos_of(source: Source) -> Silos | None:
    """Returns the silos of a source; None where none were asked for."""
    return source.silos if isinstance(source, OfSilos) else None


def require_silos(plan: Plan, source: Source) -> None:
    """Raises ValueError unless every ensemble of the plan is of the silos of these records, and
    there is one if the records have silos.
    """
    silos = silos_of(source)
    planned = [
        stage.mechanism.silos for stage in plan.stages if isinstance(stage.mechanism, NoisyEnsemble)
    ]
    if any(one != silos for one in planned) or (silos is not None and not planned):
        raise ValueError(
            "the plan must be for the silos of the records that are opened: open them as they were "
            "when it was made (--silo, --silos, --max-records-per-silo)"
        )


def assigned(source: Source) -> str:
    """Returns a keyed hash of which silo each record is of; "" for records without silos. It shows
    that records have moved since a run was begun, and is of no use without the installation's key.
    """
    if not isinstance(source, OfSilos) or source.silos is None:
        return ""
    key = hmac.digest(installation_key(), PURPOSE, "sha256")
    keyed, names = hmac.new(key, digestmod="sha256"), source.silos.names
    numbers = source.silo_of(range(len(source))).tolist()
    digests = (
        record_digest(keyed, pixels, f"{label}:{names[number]!r}:")
        for number, (pixels, label) in zip(numbers, source.raw_records(), strict=True)
    )
    return f" {joined(key, digests)}"
