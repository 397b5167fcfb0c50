"""The student is post-processing of the released teacher: without the data it comes out the same.

Stage two runs with the data within reach, with data that raise at every touch, and in a process
that
has nothing but the teacher's file. The weights are equal to the bit.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import dpgen
from dpgen.data.private import PrivateDataset
from dpgen.methods import dp_sad
from dpgen.runs.context import Hardware
from dpgen.training import distillation

SEED = 7

# Runs on a folder with teacher.safetensors alone, and says which modules it needed.
STAGE_TWO = """
import hashlib, json, sys
import torch
torch.set_num_threads(1)
from accelerate import Accelerator
from pathlib import Path
from safetensors import safe_open
from safetensors.torch import load_file, save
from dpgen.runs.checkpoint import Checkpoints
from dpgen.training.distillation import Distillation, distil, draw_pairs
from dpgen.networks.denoiser import Denoiser, DenoiserConfig
from dpgen.settings import from_dict

settings, seed = Distillation(**json.loads(sys.argv[1])), int(sys.argv[2])
with safe_open("teacher.safetensors", framework="pt") as file:
    config = from_dict(DenoiserConfig, json.loads(file.metadata()["denoiser"]))
teacher = Denoiser(config)
teacher.load_state_dict(load_file("teacher.safetensors"))

def generator(purpose):
    return torch.Generator().manual_seed((seed * 1_000_003 + purpose) % 2**63)

pairs = draw_pairs(teacher.eval(), settings, generator=generator(2), device=torch.device("cpu"),
show=False)
student = distil(teacher, pairs, settings, generator=generator(3),
checkpoints=Checkpoints(Path("state")),
                 accelerator=Accelerator(cpu=True), show=False)
near = [name for name in sys.modules if name.startswith("dpgen.data")]
print(json.dumps({"sha256": hashlib.sha256(save(student.state_dict())).hexdigest(), "near": near}))
"""


def fingerprint(tensors: dict[str, Tensor]) -> str:
    from safetensors.torch import save

    return hashlib.sha256(save({k: v.contiguous() for k, v in tensors.items()})).hexdigest()


class Run(NamedTuple):
    """A trained DP-SAD, and its student's weights in one number."""

    folder: Path
    student: str
    teacher: str


@pytest.fixture
def trained(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    untrained: Callable[..., Any],
    dataset: Callable[..., PrivateDataset],
    records: Any,  # noqa: ANN401
) -> Callable[..., Run]:
    """Trains DP-SAD under fixed keys; ``poisoned`` makes every touch of the data in stage two
    raise.
    """
    monkeypatch.setattr("dpgen.privacy.lineage.keys.new_key", lambda: b"k" * 32)

    def train(name: str, *, poisoned: bool) -> Run:
        source = type(records)(records.pixels, records.labels, records.class_names)
        data = dataset(source)

        def draw_pairs(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
            if poisoned:

                def raise_(*_: object) -> None:
                    raise AssertionError("stage two touched the data")

                source.read = source.raw_records = source.on_read = raise_
                source.pixels = source.labels = None
            return distillation.draw_pairs(*args, **kwargs)

        with monkeypatch.context() as patch:
            patch.setattr(dp_sad, "draw_pairs", draw_pairs)
            # Each run on a ledger of its own: they are one run told twice.
            patch.setenv("DPGEN_HOME", str(tmp_path / f"{name}-home"))
            folder = tmp_path / name
            untrained("dp-sad").fit(data, out=folder, seed=SEED, hardware=Hardware("cpu"))
        return Run(
            folder,
            fingerprint(load_file(folder / "model.safetensors")),
            fingerprint(load_file(folder / "teacher.safetensors")),
        )

    return train


def stage_two(run: Run, settings: distillation.Distillation, folder: Path) -> dict[str, Any]:
    """Stage two in a process of its own whose folder holds the teacher's file and nothing else."""
    folder.mkdir()
    shutil.copy(run.folder / "teacher.safetensors", folder)
    there = [json.dumps(asdict(settings)), str(SEED)]
    root = Path(inspect.getfile(dpgen)).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", STAGE_TWO, *there],
        cwd=folder,
        env=os.environ | {"DPGEN_HOME": str(folder / "none"), "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert not (folder / "none").exists()
    return json.loads(done.stdout.splitlines()[-1])  # type: ignore[no-any-return]


def test_stage_two_needs_the_teacher_and_nothing_else(
    trained: Callable[..., Run], untrained: Callable[..., Any], tmp_path: Path
) -> None:
    present, poisoned = trained("present", poisoned=False), trained("poisoned", poisoned=True)
    assert poisoned.teacher == present.teacher
    assert poisoned.student == present.student != present.teacher
    alone = stage_two(present, untrained("dp-sad").settings.student, tmp_path / "alone")
    assert alone["sha256"] == present.student
    # Not even the code that could read records is loaded.
    assert alone["near"] == []


def test_a_stage_two_that_peeks_at_a_record_is_caught(
    trained: Callable[..., Run],
    untrained: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    records: Any,  # noqa: ANN401
) -> None:
    honest = dp_sad.distil

    def peeking(source: Any) -> Callable[..., Any]:  # noqa: ANN401
        def distil(teacher: Any, pool: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
            pixels, _ = source().read([0])
            images = (pool.images + pixels[0].float() / 127.5 - 1).clamp(-1, 1)
            return honest(teacher, pool._replace(images=images), *args, **kwargs)

        return distil

    held: list[Any] = []
    make = type(records).__init__

    def remember(self: Any, *args: Any) -> None:  # noqa: ANN401
        make(self, *args)
        held.append(self)

    monkeypatch.setattr(type(records), "__init__", remember)
    monkeypatch.setattr(dp_sad, "distil", peeking(lambda: held[-1]))
    peeked = trained("present", poisoned=False)
    alone = stage_two(peeked, untrained("dp-sad").settings.student, tmp_path / "alone")
    assert alone["sha256"] != peeked.student
    with pytest.raises(AssertionError, match="stage two touched the data"):
        trained("poisoned", poisoned=True)


def test_stage_two_has_no_parameter_that_could_carry_data() -> None:
    public = {
        "teacher": "Denoiser",
        "pool": "Pairs",
        "settings": "Distillation",
        "generator": "torch.Generator",
        "checkpoints": "Checkpoints",
        "accelerator": "Accelerator",
        "device": "torch.device",
        "show": "bool",
    }
    for function in (distillation.distil, distillation.draw_pairs):
        for name, parameter in inspect.signature(function).parameters.items():
            assert parameter.annotation == public[name]
    stage = inspect.signature(dp_sad.DPSAD._distil).parameters
    assert list(stage) == ["self", "network", "work"]
    assert [field.name for field in fields(dp_sad.Workplace)] == [
        "checkpoints",
        "accelerator",
        "micro_batch",
        "seed",
        "show",
        "weights",  # learned from public images
    ]


def test_the_teacher_is_left_as_it_was_released(trained: Callable[..., Run]) -> None:
    run = trained("run", poisoned=False)
    # What stage two started from is what lies in the folder, bit by bit.
    statement = json.loads((run.folder / "privacy.json").read_text())
    released = hashlib.sha256((run.folder / "teacher.safetensors").read_bytes()).hexdigest()
    assert statement["artifact"]["files"]["teacher.safetensors"] == released
    generator = dpgen.load(run.folder)
    assert fingerprint(generator.networks["teacher"].state_dict()) == run.teacher
    assert not any(p.requires_grad for p in generator.networks["teacher"].parameters())
    assert torch.equal(
        generator.sample(2, generator=torch.Generator().manual_seed(0)).pixels,
        generator.sample(2, generator=torch.Generator().manual_seed(0)).pixels,
    )
