"""Keeps at most M records of each unit, so that a person changes at most M records of what is used.
"""

from __future__ import annotations

import hmac
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from dpgen.data.formats.records import Records
from dpgen.data.formats.unit_ids import FOLDER_UNIT, unit_id
from dpgen.data.identity import installation_key

PURPOSE = b"dpgen records of a unit"


@dataclass(frozen=True)
class Units:
    """Which unit each record belongs to, and how many records of a unit are used.

    Args:
        ids: the column of unit ids in Parquet or in metadata.csv or .jsonl beside pictures, the
            array of an npz, or the key of the JSON in tar shards; ``folder``, the folder that a
            picture lies in; a CSV file with the columns file_name and unit, of IDX index and unit;
            or, of data in memory, one id per record.
        most: the most records of a unit, at least 1; None keeps all, and nothing is enforced.
    """

    ids: str | Path | Sequence[str | int]
    most: int | None

    def __post_init__(self) -> None:
        if self.most is not None and (
            isinstance(self.most, bool) or not isinstance(self.most, int) or self.most < 1
        ):
            raise ValueError(f"max_records_per_unit must be at least 1, got {self.most!r}")
        if isinstance(self.ids, str) and not self.ids:
            raise ValueError("the unit must be a column, 'folder' or a CSV file, got ''")

    @property
    def place(self) -> str | Path | None:
        """Returns the column, `FOLDER_UNIT` or the CSV file; None for ids given one by one."""
        if isinstance(self.ids, str) and self.ids != FOLDER_UNIT and self.ids.endswith(".csv"):
            return Path(self.ids)
        return self.ids if isinstance(self.ids, str | Path) else None


def counted(records: Records, units: Units, location: object) -> Records:
    """Returns the records of a location with their units, at most ``units.most`` of each, chosen by
    the installation's key.
    """
    if not isinstance(units.ids, str | Path):
        if isinstance(location, str | Path):
            raise ValueError(
                "one unit id per record goes with data in memory; of files name the column, "
                f"'folder' or a CSV file, for {location}"
            )
        records = _with_ids(records, units.ids)
    return records if units.most is None else at_most(records, units.most, installation_key())


def _with_ids(records: Records, ids: Sequence[str | int]) -> Records:
    if len(ids) != len(records.labels):
        raise ValueError(
            f"unit must hold one id per record, got {len(ids)} ids and {len(records.labels)} "
            "records"
        )
    return replace(
        records, units=tuple(unit_id(value, f"record {i}") for i, value in enumerate(ids))
    )


def at_most(records: Records, most: int, key: bytes) -> Records:
    """Returns the records with at most ``most`` of each unit, in their order.

    Of a unit with more, those are kept whose HMAC of decoded pixels and label is smallest; of
    copies in several silos, those whose silo comes first by name. Nothing else enters: no position,
    no file name, no other unit.

    Theorem. Write D_u for the records of unit u, as a multiset of (pixels, label, silo), and k for
    the key, which is drawn independently of the data. What is kept is S(D) = the union over u of
    s_k(D_u), with s_k(D_u) = D_u where it has at most M records, else its M records of smallest
    HMAC under k; records of one value are the same record, so which copy is kept makes no
    difference. S(D) has at most M records of each unit. If D' is D with unit v added or removed,
    all other D_u are equal, so all other s_k(D_u) are: S(D) and S(D') differ by s_k(D_v) alone, at
    most M records that are added or removed. If v is replaced, s_k(D_v) is replaced, at most M
    records by at most M. So a mechanism whose price is for data sets that differ by up to M records
    has that price, after S, for data sets that differ by a whole unit, of whatever size. It holds
    for every k, hence for a random one, and also if k is known: the key keeps anyone from making
    records that are chosen, and is no part of the proof. The order of the records does not change
    S(D) either, and s_k with a smaller M keeps a part of what it keeps with a larger one.

    It is as true as the ids are: a person under two ids counts as two.

    Args:
        records: with units.
        most: M, at least 1.
        key: secret of the installation; the choice is the same for the same key.
    """
    if records.units is None:
        raise ValueError("records without unit ids cannot be counted by unit")
    positions: dict[str, list[int]] = {}
    for i, unit in enumerate(records.units):
        positions.setdefault(unit, []).append(i)
    keyed = hmac.new(hmac.digest(key, PURPOSE, "sha256"), digestmod="sha256")

    def rank(i: int) -> tuple[bytes, str]:
        pixels = records.decode_fn(i)
        found = keyed.copy()
        found.update(f"{pixels.shape}:{records.labels[i]}:".encode())
        found.update(np.ascontiguousarray(pixels).tobytes())
        # Copies in two silos are not the same record.
        return found.digest(), "" if records.silos is None else records.silos[i]

    kept: list[int] = []
    for own in positions.values():
        kept += own if len(own) <= most else sorted(own, key=rank)[:most]
    _tell(len(records.labels) - len(kept), records, len(positions), most)
    counted = replace(records, max_records_per_unit=most, uncounted=records)
    return _chosen(counted, np.array(sorted(kept)))


def _tell(n_surplus: int, records: Records, n_units: int, most: int) -> None:
    """Warns whoever opens the data, on their own screen, that records are left out."""
    if n_surplus:
        warnings.warn(
            f"{n_surplus} of {len(records.labels)} records are not used, so that none of the "
            f"{n_units} units has more than {most}",
            stacklevel=3,
        )


def _chosen(records: Records, kept: np.ndarray) -> Records:
    if len(kept) == len(records.labels):
        return records
    decode, name_of = records.decode_fn, records.name_fn

    def chosen(ids: tuple[str, ...] | None) -> tuple[str, ...] | None:
        return None if ids is None else tuple(ids[i] for i in kept.tolist())

    return replace(
        records,
        labels=records.labels[kept],
        decode_fn=lambda i: decode(int(kept[i])),
        name_fn=lambda i: name_of(int(kept[i])),
        pixels=None if records.pixels is None else records.pixels[kept],
        units=chosen(records.units),
        silos=chosen(records.silos),
    )
