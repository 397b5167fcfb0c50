"""Compares private classifiers of real images, by noisy descent and from moments, at one price.

    python scripts/classifier_table.py DATA --held-out 0.1 --out assets/classifier.json

Each run of `pge` in mode sketch learns from a part of the training records and is scored on the
rest; test records are not read. The sketch has a spectrum, its score network hardly any training,
and the classifier or the labeller the stated share of mu^2. A run that is in the output file is not
run again; a table in Markdown is written beside it. The data are private and the scores are charged
to nobody: they choose defaults, which is uncharged tuning on these data.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from measurement import Rows, fitted_apart, markdown

from dpgen import PGE, Budget, Images, PGESettings
from dpgen.data.sources import open_source
from dpgen.images.images import to_float
from dpgen.stages.classifier_settings import ClassifierSettings
from dpgen.stages.sketch_settings import SketchSettings
from dpgen.stages.spectrum_settings import SpectrumSettings
from dpgen.training.refit_settings import RefitSettings

DELTA = 1e-5
N_SAMPLES = 5000  # released images that axes and covariances are fitted to
KINDS = ("descent", "moments")
WORDS = """# Private classifiers of real images

Written by `python scripts/classifier_table.py DATA --out assets/classifier.json` (`--held-out`,
`--epsilons`, `--share` and `--kinds` as in the rows): accuracy in % on training records that were
held out, in brackets its mean over classes; delta 1e-5, add/remove. `descent` is the classifier of
`sketch.classifier`, `moments` the labeller of `sketch.labeller_share`, each beside a spectrum that
has the rest of mu^2. Test records were not read. Constants of the descent were chosen on training
records of CIFAR-10 and MNIST, and nothing was charged for that choice.

"""
HEAD = ("data", "records", "held out", "epsilon", "share of mu^2", "seed", *KINDS)


def halves(
    location: str, share: float, classes: int | None
) -> tuple[Images, Images, tuple[str, ...]]:
    """Splits training records at random into those to learn from and those held out."""
    source = open_source(location, split="train", classes=classes)
    order = torch.randperm(len(source), generator=torch.Generator().manual_seed(5))
    pixels, labels = source.read(range(len(source)))
    n = round(share * len(source))
    held, learned = (
        Images(to_float(pixels[rows]), labels[rows]) for rows in (order[:n], order[n:])
    )
    return learned, held, source.class_names


def sketch_of(kind: str, share: float) -> SketchSettings:
    """Makes the settings of one kind of classifier."""
    given: dict[str, Any] = {"spectrum": SpectrumSettings(), "n_samples": N_SAMPLES}
    if kind == "moments":
        return SketchSettings(**given, labeller_share=share)
    return SketchSettings(**given, classifier=ClassifierSettings(share, judges=False))


def measured(
    kind: str, learned: Images, held: Images, class_names: tuple[str, ...], epsilon: float,
    share: float, seed: int,
) -> dict[str, Any]:  # fmt: skip
    """Runs one method under fresh keys and a ledger of its own, and scores its classifier."""
    started = time.process_time()
    score = RefitSettings(n_samples=100, n_steps=1)
    settings = PGESettings(mode="sketch", sketch=sketch_of(kind, share), score=score)
    with tempfile.TemporaryDirectory() as place:
        generator = fitted_apart(
            PGE(budget=Budget(epsilon, DELTA), settings=settings),
            learned, class_names, Path(place), seed=seed,
        )  # fmt: skip
    assert generator.classifier is not None
    right = generator.classifier.label(held.pixels) == held.labels
    classes = [right[held.labels == k].float().mean() for k in range(len(class_names))]
    return {
        "accuracy": round(100 * float(right.float().mean()), 2),
        "balanced": round(100 * float(torch.stack(classes).mean()), 2),
        "cpu_seconds": round(time.process_time() - started),
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Writes the rows as a table in Markdown: accuracy, and in brackets balanced accuracy."""
    found: dict[tuple[Any, ...], dict[str, str]] = {}
    for row in rows:
        key = tuple(
            row[name] for name in ("data", "records", "held_out", "epsilon", "share", "seed")
        )
        found.setdefault(key, {})[row["kind"]] = f"{row['accuracy']} ({row['balanced']})"
    cells = ([*key, *(kinds.get(kind, "") for kind in KINDS)] for key, kinds in found.items())
    return WORDS + markdown(HEAD, cells)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data")
    parser.add_argument("--classes", type=int, help="where the data do not name them")
    parser.add_argument("--held-out", type=float, default=0.1, help="share of training records")
    parser.add_argument("--epsilons", type=float, nargs="+", default=[10.0, 1.0])
    parser.add_argument("--share", type=float, default=0.5, help="of mu^2")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    rows = Rows(given.out, table)
    learned, held, class_names = halves(given.data, given.held_out, given.classes)
    for epsilon in given.epsilons:
        for seed in range(given.seeds):
            for kind in given.kinds:
                cell = {
                    "data": Path(given.data).name, "kind": kind, "epsilon": epsilon,
                    "share": given.share, "seed": seed, "records": len(learned.labels),
                    "held_out": len(held.labels),
                }  # fmt: skip
                if rows.hold(**cell):
                    continue
                found = measured(
                    kind, learned, held, class_names, epsilon, given.share, seed
                )
                rows.add({**cell, **found})
                print(rows.held[-1], flush=True)


if __name__ == "__main__":
    main()
