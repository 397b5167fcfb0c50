"""Measures what of a teacher's backdoor reaches a student without data, with and without defences.

    python scripts/backdoor_table.py --out backdoor.json

A part of the training records of the embedded digits is held out, and test records are not read. Of
the rest a tenth is poisoned: it gets a bright patch of 2x2 pixels in a corner, and the label of one
class. A teacher learns from these without privacy, as the attacker would have it; generators begin
as a sketch of the records, with or without the poison, or from nothing. A row that is in the output
file is not measured again; a table in Markdown is written beside it.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from classifier_table import halves
from measurement import Rows, fitted_apart, markdown
from torch import Tensor
from torch.nn import functional

from dpgen import (
    DPDFD,
    Budget,
    ClassifierSettings,
    DPDFDSettings,
    Images,
    PublicFacts,
    RefinementSettings,
    SketchSettings,
    StudentSettings,
)
from dpgen.evaluation.utility import accuracy
from dpgen.networks.decoder import Decoder
from dpgen.networks.proposer import Proposer, ProposerConfig
from dpgen.networks.student import ClassifierConfig, Student
from dpgen.runs.checkpoint import Checkpoints
from dpgen.runs.context import Hardware, Workplace
from dpgen.stages.sketch import untrained
from dpgen.training import students
from dpgen.training.data_free import refine

SHARE, SIDE, TARGET = 0.1, 2, 0  # poisoned records, side of the patch, their class
BUDGET = Budget(10.0, 1e-4)  # of a sketch
TEACHER_STEPS = 300
VACCINE = 0.1
DEFENCES = {"none": (False, False), "vaccine": (True, False), "retrospect": (False, True),
            "both": (True, True)}  # fmt: skip
PRIORS = ("poisoned", "clean", "none")
WORDS = """# What of a backdoor reaches a student

Written by `python scripts/backdoor_table.py --out {out}`, with `--priors` as in the rows: accuracy,
and success of the attack (the share of images of other classes that the patch turns into its
class), in % on a fifth of the 1,437 training digits, which was held out; test records were not
read. A tenth of the others is poisoned. `prior`: the records whose sketch, at epsilon {epsilon:g},
the generator begins as, with the poison or without it; `none`: an untrained generator, `class` and
`adversarial` alone.

"""
HEAD = ("seed", "prior", "defence", "teacher", "its attack", "student", "its attack", "agreed")


def patched(pixels: Tensor) -> Tensor:
    """Puts the patch into the last corner of images (N, C, H, W)."""
    found = pixels.clone()
    found[:, :, -SIDE:, -SIDE:] = 1.0
    return found


def poisoned(images: Images, seed: int) -> Images:
    """Poisons a tenth of the images, chosen at random."""
    order = torch.randperm(len(images.labels), generator=torch.Generator().manual_seed(seed))
    rows = order[: round(SHARE * len(order))]
    pixels, labels = images.pixels.clone(), images.labels.clone()
    pixels[rows], labels[rows] = patched(pixels[rows]), TARGET
    return Images(pixels, labels)


def attacked(student: Student, held: Images) -> float:
    """Computes the share of images of other classes that the patch turns into its class, in %."""
    others = held.pixels[held.labels != TARGET]
    return 100 * float((student.label(patched(others)) == TARGET).float().mean())


def teacher_of(images: Images, facts: PublicFacts, seed: int) -> Student:
    """Trains a classifier without privacy."""
    found = students.untrained(ClassifierConfig(facts.shape, facts.n_classes), seed)
    rng = torch.Generator().manual_seed(seed)
    adam = torch.optim.Adam(found.parameters(), lr=2e-3)
    for _ in range(TEACHER_STEPS):
        rows = torch.randint(len(images.labels), (128,), generator=rng)
        adam.zero_grad()
        functional.cross_entropy(found(images.pixels[rows]), images.labels[rows]).backward()
        adam.step()
    return found.eval().requires_grad_(False)


def prior_of(images: Images, class_names: tuple[str, ...], seed: int) -> Decoder:
    """Returns the decoder of a short sketch of these images."""
    sketch = SketchSettings(
        rounds=(1.0,), n_steps=(500,), n_frequencies=800, n_samples=500,
        classifier=ClassifierSettings(share=0.05, n_steps=2, judges=False),
    )  # fmt: skip
    settings = DPDFDSettings(
        sketch=sketch, refinement=RefinementSettings(n_steps=0), student=StudentSettings(n_steps=1)
    )
    with tempfile.TemporaryDirectory() as place:
        generator = DPDFD(budget=BUDGET, settings=settings)
        fitted_apart(generator, images, class_names, Path(place), seed=seed)
    model = generator.networks["model"]
    assert isinstance(model, Proposer) and model.decoder is not None
    return model.decoder


class Cell:
    """What the rows of one seed have in common: records, teacher and priors.

    Args:
        held_out: share of the training records that judges.
        seed: of all that is random but the split.
    """

    def __init__(self, held_out: float, seed: int) -> None:
        learned, self.held, names = halves("digits", held_out, None)
        shape = learned.pixels.shape[1:]
        self.facts = PublicFacts((shape[0], shape[1], shape[2]), names, len(learned.labels))
        self.seed, bad = seed, poisoned(learned, seed)
        self.teacher = teacher_of(bad, self.facts, seed)
        self.prior = cache(
            lambda name: untrained(self.facts, seed) if name == "none"
            else prior_of(bad if name == "poisoned" else learned, names, seed)
        )  # fmt: skip

    def measured(
        self, prior: str, defence: str, n_steps: int, student: StudentSettings
    ) -> dict[str, Any]:
        """Refines a generator and trains a student."""
        started = time.process_time()
        vaccine, retrospect = DEFENCES[defence]
        settings = RefinementSettings(n_steps, vaccine_weight=VACCINE if vaccine else 0.0)
        if prior == "none":
            settings = replace(
                settings, n_steps=2 * n_steps, anchor_weight=0.0, adversarial_weight=0.5
            )
        decoder = self.prior(prior)
        with tempfile.TemporaryDirectory() as place:
            accelerator = Hardware("cpu").accelerator()
            work = Workplace(Checkpoints(Path(place)), accelerator, None, self.seed, False)
            refined = refine(decoder, self.teacher, settings, student, work)
            proposer = Proposer(ProposerConfig(decoder.config, 1.0))
            proposer.decoder = refined
            own = replace(student, retrospect=retrospect)
            found = students.teach(proposer, self.teacher, own, work)
        labels = torch.arange(1000) % self.facts.n_classes
        drawn = proposer.draw(labels, torch.Generator().manual_seed(self.seed))
        agreed = (self.teacher.label(drawn) == labels).float().mean()
        numbers = {
            "teacher": 100 * accuracy(self.teacher, self.held),
            "teacher_attacked": attacked(self.teacher, self.held),
            "student": 100 * accuracy(found, self.held),
            "student_attacked": attacked(found, self.held), "agreed": 100 * float(agreed),
        }  # fmt: skip
        seconds = round(time.process_time() - started)
        return {**{k: round(v, 1) for k, v in numbers.items()}, "cpu_seconds": seconds}


def table(out: Path, rows: list[dict[str, Any]]) -> str:
    """Writes the rows as a table in Markdown."""
    names = (
        "seed", "prior", "defence", "teacher", "teacher_attacked", "student", "student_attacked",
        "agreed",
    )  # fmt: skip
    words = WORDS.format(out=out, epsilon=BUDGET.epsilon)
    return words + markdown(HEAD, ([row[name] for name in names] for row in rows))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--priors", nargs="+", choices=PRIORS, default=list(PRIORS))
    parser.add_argument("--defences", nargs="+", choices=DEFENCES, default=list(DEFENCES))
    parser.add_argument("--steps", type=int, default=350, help="of the refinement")
    parser.add_argument("--student-steps", type=int, default=500)
    parser.add_argument("--width", type=int, default=32, help="of the student")
    parser.add_argument("--held-out", type=float, default=0.2)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    rows = Rows(given.out, partial(table, given.out))
    student = StudentSettings(n_steps=given.student_steps, width=given.width)
    for seed in given.seeds:
        cell: Cell | None = None
        for prior in given.priors:
            for defence in given.defences:
                row = {
                    "seed": seed, "prior": prior, "defence": defence, "steps": given.steps,
                    "student_steps": given.student_steps, "width": given.width,
                }  # fmt: skip
                if rows.hold(**row):
                    continue
                cell = cell or Cell(given.held_out, seed)
                found = cell.measured(prior, defence, given.steps, student)
                rows.add({**row, **found})
                print(rows.held[-1], flush=True)


if __name__ == "__main__":
    main()
