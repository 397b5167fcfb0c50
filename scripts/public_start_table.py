"""The gain of a start on public images: one half of the classes is public, the other is private.

    python scripts/public_start_table.py digits --out public.json
    python scripts/public_start_table.py DATA --size 16 --out public.json

The training records of the first half of the classes are taken for public images; four fifths of
those of the other half are the private records, and the last fifth is the test: test splits are not
read. One row for each (data, epsilon, start, seed): trains DPDM with the same numbers, draws
samples, trains the usual classifier of `dpgen evaluate` on them, tests it on the held-out records,
and measures the Frechet distance to these by the features of a classifier of the private records.
All of it is public data: this measures, and publishes none of the runs. A row that is in the output
file is not measured again; `--table FILE` writes the table of all rows.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from measurement import Rows, markdown, measure

from dpgen import DPDM, Budget, DPDMSettings, Images, TeacherSettings
from dpgen.data.sources import read_images
from dpgen.evaluation.features import classifier_features
from dpgen.settings import parse_assignment
from dpgen.training.public_settings import PublicSettings

COLUMNS = ["data", "epsilon", "start", "accuracy", "Frechet", "seeds", "minutes", "load"]
# What the budget pays for, with and without public images: a Gaussian of the private classes that
# the network corrects, or DP-SGD alone.
MOMENTS: dict[str, Any] = {}
ALONE: dict[str, Any] = {"warm_start_share": 0.0}
STARTS = {
    "none, moments": (False, MOMENTS),
    "public, moments": (True, MOMENTS),
    "none, DP-SGD alone": (False, ALONE),
    "public, DP-SGD alone": (True, ALONE),
}


def halves(images: Images, seed: int) -> tuple[Images, Images, Images]:
    """Returns public images, private records and held-out records, the last two with labels from 0.
    """
    n_classes = int(images.labels.max()) + 1
    first = n_classes // 2
    public = images.labels < first
    private = torch.nonzero(~public).flatten()
    order = torch.randperm(len(private), generator=torch.Generator().manual_seed(seed))
    n = 4 * len(private) // 5
    names = tuple(str(k) for k in range(first, n_classes))

    def part(rows: torch.Tensor) -> Images:
        return Images(images.pixels[rows], images.labels[rows] - first, names)

    others = Images(images.pixels[public], images.labels[public])
    return others, part(private[order[:n]]), part(private[order[n:]])


def table(rows: list[dict[str, Any]]) -> str:
    """Formats the rows, means over seeds."""
    cells = []
    keys = dict.fromkeys((r["data"], r["wanted"], r["start"]) for r in rows)
    for key in sorted(keys, key=lambda k: (k[0], -k[1], list(STARTS).index(k[2]))):
        own = [r for r in rows if (r["data"], r["wanted"], r["start"]) == key]
        found = {name: [r[name] for r in own] for name in ("accuracy", "frechet", "load")}
        minutes = mean(sum(r["minutes"].values()) for r in own)
        cells.append([
            key[0], f"{key[1]:g}", key[2], f"{mean(found['accuracy']):.1f} %",
            f"{mean(found['frechet']):.1f}", len(own), f"{minutes:.1f}",
            f"{min(found['load']):.0f} to {max(found['load']):.0f}",
        ])  # fmt: skip
    return markdown(COLUMNS, cells)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", nargs="?")
    parser.add_argument("--size", type=int)
    parser.add_argument("--epsilons", type=float, nargs="+", default=[10.0, 1.0])
    parser.add_argument("--delta", type=float, default=1e-5)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--starts", nargs="+", choices=list(STARTS), default=list(STARTS))
    parser.add_argument("--samples", type=int, default=5000)
    parser.add_argument("--public-steps", type=int, default=PublicSettings().n_steps)
    parser.add_argument("--teacher", nargs="*", default=[], metavar="NAME=VALUE",
                        help="settings of the teacher, the same for every start")  # fmt: skip
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    rows = Rows(args.out, table)
    if args.data is not None:
        numbers = {".".join(path): v for path, v in map(parse_assignment, args.teacher)}
        images = read_images(args.data, split="train", size=args.size)
        name = Path(args.data).name + (f" {args.size}x{args.size}" if args.size else "")
        for seed in args.seeds:
            public, private, held_out = halves(images, seed)
            features = classifier_features(private, len(private.class_names or ()))
            for epsilon in args.epsilons:
                for start in args.starts:
                    row = {"data": name, "wanted": epsilon, "start": start}
                    if rows.hold(**row, seed=seed):
                        continue
                    starts, own = STARTS[start]
                    steps = PublicSettings(n_steps=args.public_steps) if starts else None
                    teacher = TeacherSettings(**numbers, **own, public=steps)
                    found = measure(
                        DPDM(
                            budget=Budget(epsilon, args.delta),
                            settings=DPDMSettings(teacher=teacher),
                        ),
                        private,
                        held_out,
                        n_samples=args.samples,
                        seed=seed,
                        public=public if starts else None,
                        features=features,
                    )
                    told = {
                        "numbers": numbers, "public_steps": args.public_steps,
                        "load": os.getloadavg()[0],
                    }  # fmt: skip
                    rows.add({**row, **told, **found})
    print(table(rows.held))


if __name__ == "__main__":
    main()
