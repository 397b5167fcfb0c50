"""PGE mode sketch on images of your own, MNIST for instance: accuracy, time and memory.

    python scripts/sketch_table.py --data mnist/ --out assets/sketch.json

One row for each (epsilon, labeller share, seed): trains, draws 60,000 images, trains the usual
classifier of `dpgen evaluate` on them and tests it on the real test split. A row that is already in
the output file is not run again; another --warp needs another file. Every run has its own ledger,
in a temporary home: this script measures, on public data, and publishes none of the runs.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from measurement import Rows, measure

from dpgen import PGE, Budget, PGESettings
from dpgen.data.sources import read_images
from dpgen.stages.sketch import SketchSettings


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True)
    parser.add_argument("--epsilons", type=float, nargs="+", default=[10.0, 1.0])
    parser.add_argument("--delta", type=float, default=1e-5)
    parser.add_argument("--shares", type=float, nargs="+", default=[0.0, 0.2], help="of labellers")
    parser.add_argument("--warp", type=float, default=SketchSettings.warp)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    test, rows = read_images(args.data, split="test", classes=10), Rows(args.out)
    for seed in range(args.seeds):
        for epsilon in args.epsilons:
            for share in args.shares:
                if rows.hold(wanted=epsilon, labeller_share=share, seed=seed):
                    continue
                sketch = SketchSettings(labeller_share=share, warp=args.warp)
                settings = PGESettings(mode="sketch", sketch=sketch)
                generator = PGE(budget=Budget(epsilon, args.delta), settings=settings)
                found = measure(
                    generator, args.data, test, n_samples=60_000, seed=seed, classes=10
                )
                rows.add(
                    {"wanted": epsilon, "labeller_share": share, "warp": args.warp, **found}
                )
    print("\n| epsilon | labeller share | seed | accuracy | train | sample | memory |")
    print("|---|---|---|---|---|---|---|")
    for r in sorted(rows.held, key=lambda r: (-r["wanted"], r["labeller_share"], r["seed"])):
        took = r["minutes"]
        print(
            f"| {r['epsilon']:g} | {r['labeller_share']:g} | {r['seed']} | {r['accuracy']:.2f} % | "
            f"{took['train']:.1f} min | {took['sample']:.1f} min | {r['gib']:.1f} GiB |"
        )


if __name__ == "__main__":
    main()
