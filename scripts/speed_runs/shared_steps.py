"""Measures private steps by one process on one core and by two on two, in turns within one run.

Two processes live as long as the measurement. Process 0 makes two runs under one key: the steps of
the first it computes alone, while the other process sleeps; those of the second they share. A
step of either run has the same coins, records and parameters, so the two differ in time alone, and
at the end their networks are compared bit for bit.
"""

from __future__ import annotations

import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from dpgen.data.private import PrivateDataset
from dpgen.data.sources import open_source
from dpgen.images.images import Images
from dpgen.networks.denoiser import Denoiser
from dpgen.networks.denoiser_config import PRESETS
from dpgen.networks.ema import EMA
from dpgen.privacy.accounting.accountant import Budget
from dpgen.privacy.lineage.keys import StageKeys
from dpgen.privacy.mechanisms.declared import NoisySGD
from dpgen.privacy.mechanisms.shares import Shares
from dpgen.privacy.plan import Plan, Stage
from dpgen.runs.context import Hardware
from dpgen.runs.processes import join
from dpgen.stages.denoising import DenoisingObjective
from dpgen.stages.shared_steps import assist, shares
from dpgen.training.denoising import NoiseLevels
from speed_runs.bench import Bench
from speed_runs.steps import preset

# Preset, draws, expected batch, micro-batch: every step has many micro-batches, as at the defaults.
CASES = [("small", 8, 96, 8), ("tiny", 8, 192, 16)]
SIDE, N_RECORDS, N_WARM = 28, 4000, 1
WHO = ("alone", "shared")
SAID = "shared steps: "  # before the line of JSON that process 0 prints


def shared_steps(bench: Bench) -> None:
    """Measures wall seconds of whole steps: sums, noise, the run's notes, Adam and averaging.

    Where other programs use the cores, wall seconds mean little. ``cpu_over_one`` is the CPU time
    of a step made alone over the CPU time that process 0 spends on a shared one: the ratio that
    idle cores would come to if neither process waited for the other.
    """
    for case in CASES:
        load = os.getloadavg()[0]
        found = _started(*case, bench.rounds)
        bench.add(
            "parallel", work="training", preset=case[0], side=SIDE, draws=case[1],
            batch=case[2], micro_batch=case[3], jobs=2,
            wall_seconds_a_step={who: statistics.median(found[who]["wall"]) for who in WHO},
            over_one=_over_one(found, "wall"), cpu_over_one=_over_one(found, "cpu"),
            load_before_and_after=[load, os.getloadavg()[0]], equal_bits=found["equal_bits"],
        )  # fmt: skip


def _over_one(found: dict[str, Any], clock: str) -> list[float]:
    """Returns [median, smallest, largest] of the time alone over the shared one, step by step."""
    alone, shared = (found[who][clock] for who in WHO)
    ratios = [one / both for one, both in zip(alone, shared, strict=True)]
    return [statistics.median(ratios), min(ratios), max(ratios)]


def _started(*case: Any) -> dict[str, Any]:  # noqa: ANN401
    """Starts both processes as a launcher does; returns what process 0 has measured."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, str(Path(__file__).parents[1] / "speed.py"), "--share"]
    places = [
        {
            "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2",
            "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "CUDA_VISIBLE_DEVICES": "",
        }
        for rank in range(2)
    ]  # fmt: skip
    both = [
        subprocess.Popen(
            [*command, *map(str, case)], env={**os.environ, **place}, text=True,
            stdout=subprocess.PIPE,
        )
        for place in places
    ]  # fmt: skip
    said = [process.communicate()[0] for process in both]
    if any(process.returncode for process in both):
        raise RuntimeError("a process of the shared steps failed, see above")
    found = next(line for line in said[0].splitlines() if line.startswith(SAID))
    return dict(json.loads(found.removeprefix(SAID)))


def share_here(name: str, n_draws: int, batch: int, micro_batch: int, rounds: int) -> None:
    """Measures in process 0, and computes its shares in the other one."""
    processes, device = join(), Hardware("cpu").accelerator().device
    assert processes is not None
    if processes.rank > 0:
        assist(processes, device)
        return
    with processes.leading(), tempfile.TemporaryDirectory() as folder:
        runs = {
            who: _Run(Path(folder) / who, name, n_draws, batch, micro_batch, rounds, own)
            for who, own in zip(WHO, (Shares(), shares()), strict=True)
        }
        found: dict[str, Any] = {who: {"wall": [], "cpu": []} for who in WHO}
        for number in range(N_WARM + rounds):
            for who, run in runs.items():
                start, used = time.perf_counter(), time.process_time()
                run.step()
                if number >= N_WARM:
                    found[who]["wall"].append(time.perf_counter() - start)
                    found[who]["cpu"].append(time.process_time() - used)
        one, two = (run.ended() for run in runs.values())
        found["equal_bits"] = all(torch.equal(one[key], two[key]) for key in one)
    print(SAID + json.dumps(found), flush=True)


class _Run:
    """A private stage whose steps are made one by one, with what `train_teacher` does after each.
    """

    def __init__(
        self, folder: Path, name: str, n_draws: int, batch: int, micro_batch: int, rounds: int,
        own: Shares,
    ) -> None:  # fmt: skip
        torch.manual_seed(0)
        self._network = Denoiser(preset(name, SIDE))
        torch.nn.init.normal_(self._network.unet.get_submodule("conv_out").weight, std=0.05)
        images = torch.rand(N_RECORDS, 1, SIDE, SIDE) * 2 - 1
        labels = torch.arange(N_RECORDS) % 10
        data = PrivateDataset(open_source(Images(images, labels), classes=10), public=True)
        sgd = NoisySGD(batch / N_RECORDS, N_WARM + rounds, 1.0, N_RECORDS)
        stage = Stage("teacher", sgd)
        data.open_ledger(Budget(100.0, 1e-5), folder)
        keys = StageKeys(folder / "keys")
        keys.path(stage.charge.plan).write_bytes(bytes(range(32)))  # one key in both runs
        data.begin(folder.name, keys, Plan((stage,), data.facts.relation))
        self._parameters = dict(self._network.named_parameters())
        teacher = PRESETS[name].teacher
        self._adam = torch.optim.Adam(self._parameters.values(), lr=teacher["learning_rate"])
        self._ema = EMA(self._network, teacher["ema_decay"], warm_up=True)
        self._objective = DenoisingObjective(self._network, NoiseLevels(n_draws=n_draws))
        self._steps: Any = data.steps(sgd, label="teacher", micro_batch=micro_batch, shares=own)

    def step(self) -> None:
        released = {name: p.detach() for name, p in self._parameters.items()}
        answer = next(self._steps).gradient(self._objective, released)
        for name, gradient in answer.items():
            self._parameters[name].grad = gradient
        self._adam.step()
        self._ema.update(self._network)

    def ended(self) -> dict[str, torch.Tensor]:
        """Ends the run, and returns all tensors of its networks."""
        self._steps.close()
        return {**self._network.state_dict(), **self._ema.state_dict()}
