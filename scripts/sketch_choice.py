"""Chooses settings of PGE's mode sketch without spending privacy: on released samples, or on public
data.

    python scripts/sketch_choice.py --run run --out assets/sketch_choice.json
    python scripts/sketch_choice.py --public digits --epsilons 1 10 --seeds 3 --out choice.json

With --run, draws images of a finished run, takes most of them for private records and the others
for a test split, and lets each candidate learn from them at the same epsilon: everything is
post-processing of that one run. With --public, takes four fifths of the training records of a
public data set, and the last fifth for a test split. A candidate that is already in the output file
is not run again.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import Any

import torch
from measurement import measure

from dpgen import PGE, Budget, Images, PGESettings, load
from dpgen.data.sources import open_source, read_images
from dpgen.evaluation.utility import UtilityProtocol
from dpgen.stages.sketch import SketchSettings

CANDIDATES: dict[str, dict[str, Any]] = {
    "as shipped": {},
    "no warps": {"warp": 0.0},
    "half the warps": {"warp": 0.5},
    "one round": {"rounds": (1.0,), "n_steps": (3000,)},
    "labeller, a fifth": {"labeller_share": 0.2},
    "labeller, two fifths": {"labeller_share": 0.4},
}


def candidate(
    name: str, private: Images, test: Images, n_classes: int, budget: Budget, n_samples: int,
    seed: int,
) -> dict[str, Any]:  # fmt: skip
    settings = PGESettings(mode="sketch", sketch=SketchSettings(**CANDIDATES[name]))
    generator = PGE(budget=budget, settings=settings)
    found = measure(
        generator, private, test, n_samples=n_samples, seed=seed, sampling_seed=1, classes=n_classes
    )
    return {
        "candidate": name,
        "changes": CANDIDATES[name],
        **{key: found[key] for key in ("epsilon", "seed", "accuracy")},
        "minutes": sum(found["minutes"].values()),
    }


def split(images: Images, n: int, seed: int | None = None) -> tuple[Images, Images]:
    """Splits images into the first ``n`` and the others, shuffled before if there is a seed."""
    order = torch.arange(len(images.labels))
    if seed is not None:
        order = torch.randperm(len(order), generator=torch.Generator().manual_seed(seed))
    parts = order[:n], order[n:]
    one, other = (Images(images.pixels[rows], images.labels[rows]) for rows in parts)
    return one, other


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    of = parser.add_mutually_exclusive_group(required=True)
    of.add_argument("--run", type=Path)
    of.add_argument("--public", metavar="DATA")
    parser.add_argument("--records", type=int, default=60_000, help="with --run")
    parser.add_argument("--test", type=int, default=10_000, help="with --run")
    parser.add_argument("--epsilons", type=float, nargs="+", default=[1.0], help="with --public")
    parser.add_argument("--delta", type=float, default=1e-4, help="with --public")
    parser.add_argument("--samples", type=int, default=10_000, help="with --public")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--candidates", nargs="+", choices=list(CANDIDATES), default=CANDIDATES)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    if args.run is not None:
        base = load(args.run)
        generator = torch.Generator().manual_seed(0)
        images = base.sample(args.records + args.test, generator=generator)
        budgets, n_samples = [base.budget], args.records
        assert base.facts is not None
        n_classes = base.facts.n_classes
        source = base.privacy["guarantee"] | {"settings": asdict(base.settings)}
    else:
        images = read_images(args.public, split="train")
        n_classes = len(open_source(args.public, split="train").class_names)
        budgets, n_samples = [Budget(e, args.delta) for e in args.epsilons], args.samples
        source = {"public": args.public}

    def table() -> dict[str, Any]:
        """Reads the table from disk, as several processes, each with its candidates, may share the
        file.
        """
        if args.out.exists():
            return dict(json.loads(args.out.read_text()))
        return {"of": source, "protocol": asdict(UtilityProtocol()), "rows": []}

    for seed, budget, name in product(range(args.seeds), budgets, args.candidates):
        held = [(r["candidate"], r["wanted"], r["seed"]) for r in table()["rows"]]
        if (name, budget.epsilon, seed) in held:
            continue
        if args.run is not None:
            private, test = split(images, args.records)
        else:
            private, test = split(images, 4 * len(images.labels) // 5, seed)
        row = candidate(name, private, test, n_classes, budget, n_samples, seed)
        now = table()
        now["rows"].append({"wanted": budget.epsilon, **row})
        args.out.write_text(json.dumps(now, indent=1) + "\n")
    print("\n| candidate | epsilon | seed | accuracy |\n| --- | --- | --- | --- |")
    for row in sorted(table()["rows"], key=lambda row: (row["wanted"], -row["accuracy"])):
        print(
            f"| {row['candidate']} | {row['wanted']:g} | {row['seed']} | {row['accuracy']:.2f} % |"
        )


if __name__ == "__main__":
    main()
