"""DP-SAD with the sketch as warm start, and without it, at the same epsilon: accuracy and time.

    python scripts/warm_start_table.py --data mnist/ --out assets/warm_start.json

One row for each (epsilon, warm start, seed): trains DP-SAD with the same numbers but
`teacher.warm_start`, draws samples of the student, trains the usual classifier of `dpgen evaluate`
on them and tests it on the real test split. A row that is already in the output file is not run
again. Every run has its own ledger, in a temporary home: this script measures, on public data, and
publishes none of the runs.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from measurement import Rows, measure

from dpgen import DPSAD, Budget, DPSADSettings
from dpgen.data.sources import read_images
from dpgen.stages.teacher import TeacherSettings

# Few and small, for a CPU: nine tenths of mu^2 to the warm start, the rest to 100 steps.
TEACHER: dict[str, Any] = {
    "preset": "quick", "warm_start_share": 0.9, "batch": 256, "n_steps": 100, "n_draws": 4,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True)
    parser.add_argument("--epsilons", type=float, nargs="+", default=[10.0, 1.0])
    parser.add_argument("--delta", type=float, default=1e-5)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--samples", type=int, default=20_000)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    test, rows = read_images(args.data, split="test", classes=10), Rows(args.out)
    for seed in range(args.seeds):
        for epsilon in args.epsilons:
            for warm_start in ("moments", "sketch"):
                if rows.hold(wanted=epsilon, warm_start=warm_start, seed=seed):
                    continue
                teacher = TeacherSettings(warm_start=warm_start, **TEACHER)
                settings = DPSADSettings(teacher=teacher)
                generator = DPSAD(budget=Budget(epsilon, args.delta), settings=settings)
                found = measure(
                    generator, args.data, test, n_samples=args.samples, seed=seed, classes=10
                )
                rows.add({"wanted": epsilon, "warm_start": warm_start, "teacher": TEACHER, **found})
    print("\n| epsilon | warm start | seed | accuracy | train | sample |")
    print("|---|---|---|---|---|---|")
    for r in sorted(rows.held, key=lambda r: (-r["wanted"], r["warm_start"], r["seed"])):
        took = r["minutes"]
        print(
            f"| {r['epsilon']:g} | {r['warm_start']} | {r['seed']} | {r['accuracy']:.2f} % | "
            f"{took['train']:.1f} min | {took['sample']:.1f} min |"
        )


if __name__ == "__main__":
    main()
