"""PGE mode sketch on images of your own, MNIST for instance: accuracy, time and memory.

    python scripts/sketch_table.py --data mnist/ --out assets/sketch.json

One row a (epsilon, labeller share, seed): trains, draws 60,000 images, trains the usual classifier
of `dpgen evaluate` on them and tests it on the real test split. A row that is already in the
output file is not run again. The ledger of every run is its own, in a temporary home: this script
measures, on public data, and publishes none of the runs.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from dpgen import PGE, Budget, PGESettings, open_images
from dpgen.data.sources import read_images
from dpgen.evaluation.utility import UtilityProtocol, utility
from dpgen.stages.sketch import SketchSettings


def measure(data: Path, epsilon: float, delta: float, share: float, seed: int) -> dict[str, Any]:
    settings = PGESettings(mode="sketch", sketch=SketchSettings(labeller_share=share))
    with tempfile.TemporaryDirectory() as home:
        os.environ["DPGEN_HOME"] = home
        start = time.perf_counter()
        generator = PGE(budget=Budget(epsilon, delta), settings=settings).fit(
            open_images(data), out=Path(home) / "run", seed=seed, show=True
        )
        trained = time.perf_counter()
        images = generator.sample(60_000, generator=torch.Generator().manual_seed(seed))
        drawn = time.perf_counter()
        guarantee = generator.privacy["guarantee"]
    real, protocol = read_images(data, split="test"), UtilityProtocol()
    found = utility(images, real, 10, seed=seed, protocol=protocol)
    return {
        "epsilon": guarantee["epsilon"],
        "delta": guarantee["delta"],
        "adjacency": guarantee["adjacency"],
        "wanted": epsilon,
        "labeller_share": share,
        "seed": seed,
        "accuracy": 100 * found.accuracy,
        "minutes": {"train": (trained - start) / 60, "sample": (drawn - trained) / 60},
        "gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "threads": torch.get_num_threads(),
        "protocol": asdict(protocol),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--epsilons", type=float, nargs="+", default=[10.0, 1.0])
    parser.add_argument("--delta", type=float, default=1e-5)
    parser.add_argument("--shares", type=float, nargs="+", default=[0.0, 0.2], help="of labellers")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    rows = json.loads(args.out.read_text()) if args.out.exists() else []
    for seed in range(args.seeds):
        for epsilon in args.epsilons:
            for share in args.shares:
                key = (epsilon, share, seed)
                if key in [(r["wanted"], r["labeller_share"], r["seed"]) for r in rows]:
                    continue
                rows.append(measure(args.data, epsilon, args.delta, share, seed))
                args.out.write_text(json.dumps(rows, indent=1) + "\n")
                print(json.dumps({k: v for k, v in rows[-1].items() if k != "protocol"}))
    print("\n| epsilon | labeller share | seed | accuracy | train | sample | memory |")
    print("|---|---|---|---|---|---|---|")
    for r in sorted(rows, key=lambda r: (-r["wanted"], r["labeller_share"], r["seed"])):
        took = r["minutes"]
        print(
            f"| {r['epsilon']:g} | {r['labeller_share']:g} | {r['seed']} | {r['accuracy']:.2f} % | "
            f"{took['train']:.1f} min | {took['sample']:.1f} min | {r['gib']:.1f} GiB |"
        )


if __name__ == "__main__":
    main()
