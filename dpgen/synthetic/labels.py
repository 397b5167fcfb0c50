"""Describes the labels of a set in its statement, and checks what it says of fair ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from importlib.util import find_spec
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from dpgen.data.reading import read_records
from dpgen.generator.fair_labels import FairLabels
from dpgen.generator.labels import RELEASED, UNIFORM, Labels, is_uniform
from dpgen.images.fair_classes import FairClasses, parity_gap
from dpgen.privacy.statements.certificate import read_statement
from dpgen.privacy.verification.check import Check
from dpgen.privacy.verification.verify import reading

NAME = "fair labels"
N_TOLD = 100  # classes whose counts a statement lists in words
FAIR = "fair"  # in the statement of a set: the table of fair labels, and the first word of others


def told_labels(
    given: Labels | None, counts: Mapping[str, int], fair: FairLabels | None = None
) -> str:
    """Describes in words how many images each class has and who chose them; of many classes the
    first.

    Args:
        given: as for `dpgen.generator.labels.labels_of`.
        counts: number of images by class.
        fair: the counts that were asked for, where target and group are independent.
    """
    if fair is not None:
        return _listed(FAIR, counts)
    if given is None or is_uniform(given):
        return UNIFORM
    return _listed(RELEASED if isinstance(given, str) else "chosen", counts)


def _listed(whose: str, counts: Mapping[str, int]) -> str:
    told = [f"{count} of {name}" for name, count in counts.items() if count]
    some = ", ".join(told[:N_TOLD])
    return f"{whose}: {some}" + (f" and of {len(told) - N_TOLD} more" if told[N_TOLD:] else "")


def told_fair(fair: FairLabels | None, n_images: int) -> dict[str, Any]:
    """Describes fair labels: target and group of each class, the weights by which they were drawn
    and whence these are, the counts, and the parity gap that whole numbers of images leave. Returns
    a table under the name "fair", or an empty one without fair labels.
    """
    if fair is None:
        return {}
    chosen, counts = fair.fair, fair.counts(n_images)

    def axis(given: object, weights: Mapping[str, float]) -> dict[str, Any]:
        by = RELEASED if fair.shares is not None else UNIFORM
        return {"by": by if given is None else "given", "weights": dict(weights)}

    table = {
        **_of_classes(chosen, counts),
        "targets": axis(chosen.targets, fair.targets),
        "groups": axis(chosen.groups, fair.groups),
    }
    released = {} if fair.shares is None else {"released_shares": dict(fair.shares)}
    return {FAIR: table | released}


def mixed_fair(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Describes the labels of a mixture of fair sets, as `told_fair` does, if they are fair, too;
    an empty table if nothing can be said.

    Fair sets with one target and group for each class may make an unfair mixture: one with many ill
    in equal groups, and one with few ill in which a group is larger. The mixture is called fair if
    its groups differ in the shares of targets by no more than the rounding of ``k`` sets explains:
    k/n + k/m for groups of n and m images.

    Args:
        parts: the statements of its sets.
    """
    tables = [part["synthetic_dataset"].get(FAIR) for part in parts]
    first = tables[0]
    if any(table is None or table["classes"] != first["classes"] for table in tables):
        return {}
    fair = FairClasses(first["classes"])
    counts = {name: sum(table["counts"][name] for table in tables) for name in fair.classes}
    rows = [(Fraction(sum(row)), row) for row in by_group(fair, counts)]
    for (n, one), (m, other) in combinations(rows, 2):
        for a, b in zip(one, other, strict=True):
            if abs(a / n - b / m) > len(parts) * (1 / n + 1 / m):
                return {}
    return {FAIR: _of_classes(fair, counts)}


def _of_classes(fair: FairClasses, counts: Mapping[str, int]) -> dict[str, Any]:
    return {
        "classes": {name: list(pair) for name, pair in fair.classes.items()},
        "counts": dict(counts),
        "parity_gap": parity_gap(by_group(fair, counts)),
    }


def by_group(fair: FairClasses, counts: Mapping[str, int]) -> list[list[int]]:
    """Adds up the images of each group (rows) and target."""
    cells = {pair: sum(counts[name] for name in names) for pair, names in fair.cells.items()}
    return [[cells[target, group] for target in fair.target_names] for group in fair.group_names]


def labels_checks(folder: Path) -> list[Check]:
    """Checks the labels of a fair set: that its images are as many of each class as its statement
    says, and that these counts, and all that is said of them, follow from the weights. Nothing for
    a run or another set.
    """
    statement = read_statement(folder)
    with reading(folder):
        if statement["artifact"]["kind"] != "synthetic_dataset":
            return []
        drawn = statement["synthetic_dataset"]
        said = str(drawn.get("labels", "")).startswith(f"{FAIR}:")
        if FAIR not in drawn and not said:
            return []
        if drawn.get("format") == "parquet" and find_spec("pyarrow") is None:
            return [Check(NAME, None, "not counted: Parquet needs pyarrow: pip install pyarrow")]
        wrong = list(_wrong(folder, statement, drawn))
        if wrong:
            return [Check(NAME, False, "; ".join(wrong))]
        gap = drawn[FAIR]["parity_gap"]
        same = "the same shares of targets in every group"
        return [Check(
            NAME, True, f"{drawn['samples']} labels as stated, {same}"
            + (f" but for {gap:.3g}, as images are whole" if gap else "")
        )]  # fmt: skip


def _wrong(
    folder: Path, statement: Mapping[str, Any], drawn: Mapping[str, Any]
) -> Iterator[str]:
    """Yields what the statement of a fair set says and does not hold."""
    table = drawn[FAIR]
    if "mixture" in statement:
        again = mixed_fair(statement["mixture"]["parts"])
    else:
        given = {
            axis: table[axis]["weights"] if table[axis]["by"] == "given" else None
            for axis in ("targets", "groups")
        }
        fair = FairLabels(FairClasses(table["classes"], **given), table.get("released_shares"))
        again = told_fair(fair, drawn["samples"])
        if drawn["labels"] != told_labels(None, table["counts"], fair):
            yield "the words about labels differ from the counts"
    if again != {FAIR: table}:
        yield "the counts do not follow from what is said of them"
    records = read_records(folder, "all", None, None)
    found = np.bincount(records.labels, minlength=len(records.class_names)).tolist()
    counted = dict(zip(records.class_names, found, strict=True))
    for name in {**counted, **table["counts"]}:
        if counted.get(name) != table["counts"].get(name):
            yield (
                f"{counted.get(name, 'no')} images of {name!r:.60}, "
                f"{table['counts'].get(name, 'none')} stated"
            )
            return
