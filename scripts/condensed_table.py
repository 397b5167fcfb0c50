"""Measures condensed sets of m3d: a CNN learns from them, and sees real images that were held out.

    python scripts/condensed_table.py DATA --out assets/m3d.json

DATA are training records; some of them, chosen at random, are held out, and the others are taken
for the private ones. A row that is in the output is not run again.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from classifier_table import halves
from measurement import Rows, fitted_apart, markdown

from dpgen import M3D, Budget, CondensedSettings, Images, M3DSettings
from dpgen.evaluation.utility import UtilityProtocol, utility

KEY = ("data", "records", "held_out", "epsilon", "delta", "images_per_class", "steps", "seed")
SETS = ("set", "draws")
WORDS = """# Condensed sets on real images

Written by `python scripts/condensed_table.py DATA --out assets/m3d.json` (`--held-out`, `--delta`,
`--seeds` and `--steps` as in the rows): accuracy in % of the CNN of `dpgen evaluate` on training
records that were held out; add/remove. It learned from the condensed set as it is, each image once,
and from {n_samples} draws, in which images come again, warped. Test records were not read. Defaults
were chosen on MNIST and on the digits of such splits, and nothing was charged for that choice. On
MNIST the CNN learned for 150 steps, not for the usual 1,000; epsilon 10 is hardly better than 1
there, as the noise is small beside 5,700 records of a class.

"""
COLUMNS = [
    "data", "records", "held out", "epsilon", "delta", "images a class", "CNN steps", "seed", "set",
    "draws", "CPU s",
]  # fmt: skip


def measured(
    learned: Images, held: Images, class_names: tuple[str, ...], budget: Budget,
    images_per_class: int, seed: int, n_samples: int, steps: int | None, judged: list[str],
) -> dict[str, Any]:  # fmt: skip
    """Trains under fresh keys and a ledger of its own, and scores the set and draws from it."""
    started = time.process_time()
    condensed = CondensedSettings(images_per_class=images_per_class)
    with tempfile.TemporaryDirectory() as place:
        generator = M3D(budget=budget, settings=M3DSettings(condensed=condensed))
        fitted_apart(generator, learned, class_names, Path(place), seed=seed)
        once = images_per_class * len(class_names)
        sets = {"set": once, "draws": n_samples}
        drawn = {name: generator.sample(n, seed=seed) for name, n in sets.items()}
    seconds = round(time.process_time() - started)
    protocol = UtilityProtocol.of("cnn", len(learned.labels))
    protocol = protocol if steps is None else replace(protocol, n_steps=steps)
    scores = {
        name: utility(images, held, len(class_names), seed=seed, protocol=protocol).accuracy
        for name, images in drawn.items()
        if name in judged
    }
    return {
        **{name: round(100 * accuracy, 2) for name, accuracy in scores.items()},
        "steps": protocol.n_steps, "n_samples": n_samples, "cpu_seconds": seconds,
    }  # fmt: skip


def table(rows: list[dict[str, Any]]) -> str:
    """Writes the rows as a table in Markdown."""
    cells = [
        [row.get(name, "") for name in (*KEY, *SETS, "cpu_seconds")]
        for row in sorted(rows, key=lambda row: [row[name] for name in KEY])
    ]
    return WORDS.format(n_samples=f"{rows[0]['n_samples']:,}") + markdown(COLUMNS, cells)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data")
    parser.add_argument("--classes", type=int, help="where the data do not name them")
    parser.add_argument("--held-out", type=float, default=0.2, help="share of training records")
    parser.add_argument("--epsilons", type=float, nargs="+", default=[10.0, 1.0])
    parser.add_argument("--delta", type=float, default=1e-5)
    parser.add_argument("--images-per-class", type=int, nargs="+", default=[50, 10])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument("--steps", type=int, help="of the CNN, if not those of dpgen evaluate")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS), help="to judge")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    rows = Rows(given.out, table)
    learned, held, class_names = halves(given.data, given.held_out, given.classes)
    name = Path(given.data).name
    for seed in range(given.seeds):
        for images_per_class in given.images_per_class:
            for epsilon in given.epsilons:
                cell = {
                    "data": name, "epsilon": epsilon, "images_per_class": images_per_class,
                    "seed": seed,
                }  # fmt: skip
                if rows.hold(**cell):
                    continue
                found = measured(
                    learned, held, class_names, Budget(epsilon, given.delta), images_per_class,
                    seed, given.samples, given.steps, given.sets,
                )  # fmt: skip
                counts = {"records": len(learned.labels), "held_out": len(held.labels)}
                rows.add({**cell, **counts, "delta": given.delta, **found})
                print(rows.held[-1], flush=True)


if __name__ == "__main__":
    main()
