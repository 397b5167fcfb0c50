"""PGE on the embedded digits: residual enhancement on and off, and samplers at equal evaluations.

    python scripts/score_table.py --seeds 5 --out assets/scores.json

Every row is the accuracy on the 360 held-out real digits of the default classifier of `dpgen
evaluate`, trained on samples: the mean over seeds (training, sampling and classifier alike) with
its standard error. The first table has one budget and one sampler, the second one score network
and one number of evaluations of the score. A score that is already in the output file is not
measured again.
"""

from __future__ import annotations

import argparse
import json
import statistics
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

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
DEFAULT = "added and fed"
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
    """Makes the named sampler with as many levels as ``n_evaluations`` of the score allow."""
    low, high = LADDERS[ladder]

    def on(n_steps: int) -> Annealed:
        kind = name.split(",")[0]
        return make_sampler(kind, n_steps=n_steps, sigma_min=low, sigma_max=high, **options)

    n_steps = 1
    while on(n_steps + 1).n_evaluations <= n_evaluations:
        n_steps += 1
    return on(n_steps)


class Table:
    """Scores by row, in the order of their first seed; on disk after each."""

    def __init__(self, n_samples: int, out: Path) -> None:
        self.real, self.protocol = read_images("digits", split="test"), UtilityProtocol()
        self.n_samples, self.out = n_samples, out
        self.scores: dict[tuple[str, float, str], list[float]] = {}
        if out.exists():
            held = json.loads(out.read_text())
            if (held["n_samples"], held["protocol"]) != (n_samples, asdict(self.protocol)):
                raise SystemExit(f"{out} was made by another protocol: choose another file")
            for row in held["rows"]:
                self.scores[row["table"], row["epsilon"], row["row"]] = row["values"]

    def holds(self, table: str, epsilon: float, row: str, seed: int) -> bool:
        return len(self.scores.get((table, epsilon, row), ())) > seed

    def add(
        self, table: str, epsilon: float, row: str, generator: PGE, sampler: Annealed | None,
        seed: int,
    ) -> None:  # fmt: skip
        rng = torch.Generator().manual_seed(seed)
        images: Images = generator.sample(self.n_samples, sampler=sampler, generator=rng)
        found = utility(images, self.real, 10, seed=seed, protocol=self.protocol).accuracy
        assert generator.privacy["guarantee"]["epsilon"] == epsilon
        self.scores.setdefault((table, epsilon, row), []).append(100 * found)
        print(f"seed {seed}: epsilon {epsilon:g}, {row}: {100 * found:.1f} %", flush=True)
        written = {
            "protocol": asdict(self.protocol),
            "n_samples": self.n_samples,
            "rows": self.rows(),
        }
        self.out.write_text(json.dumps(written, indent=1) + "\n")

    def rows(self) -> list[dict[str, Any]]:
        def error(values: list[float]) -> float | None:
            return None if len(values) == 1 else statistics.stdev(values) / len(values) ** 0.5

        return [
            {
                "table": table, "epsilon": epsilon, "delta": 1e-4, "row": row,
                "accuracy": statistics.mean(values), "standard_error": error(values),
                "values": values,
            }
            for (table, epsilon, row), values in self.scores.items()
        ]  # fmt: skip


def fitted(epsilon: float, changes: dict[str, Any], seed: int) -> PGE:
    settings = PGESettings(teacher=replace(TeacherSettings(), **changes))
    return PGE(budget=Budget(epsilon, 1e-4), settings=settings).fit(
        open_images("digits"), seed=seed
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epsilons", type=float, nargs="+", default=[10.0, 1.0])
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument("--evaluations", type=int, default=72, help="of the score, per image")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    table = Table(args.samples, args.out)
    for seed in range(args.seeds):
        for epsilon in args.epsilons:
            made = {}
            for name, changes in RESIDUALS.items():
                if not table.holds("residual", epsilon, name, seed):
                    made[name] = fitted(epsilon, changes, seed)
                    table.add("residual", epsilon, name, made[name], None, seed)
            for name, ladder, options in ROWS:
                sampler = with_evaluations(name, ladder, options, args.evaluations)
                row = f"{name}, sigma {ladder}, {sampler.n_evaluations} evaluations"
                if not table.holds("sampler", epsilon, row, seed):
                    if DEFAULT not in made:
                        made[DEFAULT] = fitted(epsilon, RESIDUALS[DEFAULT], seed)
                    table.add("sampler", epsilon, row, made[DEFAULT], sampler, seed)
    print("\n| table | epsilon | | accuracy |\n| --- | --- | --- | --- |")
    for row in table.rows():
        spread = "" if row["standard_error"] is None else f" +- {row['standard_error']:.1f}"
        accuracy = f"{row['accuracy']:.1f}{spread} %"
        print(f"| {row['table']} | {row['epsilon']:g} | {row['row']} | {accuracy} |")


if __name__ == "__main__":
    main()
