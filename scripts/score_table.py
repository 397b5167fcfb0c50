"""PGE on the embedded digits: residual enhancement on and off, and samplers at equal evaluations.

    python scripts/score_table.py --seeds 5 --out assets/scores.json

Every row is the accuracy on the 360 held-out real digits of the default classifier of `dpgen
evaluate`, trained on samples: the mean over seeds (training, sampling and classifier alike) with
its standard error. The first table has one budget and one sampler, the second one score network
and one number of evaluations of the score.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from dataclasses import asdict, replace
from pathlib import Path

import torch

from dpgen import PGE, Budget, Images, PGESettings, open_images
from dpgen.data.sources import read_images
from dpgen.evaluation.utility import UtilityProtocol, utility
from dpgen.stages.teacher import TeacherSettings
from samplers import Annealed, make_sampler

RESIDUALS = {
    "off: pre-trained on the Gaussian's images": {"residual": "off", "pretrain_steps": 1500},
    "added to the Gaussian's score": {"residual": "added"},
    "added and fed": {"residual": "fed"},
}
# The ladder that dpdm uses, and the one of PGE: kernels alone need levels close to each other.
LADDERS = {"0.02 to 20": (0.02, 20.0), "0.1 to 3": (0.1, 3.0)}
ROWS = [("heun", "0.02 to 20", {}), ("hamiltonian", "0.02 to 20", {})] + [
    (name, "0.1 to 3", options)
    for name, options in {
        "heun": {},
        "langevin": {},
        "underdamped": {},
        "hamiltonian": {},
        "hamiltonian, as PGE": {"n_leapfrog": 2, "step_size": 0.7},
    }.items()
]


def with_evaluations(
    name: str, ladder: str, options: dict[str, float], n_evaluations: int
) -> Annealed:
    """The named sampler on as many levels as ``n_evaluations`` of the score allow."""
    low, high = LADDERS[ladder]

    def on(n_steps: int) -> Annealed:
        kind = name.split(",")[0]
        return make_sampler(kind, n_steps=n_steps, sigma_min=low, sigma_max=high, **options)

    n_steps = 1
    while on(n_steps + 1).n_evaluations <= n_evaluations:
        n_steps += 1
    return on(n_steps)


class Table:
    """Scores by row, in the order of their first seed."""

    def __init__(self, n_samples: int) -> None:
        self.scores: dict[tuple[str, float, str], list[float]] = {}
        self.real, self.protocol = read_images("digits", split="test"), UtilityProtocol()
        self.n_samples = n_samples

    def add(
        self, table: str, row: str, generator: PGE, sampler: Annealed | None, seed: int
    ) -> None:
        rng = torch.Generator().manual_seed(seed)
        images: Images = generator.sample(self.n_samples, sampler=sampler, generator=rng)
        found = utility(images, self.real, 10, seed=seed, protocol=self.protocol).accuracy
        stated = generator.privacy["guarantee"]["epsilon"]
        self.scores.setdefault((table, stated, row), []).append(100 * found)
        print(f"seed {seed}: epsilon {stated:g}, {row}: {100 * found:.1f} %", flush=True)

    def rows(self) -> list[dict[str, object]]:
        def error(values: list[float]) -> float:
            alone = len(values) == 1
            return math.nan if alone else statistics.stdev(values) / len(values) ** 0.5

        return [
            {
                "table": table, "epsilon": epsilon, "delta": 1e-4, "row": row,
                "accuracy": statistics.mean(values), "standard_error": error(values),
                "values": values,
            }
            for (table, epsilon, row), values in self.scores.items()
        ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epsilons", type=float, nargs="+", default=[10.0, 1.0])
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument("--evaluations", type=int, default=72, help="of the score, per image")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    table = Table(args.samples)
    for epsilon in args.epsilons:
        for seed in range(args.seeds):
            for name, changes in RESIDUALS.items():
                settings = PGESettings(teacher=replace(TeacherSettings(), **changes))
                generator = PGE(budget=Budget(epsilon, 1e-4), settings=settings).fit(
                    open_images("digits"), seed=seed
                )
                table.add("residual", name, generator, None, seed)
            # The last one is the default, and the network of the second table.
            for name, ladder, options in ROWS:
                sampler = with_evaluations(name, ladder, options, args.evaluations)
                row = f"{name}, sigma {ladder}, {sampler.n_evaluations} evaluations"
                table.add("sampler", row, generator, sampler, seed)
    print("\n| table | epsilon | | accuracy |\n| --- | --- | --- | --- |")
    for row in table.rows():
        accuracy = f"{row['accuracy']:.1f} +- {row['standard_error']:.1f} %"
        print(f"| {row['table']} | {row['epsilon']:g} | {row['row']} | {accuracy} |")
    if args.out:
        written = {
            "protocol": asdict(table.protocol),
            "n_samples": args.samples,
            "rows": [
                {
                    **row,
                    "standard_error": None if len(row["values"]) == 1 else row["standard_error"],
                }
                for row in table.rows()
            ],
        }
        args.out.write_text(json.dumps(written, indent=1) + "\n")


if __name__ == "__main__":
    main()
