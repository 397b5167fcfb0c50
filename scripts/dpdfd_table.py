"""Measures what each part of dpdfd does: teacher, prior, refinement, filter and student.

    python scripts/dpdfd_table.py --out assets/dpdfd.json
    python scripts/dpdfd_table.py --parts moments "moments, refined" --out assets/dpdfd.json

Each cell releases a prior and a teacher once, from a part of the training records, and is scored on
the rest; test records are not read. Generators and students are then made of the same release, so
that rows of a cell with one prior differ by what is free alone. A cell that is in the output file
is not run again; a table in Markdown is written beside it.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from classifier_table import halves
from measurement import Rows, fitted_apart, markdown

from dpgen import (
    DPDFD,
    Budget,
    ClassifierSettings,
    DPDFDSettings,
    Images,
    RefinementSettings,
    SketchSettings,
    StudentSettings,
)
from dpgen.evaluation.utility import UtilityProtocol, accuracy, utility
from dpgen.networks.labeller import Labeller
from dpgen.networks.proposer import Proposer
from dpgen.runs.checkpoint import Checkpoints
from dpgen.runs.context import Hardware, Workplace
from dpgen.stages.sketch import untrained
from dpgen.training.data_free import refine
from dpgen.training.students import teach

NO_PRIOR = 0.02  # share of mu^2 of a sketch whose decoder is thrown away
PARTS = {
    "none": "no prior: untrained, then `class`", "released": "sketch, as released",
    "refined": "sketch, refined", "moments": "moments, as released",
    "moments, refined": "moments, refined",
}  # fmt: skip
# Where a cell says how good the teacher is that each part has.
TEACHERS = dict.fromkeys(("moments", "moments, refined"), "teacher, moments") | {
    "none": "teacher, no prior"
}
SCORES = ("agreed", "samples", "samples, filtered", "student", "student, filtered")
WORDS = """# What each part of dpdfd does

Written by `python scripts/dpdfd_table.py --out assets/dpdfd.json` (`--parts`, `--filter`,
`--held-out` and `--delta` as in the rows): a part of the training records is held out, and every
number is an accuracy in % on it; test records were not read. Add/remove; the teacher has half of
mu^2, and nearly all where there is no prior. Moments are drawn from with the warps that a sketch
has. `agreed` is the share of drawn images that the teacher takes for the class that was asked for;
`samples` a CNN on {samples:,} of them, as `dpgen evaluate` trains it; `filtered` draws again, up
to eight times, what the teacher takes for another class, and its student learns only from the rest.

"""
HEAD = ("data", "held out", "epsilon", "delta", "seed", "teacher", "generator", *SCORES)
UNANCHORED = RefinementSettings(n_steps=800, anchor_weight=0.0)


def settings_of(kind: str, share: float) -> SketchSettings:
    """Makes the settings of the private stages with a teacher of this kind and share of mu^2."""
    if kind == "moments":
        return SketchSettings(labeller_share=share)
    return SketchSettings(classifier=ClassifierSettings(share=share))


class Cell:
    """One release, and everything that is made of it.

    Args:
        place: folder of the run.
        learned, held: records that the run learns from, and those that it is scored on.
        n_samples: images that a classifier of samples learns from.
        filters: what is scored: images without the filter, "off", and with it, "on".
    """

    def __init__(
        self, place: Path, sketch: SketchSettings, learned: Images, held: Images,
        class_names: tuple[str, ...], budget: Budget, seed: int, n_samples: int,
        filters: list[str],
    ) -> None:  # fmt: skip
        quick = RefinementSettings(n_steps=0)
        settings = DPDFDSettings(
            sketch=sketch, refinement=quick, student=StudentSettings(n_steps=1)
        )
        generator = fitted_apart(
            DPDFD(budget=budget, settings=settings),
            learned, class_names, place, seed=seed,
        )  # fmt: skip
        model, teacher = generator.networks["model"], generator.classifier
        assert isinstance(model, Proposer) and teacher is not None
        self.model, self.teacher, self.held = model, teacher, held
        self.facts = generator.facts
        self.seed, self.n_samples, self.place = seed, n_samples, place
        self.filters = filters
        self.n_learned = len(learned.labels)

    def work(self, name: str) -> Workplace:
        accelerator = Hardware("cpu").accelerator()
        return Workplace(Checkpoints(self.place / name), accelerator, None, self.seed, False)

    def refined(self, name: str, settings: RefinementSettings, *, prior: bool = True) -> Proposer:
        """Returns the model refined, from the released decoder or from one that knows nothing."""
        assert self.facts is not None and self.model.decoder is not None
        decoder = self.model.decoder if prior else untrained(self.facts, self.seed)
        refined = refine(decoder, self.teacher, settings, StudentSettings(), self.work(name))
        return self.model.with_decoder(refined)

    def filtered(self, model: Proposer, on: bool) -> Proposer:
        """Returns the model whose images the teacher sends back, or not."""
        if on:
            return model.judged_by(self.teacher)
        plain = Proposer(replace(model.config, labeller=None))
        plain.decoder = model.decoder
        return plain

    def scored(self, name: str, model: Proposer, student: StudentSettings) -> dict[str, float]:
        """Scores samples of the model, with and without the filter, and its student."""
        found: dict[str, float] = {}
        labels = torch.arange(self.n_samples) % model.n_classes
        assert self.facts is not None
        for on in [given == "on" for given in self.filters]:
            one = self.filtered(model, on)
            pixels = one.draw(labels, torch.Generator().manual_seed(self.seed))
            if not on:
                agreed = (self.teacher.label(pixels) == labels).float().mean()
                found["agreed"] = 100 * float(agreed)
            made = utility(
                Images(pixels, labels), self.held, model.n_classes, seed=self.seed,
                protocol=UtilityProtocol.of("cnn", self.n_learned),
            )  # fmt: skip
            found["samples, filtered" if on else "samples"] = 100 * made.accuracy
            own = replace(student, agreed=on)
            network = teach(one, self.teacher, own, self.work(f"{name} {on}"))
            found["student, filtered" if on else "student"] = 100 * accuracy(network, self.held)
            print(name, _rounded(found), flush=True)
        return found


def teacher_accuracy(teacher: Labeller, held: Images) -> float:
    return 100 * float((teacher.label(held.pixels) == held.labels).float().mean())


def measured(
    kind: str, share: float, learned: Images, held: Images, class_names: tuple[str, ...],
    budget: Budget, seed: int, n_samples: int, parts: list[str], filters: list[str],
) -> dict[str, Any]:  # fmt: skip
    """Makes one release and scores what is made of it."""
    started = time.process_time()
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as place:
        given = (learned, held, class_names, budget, seed, n_samples, filters)
        student = StudentSettings()
        if {"released", "refined"} & set(parts):
            cell = Cell(Path(place) / "sketch", settings_of(kind, share), *given)
            found["teacher"] = teacher_accuracy(cell.teacher, held)
            print(budget, kind, share, seed, "teacher", found["teacher"], flush=True)
        if "released" in parts:
            found["released"] = cell.scored("released", cell.model, student)
        if "refined" in parts:
            model = cell.refined("refined", RefinementSettings())
            found["refined"] = cell.scored("refined", model, student)
        if {"moments", "moments, refined"} & set(parts):
            spectral = replace(settings_of(kind, share), kind="spectrum", augment="warp")
            other = Cell(Path(place) / "moments", spectral, *given)
            found["teacher, moments"] = teacher_accuracy(other.teacher, held)
            print(budget, kind, seed, "teacher", found["teacher, moments"], flush=True)
            if "moments" in parts:
                found["moments"] = other.scored("moments", other.model, student)
            if "moments, refined" in parts:
                model = other.refined("moments refined", RefinementSettings())
                found["moments, refined"] = other.scored("moments, refined", model, student)
        if "none" in parts:
            thrown = replace(settings_of(kind, 1 - NO_PRIOR), n_steps=(150, 150), n_samples=4000)
            bare = Cell(Path(place) / "none", thrown, *given)
            found["teacher, no prior"] = teacher_accuracy(bare.teacher, held)
            print(budget, kind, seed, "teacher", found["teacher, no prior"], flush=True)
            model = bare.refined("none", UNANCHORED, prior=False)
            found["none"] = bare.scored("none", model, student)
    return {**_rounded(found), "cpu_seconds": round(time.process_time() - started)}


def _rounded(found: Any) -> Any:  # noqa: ANN401
    if isinstance(found, dict):
        return {name: _rounded(value) for name, value in found.items()}
    return round(found, 2)


def table(rows: list[dict[str, Any]]) -> str:
    """Writes the rows as a table in Markdown, a line a generator."""
    lines = []
    for row in sorted(rows, key=lambda row: (row["data"], -row["epsilon"], row["seed"])):
        for part, words in PARTS.items():
            if part not in row:
                continue
            found = row[part]
            teacher = row[TEACHERS.get(part, "teacher")]
            lines.append([
                row["data"], row["held_out"], f"{row['epsilon']:g}", row.get("delta", ""),
                row["seed"], teacher, words,
                *(found.get(name, "") for name in SCORES),
            ])  # fmt: skip
    return WORDS.format(samples=rows[0]["samples"]) + markdown(HEAD, lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="digits")
    parser.add_argument("--classes", type=int, help="where the data do not name them")
    parser.add_argument("--delta", type=float, default=1e-4)
    parser.add_argument("--epsilons", type=float, nargs="+", default=[10.0, 1.0])
    parser.add_argument("--kinds", nargs="+", default=["descent"], choices=["descent", "moments"])
    parser.add_argument("--shares", type=float, nargs="+", default=[0.5])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument(
        "--parts", nargs="+", choices=list(PARTS), default=["released", "refined", "none"]
    )
    parser.add_argument("--filter", nargs="+", choices=["off", "on"], default=["off", "on"])
    parser.add_argument("--samples", type=int, default=4000)
    parser.add_argument("--held-out", type=float, default=0.2)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    rows = Rows(given.out, table)
    learned, held, class_names = halves(given.data, given.held_out, given.classes)
    for seed in given.seeds:
        for epsilon in given.epsilons:
            for kind in given.kinds:
                for share in given.shares:
                    cell = {
                        "data": Path(given.data).name, "teacher_kind": kind, "epsilon": epsilon,
                        "delta": given.delta, "share": share, "seed": seed, "parts": given.parts,
                        "records": len(learned.labels), "held_out": len(held.labels),
                        "samples": given.samples,
                    }  # fmt: skip
                    if rows.hold(**cell):
                        continue
                    found = measured(
                        kind, share, learned, held, class_names, Budget(epsilon, given.delta),
                        seed, given.samples, given.parts, given.filter,
                    )  # fmt: skip
                    rows.add({**cell, **found})
                    print(rows.held[-1], flush=True)


if __name__ == "__main__":
    main()
