"""Bugs in how many images a fair set has of each class, and in what it says of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from dpgen.generator.fair_labels import shared_out
from dpgen.images.fair_classes import FairClasses
from dpgen.runs.class_counts import CLASS_COUNTS, read_class_counts
from dpgen.synthetic import labels
from tests.mutations.bug import Bug, Change

LABELS = "dpgen.synthetic.labels"


def silent_on(words: str) -> Change:
    """A check of fair labels that does not look at one of the things that may be wrong."""

    def make(original: Callable[..., Iterator[str]]) -> Callable[..., Iterator[str]]:
        def wrong(*given: Any) -> Iterator[str]:  # noqa: ANN401
            return (found for found in original(*given) if words not in found)

        return wrong

    return make


def as_released_together(original: Callable[..., dict[str, int]]) -> Callable[..., dict[str, int]]:
    """Classes as frequent as they are, in place of targets and groups."""

    def counts(fair: Any, n: int) -> dict[str, int]:  # noqa: ANN401
        if fair.shares is None:
            return original(fair, n)
        return dict(zip(fair.shares, shared_out(n, list(fair.shares.values())), strict=True))

    return counts


def fair_if_its_parts_are(original: Callable[..., Any]) -> Callable[..., Any]:
    def mixed(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        tables = [part["synthetic_dataset"].get("fair") for part in parts]
        if None in tables:
            return {}
        fair = FairClasses(tables[0]["classes"])
        counts = {name: sum(table["counts"][name] for table in tables) for name in fair.classes}
        return {"fair": labels._of_classes(fair, counts)}

    return mixed


def whatever_lies_there(original: property) -> property:
    """A file of class counts is read, and not whether the certificate covers it."""

    def shares(fitted: Any) -> dict[str, float] | None:  # noqa: ANN401
        names, facts = fitted.facts.class_names, fitted.facts
        if not (fitted.folder / CLASS_COUNTS).exists():
            return None
        counts = read_class_counts(fitted.folder, names)
        return dict(zip(names, counts.shares(facts.n_records), strict=True))

    return property(shares)


def of_the_first_two(original: Callable[..., Any]) -> Callable[..., Any]:
    """The gap of a group to itself."""
    return lambda table: original([table[0], table[0]])


BUGS = (
    Bug(
        "images of a fair set not counted",
        "a set in which the groups differ says that they do not, and nobody finds it",
        "fair", {f"{LABELS}._wrong": silent_on("images of")},
    ),
    Bug(
        "counts of a fair set not computed again",
        "a set is called fair whose own counts show that it is not",
        "fair", {f"{LABELS}._wrong": silent_on("do not follow")},
    ),
    Bug(
        "fair labels follow the released shares of classes",
        "in these target and group depend on each other, as they do among the records",
        "fair", {"dpgen.generator.fair_labels.FairLabels.counts": as_released_together},
    ),
    Bug(
        "a mixture of fair sets is called fair",
        "a group may be larger in the set with few ill: together the groups differ",
        "fair", {f"{LABELS}.mixed_fair": fair_if_its_parts_are},
    ),
    Bug(
        "parity gap of one group with itself",
        "a gap of 0 is stated of every set and every mixture",
        "fair", {f"{LABELS}.parity_gap": of_the_first_two},
    ),
    Bug(
        "class counts used that were not released",
        "counts without noise that lie in a run folder show in every set, and nothing paid for "
        "them",
        "fair", {"dpgen.generator.fitted.Fitted.class_shares": whatever_lies_there},
    ),
)  # fmt: skip
