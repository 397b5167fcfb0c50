"""Compares students of dp-sad of one teacher: four steps, and one step learned by BOOT.

    python scripts/boot_table.py digits --held-out 0.2 --delta 1e-4 --out assets/boot.json
    python scripts/boot_table.py DATA --classes 10 --run RUN --out assets/boot.json

Without --run a teacher is trained, with the defaults of dp-sad, on training records of which a part
is held out. With it the teacher is that of a finished run of dp-sad, and its students are judged on
some of the training records, which the run may have learned from. Test records are not read. A row
that is in the output is not measured again; a table in Markdown is written beside it.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from classifier_table import halves
from measurement import Rows, fitted_apart, markdown

from dpgen import DPSAD, Budget, Images, load
from dpgen.evaluation.utility import UtilityProtocol, utility
from dpgen.generator.interface import PrivateGenerator
from dpgen.networks.denoiser import Denoiser
from dpgen.runs.checkpoint import Checkpoints
from dpgen.runs.context import Hardware
from dpgen.training.bootstrapping import bootstrap
from dpgen.training.distillation import distil, draw_pairs
from dpgen.training.distillation_settings import BOOT, Distillation
from samplers import DDIM, Annealed, Sampler

WORDS = """# Students of one step by BOOT, and of four steps

Written by `python scripts/boot_table.py` (options as in the rows): accuracy in % of the CNN of
`dpgen evaluate`, which learned from `samples` images of each network, on training records. With
`held out` at 0 the teacher learned from all training records, so that rows compare networks with
each other and are no estimate of accuracy on new images. Test records were not read. Rows of one
teacher differ by what is free alone. `evaluations` is how often a network is evaluated for one
image, `CPU s` what the student took, with the teacher's images for it, on one core. Add/remove.

"""
COLUMNS = (
    "data", "held_out", "judged_on", "samples", "epsilon", "delta", "seed", "network",
    "evaluations", "steps", "batch", "learning rate", "accuracy", "CPU s",
)  # fmt: skip


@dataclass(frozen=True)
class Judged:
    """What the images of every network are judged on.

    Args:
        held: real images.
        n_learned: real images that the teacher learned from.
        n_classes: number of classes.
        n_samples: images that the CNN learns from.
        seed: of the images and the CNN.
    """

    held: Images
    n_learned: int
    n_classes: int
    n_samples: int
    seed: int

    def accuracy(self, network: Denoiser, sampler: Sampler) -> float:
        """Measures the accuracy in % of a CNN that learned from the network's images."""
        generator = torch.Generator().manual_seed(self.seed)
        labels, parts = torch.arange(self.n_samples) % self.n_classes, []
        for y in labels.split(500):
            z = torch.randn(len(y), *network.config.shape, generator=generator)
            with torch.no_grad():
                images = sampler(network.score_fn(y), z, generator=generator)
            parts.append(images.clamp(-1, 1))
        found = utility(
            Images(torch.cat(parts), labels), self.held, self.n_classes, seed=self.seed,
            protocol=UtilityProtocol.of("cnn", self.n_learned),
        )  # fmt: skip
        return round(100 * found.accuracy, 2)


def student_of(teacher: Denoiser, settings: Distillation, seed: int, place: Path) -> Denoiser:
    """Makes a student of a released teacher, as dp-sad does."""
    generator = torch.Generator().manual_seed(seed)
    accelerator = Hardware("cpu").accelerator()
    given: dict[str, Any] = {
        "generator": generator, "checkpoints": Checkpoints(place), "accelerator": accelerator,
        "show": False,
    }  # fmt: skip
    if settings.pairing == BOOT:
        return bootstrap(teacher, settings, **given)
    pool = draw_pairs(teacher, settings, generator=generator, device=accelerator.device, show=False)
    return distil(teacher, pool, settings, **given)


def compare(
    teacher: Denoiser, settings: list[Distillation], judged: Judged, cell: dict[str, Any],
    rows: Rows,
) -> None:  # fmt: skip
    """Adds a row for the teacher and one for each student that has none yet."""
    path = Distillation().path
    own = {**cell, "network": "teacher", "evaluations": path.n_levels}
    if not rows.hold(**own):
        rows.add({**own, "accuracy": judged.accuracy(teacher, Annealed(path, DDIM(eta=0.0)))})
        print(rows.held[-1], flush=True)
    for one in settings:
        own = {**cell, "network": one.pairing, "evaluations": one.n_steps, "student": asdict(one)}
        if rows.hold(**own):
            continue
        started = time.process_time()
        with tempfile.TemporaryDirectory() as place:
            student = student_of(teacher, one, judged.seed, Path(place))
        seconds = round(time.process_time() - started)
        found = judged.accuracy(student, Annealed(one.levels, transport=DDIM(eta=0.0)))
        rows.add({**own, "accuracy": found, "cpu_seconds": seconds})
        print(rows.held[-1], flush=True)


def table(rows: list[dict[str, Any]]) -> str:
    """Writes the rows as a table in Markdown."""
    lines = []
    for row in rows:
        student = row.get("student", {})
        lines.append([
            *(row[name] for name in COLUMNS[:7]),
            {"teacher": "teacher", BOOT: "student, BOOT"}.get(row["network"], "student"),
            row["evaluations"],
            *(student.get(name, "") for name in ("n_iterations", "batch_size", "learning_rate")),
            row["accuracy"], row.get("cpu_seconds", ""),
        ])  # fmt: skip
    head = [name.replace("_", " ") for name in COLUMNS]
    return WORDS + markdown(head, lines)


def teacher_of(generator: PrivateGenerator) -> Denoiser:
    teacher = generator.networks["teacher"]
    assert isinstance(teacher, Denoiser)
    return teacher


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data")
    parser.add_argument("--classes", type=int, help="where the data do not name them")
    parser.add_argument("--run", type=Path, help="finished run of dp-sad on all of DATA")
    parser.add_argument("--held-out", type=float, default=0.2, help="share of training records")
    parser.add_argument("--epsilons", type=float, nargs="+", default=[10.0])
    parser.add_argument("--delta", type=float, default=1e-5)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--samples", type=int, default=4000)
    parser.add_argument("--four", type=int, nargs="*", default=[150], help="steps of training")
    parser.add_argument("--boot", type=int, nargs="*", default=[150, 500], help="steps of training")
    parser.add_argument("--rates", type=float, nargs="+", default=[2e-4], help="of BOOT")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--pool", type=int, default=4000)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    rows = Rows(given.out, table)
    learned, held, class_names = halves(given.data, given.held_out, given.classes)
    settings = [
        Distillation(n_iterations=n, batch_size=given.batch, pool_size=given.pool)
        for n in given.four
    ] + [
        Distillation(
            n_steps=1, pairing=BOOT, n_iterations=n, batch_size=given.batch, learning_rate=rate
        )
        for n in given.boot for rate in given.rates
    ]  # fmt: skip
    cell: dict[str, Any] = {"data": Path(given.data).name, "judged_on": len(held.labels)}
    cell |= {"samples": given.samples}
    for seed in given.seeds:
        if given.run is not None:
            finished = load(given.run)
            budget, n_learned = finished.budget, len(learned.labels) + len(held.labels)
            judged = Judged(held, n_learned, len(class_names), given.samples, seed)
            spent = {"epsilon": budget.epsilon, "delta": budget.delta, "seed": seed}
            own = {"records": n_learned, "held_out": 0}
            compare(teacher_of(finished), settings, judged, {**cell, **spent, **own}, rows)
            continue
        judged = Judged(held, len(learned.labels), len(class_names), given.samples, seed)
        for epsilon in given.epsilons:
            spent = {"epsilon": epsilon, "delta": given.delta, "seed": seed}
            own = {"records": len(learned.labels), "held_out": len(held.labels)}
            with tempfile.TemporaryDirectory() as place:
                method = DPSAD(budget=Budget(epsilon, given.delta))
                fitted_apart(method, learned, class_names, Path(place), seed=seed)
                compare(teacher_of(method), settings, judged, {**cell, **spent, **own}, rows)


if __name__ == "__main__":
    main()
