"""The README's table on the embedded digits: warm start alone, teacher, student, at two epsilons.

    python scripts/digits_table.py --seeds 5 --out assets/digits.json

Each row is the mean over seeds (training, sampling and classifier alike) with its standard error,
of the accuracy on the 360 held-out real digits of the default classifier of `dpgen evaluate`,
trained on 10,000 samples.
"""

from __future__ import annotations

import argparse
import json
import statistics
from dataclasses import asdict
from pathlib import Path

import torch

from dpgen import DPSAD, Budget, Images, open_images
from dpgen.data.sources import read_images
from dpgen.evaluation.utility import UtilityProtocol, utility
from dpgen.generator.drawing import Drawing, draw_blocks
from samplers import DDIM, Annealed


def samples(generator: DPSAD, seed: int) -> dict[str, Images]:
    labels = torch.arange(10_000) % 10
    teacher, student = generator.networks["teacher"], generator.networks["model"]
    assert teacher.prior is not None
    rng = torch.Generator().manual_seed(seed)
    path = Annealed(generator.settings.student.path, DDIM())
    sets = {
        "warm start": [Images(teacher.prior.sample(labels, rng), labels)],
        f"teacher, {path.levels.n_levels} steps": list(
            draw_blocks(Drawing(teacher, path), labels, seed)
        ),
        f"student, {generator.settings.student.n_steps} steps": list(
            draw_blocks(Drawing(student, generator.default_sampler()), labels, seed)
        ),
    }
    return {name: Images.joined(blocks) for name, blocks in sets.items()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epsilons", type=float, nargs="+", default=[10.0, 1.0])
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    real, protocol = read_images("digits", split="test"), UtilityProtocol()
    rows = []
    for epsilon in args.epsilons:
        scores: dict[str, list[float]] = {}
        for seed in range(args.seeds):
            generator = DPSAD(budget=Budget(epsilon, 1e-4)).fit(
                open_images("digits"), seed=seed, show=True
            )
            stated = generator.privacy["guarantee"]["epsilon"]
            for name, images in samples(generator, seed).items():
                scores.setdefault(name, []).append(
                    100 * utility(images, real, 10, seed=seed, protocol=protocol).accuracy
                )
            print(
                epsilon,
                seed,
                {name: round(values[-1], 1) for name, values in scores.items()},
                flush=True,
            )
        for name, values in scores.items():
            error = (
                statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else float("nan")
            )
            mean = statistics.mean(values)
            row = {"epsilon": stated, "delta": 1e-4, "set": name, "accuracy": mean}
            rows.append({**row, "standard_error": error, "values": values})
            print(f"epsilon {stated:g}  {name:20} {mean:.1f} +- {error:.1f} %", flush=True)
    if args.out:
        args.out.write_text(
            json.dumps({"protocol": asdict(protocol), "rows": rows}, indent=1) + "\n"
        )


if __name__ == "__main__":
    main()
