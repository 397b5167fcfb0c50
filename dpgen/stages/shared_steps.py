"""The steps of the private teacher, shared among the processes of a launcher.

Process 0 sends each of the others the network once and the parameters of a step, then a micro-batch
at a time with the key of its draws, and gets its sum back. To a process that has opened the data
itself it sends slots and digests of the records in place of the records
(`dpgen.privacy.mechanisms.checked_records`). The others hold no key of the stage, no coins and no
noise. They compute as process 0 does (same versions, settings, threads and device), so
that the sum of a micro-batch is the same in every bit whoever computes it; other processes are
refused before they are sent a record.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dpgen.networks.adapters import adapted, rank_of
from dpgen.networks.denoiser import Denoiser
from dpgen.networks.denoiser_config import DenoiserConfig
from dpgen.privacy.mechanisms.checked_records import CheckedRecords, SlotDigests
from dpgen.privacy.mechanisms.clipping import Parameters, zero_sum
from dpgen.privacy.mechanisms.draws import Draws
from dpgen.privacy.mechanisms.micro_batches import Rows, filled
from dpgen.privacy.mechanisms.noise import new_key
from dpgen.privacy.mechanisms.question import differences, settings, versions
from dpgen.privacy.mechanisms.shares import MicroBatch, Shares, Task
from dpgen.runs.kinds import numbers_of
from dpgen.runs.processes import Message, Processes, joined
from dpgen.settings import from_dict
from dpgen.stages.denoising import DenoisingObjective
from dpgen.training.denoising import NoiseLevels

__all__ = ["assist", "shares"]

# Errors of another process by the word that it sends, as process 0 raises them.
ERRORS: dict[str, type[Exception]] = {
    "memory": MemoryError, "memory of the GPU": torch.OutOfMemoryError, "refused": ValueError,
    "other": RuntimeError,
}  # fmt: skip
ROWS = ("pixels", "labels", "valid")
READS = "reads"  # in the answer of a process that reads records itself


def shares() -> Shares:
    """Returns the processes that share the steps of this stage: those that this one has joined."""
    processes = joined()
    if processes is None:
        return Shares()
    digests = SlotDigests(new_key())
    return Shares([Helper(processes, rank, digests) for rank in range(1, processes.n_processes)])


class Helper:
    """Another process, as process 0 sees it: a Helper of `dpgen.privacy.mechanisms.shares`.

    Args:
        processes: the processes of the launcher, of which this is the first.
        rank: number of the other process.
        digests: of the records, for a process that reads them itself.
    """

    def __init__(self, processes: Processes, rank: int, digests: SlotDigests) -> None:
        self._processes, self._rank, self._digests = processes, rank, digests
        self._reads = False
        self._objective: object = None
        self._task: Task | None = None
        self._number = 0

    def ask(self, task: Task, batch: MicroBatch) -> None:
        """Sends a micro-batch, and before it whatever has changed since the last one."""
        if task.objective is not self._objective:
            numbers, tensors = _described(task)
            n_slots, key = batch.records.n_slots, self._digests.key.hex()
            self._send("stage", tensors, **numbers, n_slots=n_slots, digest_key=key)
            self._reads = READS in self.answer()
            self._objective = task.objective
        if task is not self._task:
            self._send("step", task.parameters, clip_norm=task.clip_norm)
            self.answer()
            self._task = task
        rows = self._addressed(batch) if self._reads else dict(zip(ROWS, batch.rows, strict=True))
        rows["slots"] = torch.from_numpy(batch.draws.slots)
        self._send("share", rows, key=batch.draws.key.hex())

    def _addressed(self, batch: MicroBatch) -> dict[str, Tensor]:
        return {"digests": torch.from_numpy(self._digests.of(batch.records, batch.slots))}

    def _send(self, word: str, tensors: Mapping[str, Tensor], **numbers: Any) -> None:  # noqa: ANN401
        self._number = self._processes.new_number()
        self._processes.send(self._rank, word, tensors, number=self._number, **numbers)

    def answer(self) -> Parameters:
        """Waits for the answer to the last message; raises the error that the other process has met
        instead.
        """
        message = self._processes.receive(self._rank)
        if message.numbers["number"] != self._number:
            raise RuntimeError(
                f"process {self._rank} must answer message {self._number}, it has answered "
                f"{message.numbers['number']}: start all processes again"
            )
        if message.word == "failed":
            reason = f"process {self._rank}: {message.numbers['reason']}"
            raise ERRORS[message.numbers["kind"]](reason)
        return dict(message.tensors)


def assist(
    processes: Processes, device: torch.device,
    open_fn: Callable[[], CheckedRecords] | None = None,
) -> str:  # fmt: skip
    """Computes what process 0 asks for until it has ended; returns what it says then.

    Raises:
        Stopped: process 0 has failed.
        ConnectionError: it has ended without a word.

    Args:
        processes: the processes of the launcher, of which this is not the first.
        device: the device on which this one computes.
        open_fn: opens the data, so that this process reads the records of its shares itself; None
            has them sent.
    """
    assistant = Assistant(device, open_fn)
    while (message := processes.next_task()).word != "done":
        number = message.numbers["number"]
        try:
            found = assistant.answer(message)
        except Exception as error:  # told by process 0, which stops
            kind = next((k for k, known in ERRORS.items() if isinstance(error, known)), "other")
            reason = f"{type(error).__name__}: {error}" if kind == "other" else str(error)
            processes.send(0, "failed", number=number, reason=reason, kind=kind)
        else:
            processes.send(0, "answer", found, number=number)
    return str(message.numbers["result"])


class Assistant:
    """What a process that is not the first holds of the stage, and how it answers.

    Args:
        device: the device on which it computes.
        open_fn: as for `assist`. It is called here, while process 0 opens the data as well; that it
            fails is told to process 0 in the place of the first answer.
    """

    def __init__(
        self, device: torch.device, open_fn: Callable[[], CheckedRecords] | None = None
    ) -> None:
        self._device = device
        self._objective: DenoisingObjective | None = None
        self._task: Task | None = None
        self._records: CheckedRecords | None = None
        self._digest_key, self._refusal = b"", ""
        try:
            self._records = None if open_fn is None else open_fn()
        except (OSError, ValueError, MemoryError) as error:
            self._refusal = f"it cannot open the data, which it has to read itself: {error}"

    def answer(self, message: Message) -> Parameters:
        """Does what a message says, and returns the sum of a micro-batch; nothing otherwise, except
        `READS` if it reads records itself.
        """
        numbers, tensors = message.numbers, message.tensors
        if self._refusal:
            raise ValueError(self._refusal)
        if message.word == "stage":
            self._objective = self._made(numbers, tensors)
            if self._records is None:
                return {}
            self._records.require(numbers["n_slots"])
            self._digest_key = bytes.fromhex(numbers["digest_key"])
            return {READS: torch.tensor(True)}
        if message.word == "step" and self._objective is not None:
            parameters = {name: t.to(self._device) for name, t in tensors.items()}
            self._task = Task(self._objective, parameters, numbers["clip_norm"], self._device)
            return {}
        if message.word == "share" and self._task is not None:
            total = zero_sum(self._task.parameters)
            slots, key = tensors["slots"].numpy(), bytes.fromhex(numbers["key"])
            rows = self._rows(slots, tensors)
            self._task.add(total, rows, Draws(key, slots, self._device))
            return total
        raise ValueError(f"process 0 must send a stage, a step and shares, got {message.word!r}")

    def _rows(self, slots: np.ndarray, tensors: Mapping[str, Tensor]) -> Rows:
        """Returns the rows that were sent, or reads those whose digests were sent."""
        if self._records is None:
            pixels, labels, valid = (tensors[name] for name in ROWS)
            return pixels, labels, valid
        digests = tensors["digests"].numpy()
        rows = self._records.read(slots[: len(digests)], digests, self._digest_key)
        return filled(*rows, len(slots))

    def _made(self, numbers: Any, tensors: Any) -> DenoisingObjective:  # noqa: ANN401
        words = list(differences(numbers["computes"], _computes(self._device)))
        if words:
            raise ValueError(
                "all processes must compute alike, so that a resume on other processes comes to "
                f"the same answers: {'; '.join(words[:3])}"
            )
        denoiser = Denoiser(from_dict(DenoiserConfig, numbers["config"])).to(self._device)
        if numbers["adapters"]:  # whatever is drawn here, all tensors are replaced below
            denoiser = adapted(denoiser, numbers["adapters"], torch.Generator().manual_seed(0))
        denoiser.train(numbers["training"])
        held = _tensors_of(denoiser)
        if held.keys() != tensors.keys():
            raise ValueError("process 0 must send the tensors of this network, got others")
        with torch.no_grad():
            for name, tensor in held.items():
                tensor.copy_(tensors[name])
        levels = from_dict(NoiseLevels, numbers["levels"])
        return DenoisingObjective(denoiser, levels, numbers["loss"], numbers["precision"])


def _described(task: Task) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Describes the network and the loss of a stage: numbers and tensors."""
    objective = task.objective
    if type(objective) is not DenoisingObjective:
        raise TypeError(
            "an objective that processes share must be a DenoisingObjective, got "
            f"{type(objective).__name__}: train in one process"
        )
    numbers = {
        "config": numbers_of(objective.denoiser), "levels": asdict(objective.levels),
        "loss": objective.name, "precision": objective.precision,
        "training": objective.denoiser.training, "adapters": rank_of(objective.denoiser),
        "computes": _computes(task.device),
    }  # fmt: skip
    return numbers, _tensors_of(objective.denoiser)


def _tensors_of(network: nn.Module) -> dict[str, Tensor]:
    """Returns all tensors of a network by name, also those that are not saved with it."""
    return {**dict(network.named_parameters()), **dict(network.named_buffers())}


def _computes(device: torch.device) -> dict[str, Any]:
    """Describes what decides how this process rounds: versions, settings, threads, processor."""
    on_gpu = device.type == "cuda"
    processor = (
        torch.cuda.get_device_name(device) if on_gpu else torch.backends.cpu.get_cpu_capability()
    )
    return {
        **versions(), **settings(), "device": device.type, "processor": processor,
        "threads": torch.get_num_threads(),
    }  # fmt: skip
