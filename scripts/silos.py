"""Measures what one private student of many silos is worth: digits in 40 silos, one certificate.

A fifth of the training digits is held out for scoring, the rest is divided among the silos. Each
silo trains a classifier on its own digits, without any protection, and hands it over. The test
split of the digits is declared public: its images are what the teachers vote on; its labels are not
read. No test digit is scored.

    python scripts/silos.py --out assets/silos.json
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dpgen import Budget, Images, save_classifier, transcribe_teachers
from dpgen.data.sources import read_images
from dpgen.images.images import to_uint8
from dpgen.networks.student import ClassifierConfig, Student
from dpgen.privacy.verification.verify import verify
from dpgen.training.data_free_settings import PupilSettings
from dpgen.training.labelled import learn
from dpgen.training.students import untrained

NAMES = [str(k) for k in range(10)]
TAUGHT = PupilSettings(n_steps=150, batch_size=32, width=16, mixing=False)


def trained(images: Images, seed: int) -> Student:
    """Trains the classifier of a silo, as it does in its own house: without any protection."""
    student = untrained(ClassifierConfig((1, 8, 8), 10, TAUGHT.width), seed)
    generator = torch.Generator().manual_seed(seed)
    learn(student, images.pixels, images.labels, TAUGHT, generator=generator, show=False)
    return student.eval()


def measured(seed: int, n_silos: int, epsilon: float, place: Path) -> dict[str, Any]:
    """Measures teachers, their plurality and the student, of one division of the digits."""
    digits, public = read_images("digits", split="train"), read_images("digits", split="test")
    order = torch.randperm(
        len(digits.labels), generator=torch.Generator().manual_seed(seed)
    )
    held, rest = order[: len(order) // 5], order[len(order) // 5 :]
    pixels, labels = digits.pixels[held], digits.labels[held]
    silos = place / "silos"
    silos.mkdir()
    right, votes = [], torch.zeros(len(held), 10)
    for k in range(n_silos):
        own = rest[k::n_silos]
        teacher = trained(Images(digits.pixels[own], digits.labels[own]), 1000 * seed + k)
        save_classifier(teacher, silos / f"silo-{k:02}.safetensors", NAMES)
        said = teacher.label(pixels)
        right.append(float((said == labels).double().mean()))
        votes += torch.nn.functional.one_hot(said, 10)
    queries = place / "public.npz"
    np.savez(queries, images=to_uint8(public.pixels).permute(0, 2, 3, 1).numpy())
    found = transcribe_teachers(
        silos, place / "run", public=queries, budget=Budget(epsilon), seed=seed
    )
    assert found.student is not None
    wrong = [check.name for check in verify(place / "run") if check.failed]
    stage = found.privacy["mechanism"]["stages"]["votes"]
    return {
        "seed": seed, "n_silos": n_silos, "digits_per_silo": len(rest) // n_silos,
        "teacher": sum(right) / len(right), "best_teacher": max(right),
        "plurality": float((votes.argmax(1) == labels).double().mean()),
        "student": float((found.student.label(pixels) == labels).double().mean()),
        "n_queries": stage["n_queries"], "epsilon": found.privacy["guarantee"]["epsilon"],
        "delta": found.privacy["guarantee"]["delta"], "failed_checks": wrong,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--silos", type=int, default=40)
    parser.add_argument("--epsilon", type=float, default=10.0)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    rows = []
    for seed in range(given.seeds):
        with tempfile.TemporaryDirectory() as place:
            os.environ["DPGEN_HOME"] = f"{place}/home"
            rows.append(measured(seed, given.silos, given.epsilon, Path(place)))
        print(json.dumps(rows[-1]), flush=True)
        given.out.write_text(json.dumps({"rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
