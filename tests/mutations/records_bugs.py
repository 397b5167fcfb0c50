"""Bugs in which records are recognised, and in what is told of them before any noise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from dpgen.data.formats.records import Records
from dpgen.data.identity import Identity
from dpgen.data.units import _chosen
from dpgen.images.classes import class_list
from dpgen.privacy.mechanisms.noise import new_key
from tests.mutations.bug import Bug


def unmarked(original: Callable[..., Any]) -> Callable[..., Any]:
    """`SharedLedger._mark` that opens the ledger and keeps no marks."""

    def mark(account: Any, lines: list[Any], bodies: list[Any]) -> list[Any]:  # noqa: ANN401
        if not lines:
            account._own.write(lines, [bodies.pop(0)])
        return []

    return mark


def freshly_marked(original: Callable[..., Identity]) -> Callable[..., Identity]:
    return lambda source, key: original(source, key)._replace(
        marks=original(source, new_key()).marks
    )


def fewer(original: Callable[..., Any]) -> Callable[..., Any]:
    """Ledgers that share less than the whole data set are passed over."""

    def sharing(known: Any, marks: np.ndarray, *, own: str | None) -> list[Any]:  # noqa: ANN401
        return [x for x in original(known, marks, own=own) if x.shared == len(marks)]

    return sharing


def counted(original: Callable[..., tuple[str, ...]]) -> Callable[..., tuple[str, ...]]:
    def settle(stated: Any, declared: Any, *, name: str, place: str = "") -> tuple[str, ...]:  # noqa: ANN401
        if stated is None and declared is None:
            return class_list(int(np.load(Path(name))["labels"].max()) + 1)
        return original(stated, declared, name=name, place=place)

    return settle


def all_kept(original: Callable[..., Records]) -> Callable[..., Records]:
    return lambda records, most, key: replace(records, max_records_per_unit=most)


def chosen_together(original: Callable[..., Records]) -> Callable[..., Records]:
    """One stream of random numbers ranks the records of all people, in their order."""

    def at_most(records: Records, most: int, key: bytes) -> Records:
        ranks = np.random.default_rng(0).permutation(len(records.labels))
        kept = [
            i for i, unit in enumerate(records.units or ())
            if sum(ranks[j] < ranks[i] for j, u in enumerate(records.units or ()) if u == unit)
            < most
        ]  # fmt: skip
        return _chosen(replace(records, max_records_per_unit=most), np.array(kept))

    return at_most


BUGS = (
    Bug(
        "marks of the records are not written",
        "data that share records with a known ledger get a fresh budget",
        "records", {"dpgen.privacy.ledger.shared_ledger.SharedLedger._mark": unmarked},
    ),
    Bug(
        "marks of the records are made under a fresh key",
        "no record is ever recognised, and data that share some get a fresh budget",
        "records", {"dpgen.data.account.identify": freshly_marked},
    ),
    Bug(
        "only whole data sets are recognised",
        "one record more or less begins an account of its own",
        "records", {"dpgen.privacy.ledger.known_ledgers.KnownLedgers.sharing": fewer},
    ),
    Bug(
        "classes counted in private labels",
        "the label of one record is published as the number of classes",
        "records", {"dpgen.data.formats.labels.settle_classes": counted},
    ),
    Bug(
        "a person's surplus records are kept",
        "a person changes more records than epsilon is stated for",
        "records", {"dpgen.data.units.at_most": all_kept},
    ),
    Bug(
        "a person's records are chosen by where they stand among all",
        "a person more or less changes which records of everybody else are used",
        "records", {"dpgen.data.units.at_most": chosen_together},
    ),
)  # fmt: skip
