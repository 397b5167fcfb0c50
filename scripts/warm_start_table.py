"""DP-SAD with the sketch as warm start, and without it, at the same epsilon: accuracy and time.

    python scripts/warm_start_table.py --data mnist/ --out assets/warm_start.json

One row a (epsilon, warm start, seed): trains DP-SAD with the same numbers but `teacher.warm_start`,
draws samples of the student, trains the usual classifier of `dpgen evaluate` on them and tests it
on the real test split. A row that is already in the output file is not run again. Every run has a
ledger of its own, in a temporary home: this script measures, on public data, and publishes none of
the runs.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from dpgen import DPSAD, Budget, DPSADSettings, open_images
from dpgen.data.sources import read_images
from dpgen.evaluation.utility import UtilityProtocol, utility
from dpgen.stages.teacher import TeacherSettings

# Few and small, for a CPU: nine tenths of mu^2 to the warm start, the rest to 100 steps.
TEACHER: dict[str, Any] = {
    "preset": "quick", "warm_start_share": 0.9, "batch": 256, "n_steps": 100, "n_draws": 4,
}  # fmt: skip


def measure(
    data: Path, budget: Budget, warm_start: str, seed: int, n_samples: int
) -> dict[str, Any]:
    settings = DPSADSettings(teacher=TeacherSettings(warm_start=warm_start, **TEACHER))
    with tempfile.TemporaryDirectory() as home:
        os.environ["DPGEN_HOME"] = home
        start = time.perf_counter()
        generator = DPSAD(budget=budget, settings=settings).fit(
            open_images(data), out=Path(home) / "run", seed=seed, show=True
        )
        trained = time.perf_counter()
        images = generator.sample(n_samples, generator=torch.Generator().manual_seed(seed))
        drawn = time.perf_counter()
        guarantee = generator.privacy["guarantee"]
    real, protocol = read_images(data, split="test"), UtilityProtocol()
    found = utility(images, real, len(real.labels.unique()), seed=seed, protocol=protocol)
    return {
        "wanted": budget.epsilon,
        "epsilon": guarantee["epsilon"],
        "delta": guarantee["delta"],
        "adjacency": guarantee["adjacency"],
        "warm_start": warm_start,
        "seed": seed,
        "accuracy": 100 * found.accuracy,
        "minutes": {"train": (trained - start) / 60, "sample": (drawn - trained) / 60},
        "threads": torch.get_num_threads(),
        "n_samples": n_samples,
        "teacher": TEACHER,
        "protocol": asdict(protocol),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--epsilons", type=float, nargs="+", default=[10.0, 1.0])
    parser.add_argument("--delta", type=float, default=1e-5)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--samples", type=int, default=20_000)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    rows = json.loads(args.out.read_text()) if args.out.exists() else []
    done = {(r["wanted"], r["warm_start"], r["seed"]) for r in rows}
    for seed in range(args.seeds):
        for epsilon in args.epsilons:
            for warm_start in ("moments", "sketch"):
                if (epsilon, warm_start, seed) in done:
                    continue
                budget = Budget(epsilon, args.delta)
                rows.append(measure(args.data, budget, warm_start, seed, args.samples))
                args.out.write_text(json.dumps(rows, indent=1) + "\n")
    print("\n| epsilon | warm start | seed | accuracy | train | sample |")
    print("|---|---|---|---|---|---|")
    for r in sorted(rows, key=lambda r: (-r["wanted"], r["warm_start"], r["seed"])):
        took = r["minutes"]
        print(
            f"| {r['epsilon']:g} | {r['warm_start']} | {r['seed']} | {r['accuracy']:.2f} % | "
            f"{took['train']:.1f} min | {took['sample']:.1f} min |"
        )


if __name__ == "__main__":
    main()
