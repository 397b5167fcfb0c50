"""Detectors of what is said of the labels of fair sets."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from fractions import Fraction
from functools import cache
from itertools import combinations
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from dpgen.auditing.stand_ins import neighbours
from dpgen.data.private import PrivateDataset
from dpgen.generator.fair_labels import FairLabels
from dpgen.images.fair_classes import FairClasses
from dpgen.methods.dpdm import DPDM, DPDMSettings
from dpgen.privacy.statements.certificate import sha256_file, statement_bytes
from dpgen.runs.class_counts import CLASS_COUNTS, SCHEMA
from dpgen.runs.context import Hardware
from dpgen.stages.teacher import TeacherSettings
from dpgen.storage.canonical import canonical, digest
from dpgen.synthetic import labels
from dpgen.synthetic.labels import labels_checks, told_fair
from dpgen.synthetic.synthesise import synthesise
from tests.mutations.fit_detectors import BUDGET, FACTS, quick

CLASSES = {
    "ill_f": ("ill", "f"), "well_f": ("well", "f"), "ill_m": ("ill", "m"), "well_m": ("well", "m"),
}  # fmt: skip
EQUAL = FairClasses(CLASSES)
FEW_ILL = FairClasses(CLASSES, {"ill": 1, "well": 3}, {"f": 1, "m": 3})
# Shares as a run may release them: of f two thirds are ill, of m a quarter.
SHARES = dict(zip(CLASSES, (0.4, 0.2, 0.1, 0.3), strict=True))


@cache
def _trained() -> TemporaryDirectory[str]:
    """Trains a run that releases no class counts, once: no bug of labels changes a training."""
    place = TemporaryDirectory()
    facts = replace(FACTS, class_names=tuple(CLASSES))
    settings = DPDMSettings(
        teacher=TeacherSettings(
            warm_start_share=0.0, n_steps=1, n_draws=1, batch=8, bands=2, clip_norm=0.05
        ),
        sampling_steps=1,
    )
    with quick(Path(place.name)):
        DPDM(budget=BUDGET, settings=settings).fit(
            PrivateDataset(neighbours(facts, 0)[0], facts=facts),
            out=Path(place.name) / "run", seed=0, hardware=Hardware("cpu"),
        )  # fmt: skip
    return place


def drawn(place: Path, name: str, n: int | None, **given: Any) -> Path:  # noqa: ANN401
    """Draws a set of the run."""
    with quick(place):
        synthesise(
            Path(_trained().name) / "run", n, place / name, layout="npz", seed=0, **given
        )
    return place / name


def gap_of(counts: Mapping[str, int]) -> Fraction:
    """Computes the parity gap of two groups and two targets, by its definition."""
    shares = []
    for group in EQUAL.group_names:
        ill, well = (counts[f"{target}_{group}"] for target in EQUAL.target_names)
        shares.append(Fraction(ill, ill + well))
    return abs(shares[0] - shares[1])


def rounding(counts: Mapping[str, int]) -> Fraction:
    """Returns what whole numbers of images explain of a gap: 1/n + 1/m."""
    groups = (sum(counts[f"{t}_{g}"] for t in EQUAL.target_names) for g in EQUAL.group_names)
    return sum((Fraction(1, n) for n in groups), Fraction())


def independent(place: Path) -> str:
    """Target and group are independent in what is counted and in what is called fair, by the
    definition of the gap; and the gap is the one that is stated.
    """
    asked = {
        "equal": FairLabels(EQUAL),
        "few ill": FairLabels(FEW_ILL),
        "released": FairLabels(EQUAL, SHARES),
    }
    told = {}
    for name, fair in asked.items():
        for n in (1001, 160):
            told[name] = told_fair(fair, n)
            counts, stated = told[name]["fair"]["counts"], told[name]["fair"]["parity_gap"]
            gap = gap_of(counts)
            if gap > rounding(counts):
                return f"the groups differ in their shares of targets by {float(gap):.2g}"
            if stated != float(gap):
                return f"a gap of {stated:.2g} is stated where it is {float(gap):.2g}"
    for pair in combinations(told, 2):
        mixed = labels.mixed_fair([{"synthetic_dataset": told[name]} for name in pair])
        if "fair" in mixed:
            counts = mixed["fair"]["counts"]
            gap = gap_of(counts)
            if gap > 2 * rounding(counts):
                return f"a mixture with a gap of {float(gap):.2g} is called fair"
    return ""


def counted(place: Path) -> str:
    """Sets that are not as fair as they say are found: their images are counted, and what is said
    of the counts is computed again.
    """
    honest, wrong = drawn(place, "honest", 40, fair=EQUAL), []
    if not all(check.held for check in labels_checks(honest)):
        return "a fair set is refused"
    unfair = drawn(
        place, "unfair", None, labels=dict(zip(CLASSES, (14, 6, 8, 12), strict=True))
    )
    _say(unfair, json.loads((honest / "privacy.json").read_text())["synthetic_dataset"])
    if not any(check.failed for check in labels_checks(unfair)):
        wrong.append("images of another number are taken for those that are stated")
    # Its counts are those of its images, and they do not follow from equal weights.
    table = dict(zip(CLASSES, (14, 6, 8, 12), strict=True))
    said = json.loads((unfair / "privacy.json").read_text())["synthetic_dataset"]
    said["fair"]["counts"] = table
    said["labels"] = "fair: " + ", ".join(f"{n} of {name}" for name, n in table.items())
    _say(unfair, said)
    if not any(check.failed for check in labels_checks(unfair)):
        wrong.append("a set is called fair whose groups differ")
    return "; ".join(wrong)


def _say(folder: Path, said: Mapping[str, Any]) -> None:
    """Makes a set say this of its images, and seals it."""
    statement = json.loads((folder / "privacy.json").read_text())
    del statement["sha256"]
    statement["synthetic_dataset"] = said
    (folder / "privacy.json").write_bytes(
        statement_bytes({**statement, "sha256": digest(statement)})
    )


def unreleased(place: Path) -> str:
    """Class counts in a run folder that its certificate does not cover are followed by no set."""
    run = Path(shutil.copytree(Path(_trained().name) / "run", place / "run"))
    counts = dict(zip(CLASSES, (6.0, 4.0, 4.0, 2.0), strict=True))
    table = {"schema": SCHEMA, "counts": counts, "standard_deviation": 1.0}
    if (run / CLASS_COUNTS).exists():
        return "a run without a count of classes releases one"
    (run / CLASS_COUNTS).write_text(canonical(table))
    before = sha256_file(run / "privacy.json")
    try:
        synthesise(run, 40, place / "set", layout="npz", seed=0, labels="released", fair=EQUAL)
    except ValueError:
        return "" if sha256_file(run / "privacy.json") == before else "the certificate was changed"
    return "counts that were never released decide how many images a class gets"


FAIR: dict[str, Callable[[Path], str]] = {
    "fair counts": independent,
    "fair sets": counted,
    "fair released": unreleased,
}
