"""`dpgen train` and `fit` in several processes: the same model, one charge, and clean ends."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from dpgen.storage.files import read_json
from tests.launched import Ended, ended, start

# The key of the operating system is replaced: runs with one key draw the same coins and noise.
# ``SLOW`` waits after every step, so that a process can be killed between two of them.
FIXED = """
import os, time
import dpgen.privacy.lineage.keys as keys
from dpgen.runs.checkpoint import Checkpoints
keys.new_key = lambda: bytes(range(32))
due = Checkpoints.due
Checkpoints.due = lambda self: time.sleep(float(os.environ.get("SLOW", 0))) or True
"""
TRAIN = FIXED + "from dpgen.commands.cli import main; main()"
FIT = FIXED + """
import sys, torch
from dpgen import DPDM, Budget, open_images
from dpgen.methods.dpdm import DPDMSettings
from dpgen.runs.context import Hardware
from dpgen.stages.teacher import TeacherSettings
settings = DPDMSettings(teacher=TeacherSettings(n_steps=3, batch=60, n_draws=2))
HARDWARE = Hardware("cpu", micro_batch=16, readers="all")
one = DPDM(budget=Budget(10, 1e-5), settings=settings)
one.fit(open_images("digits"), out=sys.argv[1], seed=1, hardware=HARDWARE)
print(one.folder, one.document.kind, float(one.sample(2, generator=torch.Generator()).pixels.sum()))
"""
SETTINGS = {"n_steps": 6, "batch": 60, "n_draws": 2, "warm_start_share": 0.5}

pytestmark = pytest.mark.slow
Train = Callable[..., list[subprocess.Popen[str]]]


@pytest.fixture
def train(tmp_path: Path) -> Train:
    def begun(n: int, out: str, *more: str, **env: str) -> list[subprocess.Popen[str]]:
        options = [f"--set=teacher.{k}={v}" for k, v in SETTINGS.items()]
        given = [
            "-c", TRAIN, "train", "dpdm", "--data", "digits", "--epsilon", "10", "--seed", "1",
            "--device", "cpu", "--yes", "--micro-batch", "16", "--out", str(tmp_path / out),
            *options, *more,
        ]  # fmt: skip
        return start(n, given, env={"DPGEN_HOME": str(tmp_path / "home"), **env})

    return begun


def model(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


def charges(folder: Path) -> list[str]:
    lines = (folder / "ledger.jsonl").read_text().splitlines()
    return [x["label"] for x in map(json.loads, lines) if x["kind"] == "charge"]


def silent(processes: list[Ended]) -> None:
    """Only process 0 says anything, and all have ended well."""
    assert [p.status for p in processes] == [0] * len(processes), [p.err for p in processes]
    assert processes[0].out.startswith("This model satisfies (10, 1e-05)")
    for other in processes[1:]:
        assert (other.out, other.err) == ("", "")


def test_one_two_and_three_processes_train_the_same_model_under_one_charge(
    train: Train, tmp_path: Path
) -> None:
    for n in (1, 2, 3):
        readers = ["--readers", "all"] if n == 3 else []
        silent(ended(train(n, f"run{n}", *readers)))
    folders = [tmp_path / f"run{n}" for n in (1, 2, 3)]
    assert len({model(folder) for folder in folders}) == 1
    assert len({json.dumps(read_json(f / "config.json")) for f in folders}) == 1
    for folder in folders:
        assert charges(folder) == ["class means", "class spread", "teacher"]
        assert not (folder / "checkpoint").exists()
    # A finished run is finished for any number of processes.
    again = ended(train(2, "run1"))
    assert again[0].status == again[1].status == 0 and "finished already" in again[0].err


@pytest.mark.parametrize("dead", [0, 1])
def test_a_killed_process_stops_all_and_another_number_of_them_goes_on(
    train: Train, tmp_path: Path, dead: int
) -> None:
    silent(ended(train(1, "whole")))
    killed, n = tmp_path / "killed", 3
    while n > 1:
        begun = train(n, "killed", SLOW="1.5")
        state, last = killed / "checkpoint" / "state" / "teacher.safetensors", None
        deadline, n_states = time.monotonic() + 150, 0
        while n_states < 3 and time.monotonic() < deadline:
            time.sleep(0.05)
            now = state.stat().st_mtime_ns if state.exists() else None
            n_states, last = n_states + (now not in (None, last)), now or last
        begun[dead].send_signal(signal.SIGKILL)
        found = ended(begun)
        assert found[dead].status == -signal.SIGKILL
        for other in found[:dead] + found[dead + 1 :]:
            assert other.status in (0, 3), other.err
        if dead == 1:
            assert found[0].status == 3
            assert "process 1 has ended" in found[0].err and "run the same command" in found[0].err
        assert not (killed / "privacy.json").exists()
        n -= 1
    silent(ended(train(2, "killed")))
    assert model(killed) == model(tmp_path / "whole")
    assert charges(killed) == ["class means", "class spread", "teacher"]


def test_a_refused_budget_is_told_once_and_all_processes_end(train: Train, tmp_path: Path) -> None:
    zero, *others = ended(train(3, "run", "--limit", "1"))
    assert zero.status == 2 and zero.err.splitlines()[-1].startswith("dpgen: ")
    for other in others:
        assert (other.status, other.out, other.err) == (0, "", "")
    assert not (tmp_path / "run" / "privacy.json").exists()


def test_fit_returns_the_released_generator_in_every_process(tmp_path: Path) -> None:
    env = {"DPGEN_HOME": str(tmp_path / "home")}
    (alone,) = ended(start(1, ["-c", FIT, str(tmp_path / "one")], env=env))
    zero, one = ended(start(2, ["-c", FIT, str(tmp_path / "two")], env=env))
    assert (alone.status, zero.status, one.status) == (0, 0, 0), (alone.err, zero.err, one.err)
    assert zero.out == one.out == alone.out.replace(str(tmp_path / "one"), str(tmp_path / "two"))
    assert model(tmp_path / "one") == model(tmp_path / "two")
