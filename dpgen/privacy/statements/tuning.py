"""The part of a statement on how settings were chosen, and on data sets that share its records."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dpgen.privacy.accounting.accountant import round_up

INSTALLATION = "installation"  # the place of the ledger of private data
# What may be shared: in which places, one of them, several, and what of it is recognised.
RECORDS = (
    "data sets that have one of its records", "record of it", "records",
    "by pixels that are exactly the same and of more than one colour; not where a pixel changed, "
    "as in a resize or a lossy compression, not in other installations, and not in ledgers from "
    "before records were marked",
)  # fmt: skip
TEACHERS = (
    "lists that have one of the teachers", "teacher", "teachers",
    "by weights that are exactly the same; not where one was trained anew, not in other "
    "installations, and not the records behind it, on which a silo may have run something else",
)  # fmt: skip


def tuning_of(data_set: Mapping[str, Any], *, of_teachers: bool = False) -> dict[str, Any]:
    """States what the choice of settings may have cost beside this run.

    Args:
        data_set: the account of the data set's whole ledger.
        of_teachers: whether it is of teachers in slots, and not of records.
    """
    data = "these teachers" if of_teachers else "this data set"
    n, total = data_set["runs"], data_set["total_epsilon"]
    counted = (
        f"This run and all others on {data}, {n} in all, are charged to "
        f"{'one' if of_teachers else 'its'} ledger"
        if data_set["ledger"] == INSTALLATION
        else "Runs on this data set are not counted together: it was taken for public"
    )
    # Statements of versions that did not mark records say nothing about other data sets.
    marked = "record_total_epsilon" in data_set
    shared = f"{shared_sentence(data_set, of_teachers=of_teachers)} " if marked else ""
    return {
        "runs_charged": n,
        "total_epsilon": total,
        "statement": f"{counted}; epsilon above is of this run alone. {shared}Settings that were "
        "chosen by metrics of private records, as losses, accuracies or distances to them, are not "
        "covered.",
    }


def shared_sentence(data_set: Mapping[str, Any], *, of_teachers: bool = False) -> str:
    """States the most that a record, or a teacher, can have spent in all data sets, or lists, that
    hold it, and which ones are not recognised.
    """
    whose, unit, units, known = TEACHERS if of_teachers else RECORDS
    most = data_set["record_total_epsilon"]
    spent = (
        f"no {unit} has spent more than epsilon = {most:g}"
        if isinstance(most, int | float)
        else f"there is no bound on what a {unit} has spent"
    )
    return (
        f"Runs on other {whose} counted in, {spent} at delta = "
        f"{round_up(data_set['limit']['delta'], 6):g}, as far as this installation of dpgen "
        f"recognises {units}: {known}. This number has no noise on it: the guarantee does not "
        f"cover whether {units} are shared."
    )
