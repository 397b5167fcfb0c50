"""Chooses settings of PGE's mode sketch without spending privacy: on released samples.

    python scripts/sketch_choice.py --run run --out assets/sketch_choice.json

Draws images of a finished run, takes most of them for private records and the others for a test
split, and lets each candidate learn from them at the same epsilon. Everything here is
post-processing of that one run. A candidate that is already in the output file is not run again.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from measurement import measure

from dpgen import PGE, Budget, Images, PGESettings, load
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
    name: str, private: Images, test: Images, budget: Budget, seed: int
) -> dict[str, Any]:
    settings = PGESettings(mode="sketch", sketch=SketchSettings(**CANDIDATES[name]))
    generator, n_samples = PGE(budget=budget, settings=settings), len(private.labels)
    found = measure(generator, private, test, n_samples=n_samples, seed=seed, sampling_seed=1)
    return {
        "candidate": name,
        "changes": CANDIDATES[name],
        **{key: found[key] for key in ("epsilon", "seed", "accuracy")},
        "minutes": sum(found["minutes"].values()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--records", type=int, default=60_000)
    parser.add_argument("--test", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--candidates", nargs="+", choices=list(CANDIDATES), default=CANDIDATES)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    base = load(args.run)
    drawn = base.sample(args.records + args.test, generator=torch.Generator().manual_seed(0))
    private, test = (
        Images(drawn.pixels[part], drawn.labels[part])
        for part in (slice(0, args.records), slice(args.records, None))
    )

    def table() -> dict[str, Any]:
        """As it is on disk: several processes, each with its candidates, may share the file."""
        if args.out.exists():
            return dict(json.loads(args.out.read_text()))
        of = base.privacy["guarantee"] | {"settings": asdict(base.settings)}
        return {"of": of, "protocol": asdict(UtilityProtocol()), "rows": []}

    for name in args.candidates:
        if (name, args.seed) not in [(r["candidate"], r["seed"]) for r in table()["rows"]]:
            row = candidate(name, private, test, base.budget, args.seed)
            held = table()
            held["rows"].append(row)
            args.out.write_text(json.dumps(held, indent=1) + "\n")
    print("\n| candidate | seed | accuracy on released samples |\n| --- | --- | --- |")
    for row in sorted(table()["rows"], key=lambda row: -row["accuracy"]):
        print(f"| {row['candidate']} | {row['seed']} | {row['accuracy']:.2f} % |")


if __name__ == "__main__":
    main()
