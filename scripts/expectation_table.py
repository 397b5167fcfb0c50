"""Measures how much of what real images teach survives, by the records of a class and the noise.

    python scripts/expectation_table.py DATA --records 100 400 --out assets/expectation.json

Draws records of each class from the training split, lets `pge` in mode sketch learn from some of
them, and trains a linear classifier of Gabor features on images of the sketch itself: the score
network is left out, to save time. It is tested on other training records; test records are not
read. Beside it stands one that has learned from the same real records. A row that is in the output
file is not measured again; a table in Markdown is written beside it. The data are private and the
scores charged to nobody: only words of `dpgen plan` are chosen by them.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import torch
from measurement import Rows, fitted_apart, markdown
from sklearn.linear_model import LogisticRegression

from dpgen import PGE, Images, PGESettings
from dpgen.data.sources import open_source
from dpgen.images.grid import save_grid
from dpgen.images.images import to_float
from dpgen.methods.expectation import expected
from dpgen.networks.fixed.gabor import GaborFeatures
from dpgen.networks.labeller import in_parts
from dpgen.privacy.accounting.accountant import Budget
from dpgen.training.refit_settings import RefitSettings

N_SAMPLES = 2000
MOST_TESTED = 1000
WORDS = """# What few records can give

Written by `python scripts/expectation_table.py DATA --out assets/expectation.json` (`--records`,
`--epsilons`, `--size` as in the rows): accuracy in % of a linear classifier of Gabor features that
learned from 2,000 images of a sketch, and of one that learned from the same real records, both on
other records of the training split. Weight is that of the records of a class over the noise on an
image, as `dpgen/methods/expectation.py` defines it. Kept is the share of what real images give
beyond guessing. Test records were not read; one seed.

"""
COLUMNS = (
    "data", "shape", "classes", "records", "epsilon", "weight", "accuracy", "real", "kept",
)  # fmt: skip


def parts(
    location: str, n: int, size: int | None, classes: int | None
) -> tuple[Images, Images, tuple[str, ...]]:
    """Returns ``n`` training records of each class, others to test on, and the class names."""
    source = open_source(location, split="train", size=size, classes=classes)
    pixels, labels = source.read(range(len(source)))
    order = torch.randperm(len(source), generator=torch.Generator().manual_seed(5))
    first, rest = [], []
    for k in range(len(source.class_names)):
        rows = order[labels[order] == k]
        if len(rows) < n + 20:
            raise ValueError(f"class {source.class_names[k]} has {len(rows)} records, too few")
        first.append(rows[:n])
        rest.append(rows[n : n + MOST_TESTED // len(source.class_names)])
    one, other = (
        Images(to_float(pixels[torch.cat(rows)]), labels[torch.cat(rows)]) for rows in (first, rest)
    )
    return one, other, source.class_names


def accuracy(images: Images, tested: Images) -> float:
    """Trains a linear classifier of features of images, and tests it on others."""
    features = GaborFeatures(images.pixels.shape[1:])
    rows, others = (in_parts(features, one.pixels).numpy() for one in (images, tested))
    classifier = LogisticRegression(C=30.0, max_iter=300).fit(rows, images.labels.numpy())
    return float(classifier.score(others, tested.labels.numpy()))


def measured(
    learned: Images, tested: Images, class_names: tuple[str, ...], epsilon: float,
    picture: Path | None,
) -> dict[str, Any]:  # fmt: skip
    """Makes one sketch under fresh keys and a ledger of its own, and judges its images."""
    n_classes, n = len(class_names), len(learned.labels)
    settings = PGESettings(mode="sketch", score=RefitSettings(n_samples=100, n_steps=1))
    with tempfile.TemporaryDirectory() as place:
        generator = fitted_apart(
            PGE(budget=Budget.for_records(epsilon, None, n), settings=settings),
            learned, class_names, Path(place), seed=0,
        )  # fmt: skip
    labels = torch.arange(N_SAMPLES) % n_classes
    facts = generator.facts
    assert generator.proposer is not None and facts is not None
    drawn = Images(generator.proposer.draw(labels, torch.Generator().manual_seed(1)), labels)
    if picture is not None:
        save_grid(Images(drawn.pixels[: 10 * n_classes], labels[: 10 * n_classes]), picture,
                  n_classes=n_classes)  # fmt: skip
    own, real = (accuracy(images, tested) for images in (drawn, learned))
    chance = 1 / n_classes
    return {
        "shape": "x".join(map(str, learned.pixels.shape[1:])),
        "classes": n_classes,
        "weight": float(f"{expected(generator.plan(facts), facts).weight:.2g}"),
        "accuracy": round(100 * own, 1),
        "real": round(100 * real, 1),
        "kept": round((own - chance) / (real - chance), 2),
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Writes the rows as a table in Markdown, by weight."""
    ordered = sorted(rows, key=lambda row: row["weight"])
    return WORDS + markdown(COLUMNS, ([row[name] for name in COLUMNS] for row in ordered))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data")
    parser.add_argument("--classes", type=int, help="where the data do not name them")
    parser.add_argument("--size", type=int)
    parser.add_argument("--records", type=int, nargs="+", default=[100, 400], help="of each class")
    parser.add_argument("--epsilons", type=float, nargs="+", default=[1.0, 3.0, 10.0])
    parser.add_argument("--pictures", type=Path, help="folder for a picture of each row")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    rows = Rows(given.out, table)
    name = Path(given.data).name
    for n in given.records:
        for epsilon in given.epsilons:
            if rows.hold(data=name, records=n, epsilon=epsilon):
                continue
            learned, tested, class_names = parts(given.data, n, given.size, given.classes)
            picture = None
            if given.pictures is not None:
                picture = given.pictures / f"{name}-{n}-{epsilon:g}.png"
            found = measured(learned, tested, class_names, epsilon, picture)
            rows.add({"data": name, "records": n, "epsilon": epsilon, **found})
            print(json.dumps(rows.held[-1]), flush=True)


if __name__ == "__main__":
    main()
