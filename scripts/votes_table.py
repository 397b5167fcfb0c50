"""Measures votes of teachers on disjoint shards against a private teacher, at one budget.

    python scripts/votes_table.py DATA --out assets/votes.json

DATA are training records; some of them, chosen at random, are held out, and the others are taken
for the private ones. A row that is in the output is not run again; a budget at which a method
refuses to run, because its shards are too few, is a row without numbers.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from classifier_table import halves
from measurement import Rows, fitted_apart, markdown

from dpgen import (
    DGD,
    DPDFD,
    DPSD,
    PGE,
    Budget,
    DGDSettings,
    DPSDSettings,
    Images,
    ManifoldSettings,
    PGESettings,
)
from dpgen.evaluation.utility import UtilityProtocol, accuracy, utility
from dpgen.generator.interface import PrivateGenerator

UNMOVED = ManifoldSettings(tangent_weight=0.0, normal_weight=0.0, entropy_weight=0.0)
METHODS: dict[str, tuple[str, Callable[[Budget], PrivateGenerator]]] = {
    "pge sketch": ("nobody", lambda b: PGE(budget=b, settings=PGESettings(mode="sketch"))),
    "dpdfd": ("a private teacher", lambda b: DPDFD(budget=b)),
    "dpsd label": ("votes", lambda b: DPSD(budget=b)),
    "dpsd data": ("corrections", lambda b: DPSD(budget=b, settings=DPSDSettings(mode="data"))),
    "dgd": ("a private teacher, votes", lambda b: DGD(budget=b)),
    "dgd, no moves": (
        "a private teacher, votes", lambda b: DGD(budget=b, settings=DGDSettings(manifold=UNMOVED)),
    ),
}
KEY = ("data", "records", "held_out", "epsilon", "delta", "seed", "method")
WORDS = """# Votes of shards, and a private teacher

Written by `python scripts/votes_table.py DATA --out assets/votes.json` (`--delta`, `--epsilons` and
`--steps` as in the rows): accuracy in % on training records that were held out, add/remove, of the
student that a run releases, and of the CNN of `dpgen evaluate` on {n_samples} of its samples. Test
records were not read. All have a sketch from which they draw; they differ in who is asked about the
classes of drawn images, and all that is asked is part of the one budget. `refused`: so few shards
would answer less than the noise hides.

"""
COLUMNS = [
    "data", "records", "held out", "epsilon", "delta", "seed", "method", "asked", "student",
    "samples", "CNN steps", "CPU s",
]  # fmt: skip


def measured(
    method: str, learned: Images, held: Images, class_names: tuple[str, ...], budget: Budget,
    seed: int, n_samples: int, steps: int | None,
) -> dict[str, Any]:  # fmt: skip
    """Trains under fresh keys and a ledger of its own, and scores student and samples."""
    started = time.process_time()
    with tempfile.TemporaryDirectory() as place:
        generator = METHODS[method][1](budget)
        try:
            fitted_apart(generator, learned, class_names, Path(place), seed=seed)
        except ValueError as error:
            if "shards" not in str(error):
                raise
            return {"refused": str(error), "n_samples": n_samples}
        drawn = generator.sample(n_samples, seed=seed)
    seconds = round(time.process_time() - started)
    protocol = UtilityProtocol.of("cnn", len(learned.labels))
    protocol = protocol if steps is None else replace(protocol, n_steps=steps)
    made = utility(drawn, held, len(class_names), seed=seed, protocol=protocol)
    found = {"samples": round(100 * made.accuracy, 2)}
    if generator.student is not None:
        found["student"] = round(100 * accuracy(generator.student, held), 2)
    return {**found, "steps": protocol.n_steps, "n_samples": n_samples, "cpu_seconds": seconds}


def order_of(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in KEY[:-1])


def table(rows: list[dict[str, Any]]) -> str:
    """Writes the rows as a table in Markdown."""
    cells = [
        [
            *(row[name] for name in KEY), METHODS[row["method"]][0],
            "refused" if "refused" in row else row.get("student", ""),
            *(row.get(name, "") for name in ("samples", "steps", "cpu_seconds")),
        ]
        for row in sorted(rows, key=lambda row: (*order_of(row), [*METHODS].index(row["method"])))
    ]  # fmt: skip
    return WORDS.format(n_samples=f"{rows[0]['n_samples']:,}") + markdown(COLUMNS, cells)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data")
    parser.add_argument("--classes", type=int, help="where the data do not name them")
    parser.add_argument("--held-out", type=float, default=0.2, help="share of training records")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--epsilons", type=float, nargs="+", default=[10.0, 3.0])
    parser.add_argument("--delta", type=float, default=1e-4)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--samples", type=int, default=4000)
    parser.add_argument("--steps", type=int, help="of the CNN, if not those of dpgen evaluate")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    rows = Rows(given.out, table)
    learned, held, class_names = halves(given.data, given.held_out, given.classes)
    for seed in range(given.seeds):
        for epsilon in given.epsilons:
            for method in given.methods:
                cell = {
                    "data": Path(given.data).name, "epsilon": epsilon, "delta": given.delta,
                    "method": method, "seed": seed,
                }  # fmt: skip
                if rows.hold(**cell):
                    continue
                found = measured(
                    method, learned, held, class_names, Budget(epsilon, given.delta), seed,
                    given.samples, given.steps,
                )  # fmt: skip
                counts = {"records": len(learned.labels), "held_out": len(held.labels)}
                rows.add({**cell, **counts, **found})
                print(rows.held[-1], flush=True)


if __name__ == "__main__":
    main()
