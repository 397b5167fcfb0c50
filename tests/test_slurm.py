"""The scripts for Slurm, under stand-ins for its commands that run everything on this machine."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
SCRIPTS = ROOT / "scripts" / "slurm"
# srun starts its command once a node, sbatch an array's tasks one after the other.
STAND_INS = {
    "srun": """
while [[ "$1" == --* ]]; do shift; done
echo $$ > "$FAKES/srun.pid"
for (( node = 0; node < SLURM_NNODES; node++ )); do SLURM_NODEID=$node "$@" & nodes+=("$!"); done
for node in "${nodes[@]}"; do wait "$node" || status=$?; done
exit "${status:-0}"
""",
    "scontrol": """
if [[ "$1" == show ]]; then echo 127.0.0.1; echo 127.0.0.1; else echo "$@" >> "$FAKES/said"; fi
""",
    "sbatch": """
echo "$@" >> "$FAKES/said"
while [[ "$1" == --* ]]; do
    case "$1" in
        --array) tasks="${2#1-}"; shift 2 ;;
        --dependency) shift 2 ;;
        *) shift ;;
    esac
done
for (( task = 1; task <= ${tasks:-1}; task++ )); do
    SLURM_ARRAY_TASK_ID=$task SLURM_ARRAY_TASK_COUNT=${tasks:-1} bash "$@" >&2
done
echo 41
""",
}
TRAIN = [
    "dpdm", "--data", "digits", "--epsilon", "10", "--seed", "1", "--device", "cpu", "--yes",
    "--micro-batch", "16", "--set", "teacher.n_steps=4", "--set", "teacher.batch=60",
    "--set", "teacher.n_draws=1", "--set", "sampling_steps=2",
]  # fmt: skip
Begin = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def begin(tmp_path: Path) -> Begin:
    """Starts a script in a session of its own, on two nodes that are this machine."""
    fakes = tmp_path / "fakes"
    fakes.mkdir()
    for name, body in STAND_INS.items():
        (fakes / name).write_text(f"#!/usr/bin/env bash\n{body}")
        (fakes / name).chmod(0o755)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def begun(
        script: str, *words: object, env: Mapping[str, str] | None = None
    ) -> subprocess.Popen[str]:
        slurm = {
            "SLURM_JOB_ID": "41", "SLURM_JOB_NODELIST": "here[1-2]", "SLURM_NNODES": "2",
            "DPGEN_HOME": str(tmp_path / "home"), "MASTER_PORT": str(port), "FAKES": str(fakes),
            "PATH": f"{fakes}:{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1",
            "PROCESSES": "1",
        }  # fmt: skip
        return subprocess.Popen(
            ["bash", str(SCRIPTS / script), *map(str, words)], text=True, start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env={k: v for k, v in {**os.environ, **slurm, **(env or {})}.items() if v},
        )  # fmt: skip

    return begun


def said(tmp_path: Path) -> str:
    return (tmp_path / "fakes" / "said").read_text()


@pytest.mark.parametrize(
    ("script", "words", "env", "told"),
    [
        ("train.sh", TRAIN, {"DPGEN_HOME": ""}, "DPGEN_HOME: must be set to a folder that all"),
        ("train.sh", TRAIN, {"SLURM_JOB_ID": ""}, "SLURM_JOB_ID: must be set: start this script"),
        ("sample.sh", ["2", "run", "-n", "9", "--out", "set"], {}, "--seed SEED"),
        ("sample.sh", ["2", "run", "-n", "9", "--seed", "1"], {}, "--out SET"),
        ("sample.sh", ["run", "-n", "9", "--seed", "1", "--out", "set"], {}, "PARTS RUN"),
    ],
)
def test_a_job_that_could_not_add_up_is_refused_before_it_is_queued(
    script: str, words: list[str], env: dict[str, str], told: str, begin: Begin, tmp_path: Path
) -> None:
    process = begin(script, *words, env=env)
    out, err = process.communicate(timeout=20)
    assert process.returncode != 0 and told in err and not out
    assert not (tmp_path / "fakes" / "said").exists() and not (tmp_path / "home").exists()


@pytest.mark.slow
def test_a_job_on_two_nodes_is_requeued_goes_on_under_one_charge_and_an_array_draws_its_set(
    begin: Begin, tmp_path: Path
) -> None:
    run, words = tmp_path / "run", [*TRAIN, "--out", tmp_path / "run"]
    first = begin("train.sh", *words)
    state, deadline = run / "checkpoint" / "state" / "teacher.safetensors", time.monotonic() + 120
    while not state.exists() and first.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(first.pid, signal.SIGUSR1)
    while not (tmp_path / "fakes" / "said").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert said(tmp_path) == "requeue 41\n"
    os.killpg(first.pid, signal.SIGTERM)  # as Slurm ends a job that is requeued
    first.communicate(timeout=60)
    again = begin("train.sh", *words)
    out, err = again.communicate(timeout=200)
    assert again.returncode == 0, err
    assert out.count("This model satisfies (10, 1e-05)") == 1
    lines = [json.loads(line) for line in (run / "ledger.jsonl").read_text().splitlines()]
    labels = [line["label"] for line in lines if line["kind"] == "charge"]
    assert labels == ["class means", "class spread", "teacher"]

    drawn = ["-n", "600", "--seed", "7", "--format", "npz", "-q"]
    array = begin("sample.sh", 2, run, *drawn, "--out", tmp_path / "set")
    out, err = array.communicate(timeout=200)
    assert array.returncode == 0, err
    assert out == f"job 41: 2 parts of {tmp_path / 'set'}, which are joined when all are drawn\n"
    assert "--array 1-2" in said(tmp_path) and "--dependency afterok:41" in said(tmp_path)
    assert not (tmp_path / "set.parts").exists()
    command = [sys.executable, "-m", "dpgen", "sample", run, *drawn, "--out", tmp_path / "alone"]
    subprocess.run([*map(str, command)], check=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    one, other = (sorted((tmp_path / name).rglob("*.npz")) for name in ("set", "alone"))
    assert [path.name for path in one] == [path.name for path in other] and one
    for mine, theirs in zip(one, other, strict=True):
        left, right = np.load(mine), np.load(theirs)
        assert all(np.array_equal(left[key], right[key]) for key in right.files)
