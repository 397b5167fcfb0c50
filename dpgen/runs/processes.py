"""The processes of one training run, as `torchrun` or `accelerate launch` starts them.

Process 0 runs the program. It alone opens the ledger, the keys and the run folder, adds noise and
writes; it alone reads records, unless all were started to read those that they compute. The others
wait for its messages and answer each with one of their own, and end with it, so that a budget that
is refused or an error is told once and nobody waits in vain.

A message is a table of numbers and words and some tensors, as a safetensors file; nothing is
pickled. Messages go over TCP (gloo), from memory of the CPU, without encryption: they hold
gradients before the noise and records, or who they are, so processes on several machines need a
network that is trusted as the machines are.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from safetensors.torch import load, save
from torch import Tensor

__all__ = ["Message", "Processes", "Stopped", "join", "joined", "launched"]

LAUNCHED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")  # what launchers set
START = timedelta(minutes=10)  # in which all processes must have started
ANSWER = timedelta(minutes=30)  # in which a micro-batch must have been computed
GOODBYE = timedelta(seconds=10)  # in which a process takes the last message
PATIENCE = timedelta(days=365)  # of a process that has nothing to do
TABLE = "table"  # the tensor that holds a message's table, as JSON


class Stopped(RuntimeError):
    """Process 0 has stopped, for a reason that it tells itself."""


class Message(NamedTuple):
    """A message to or from another process.

    Args:
        word: what it is about.
        numbers: JSON values by name.
        tensors: tensors by name, on the CPU.
    """

    word: str
    numbers: Mapping[str, Any]
    tensors: Mapping[str, Tensor]


class Processes:
    """This process among those of the launcher.

    rank: number of this process, from 0.
    n_processes: number of processes.
    n_local: number of those on this machine.
    result: what process 0 tells the others when it has ended well.
    """

    def __init__(self) -> None:
        if not dist.is_initialized():
            dist.init_process_group("gloo", timeout=START)
        # Its own group: the default one may be of another backend, or used by others.
        self._group = dist.new_group(backend="gloo", timeout=ANSWER)
        self.rank, self.n_processes = dist.get_rank(), dist.get_world_size()
        self.n_local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        self.result, self._depth, self._asked = "", 0, 0

    def new_number(self) -> int:
        """Returns a number that no earlier request of this process has."""
        self._asked += 1
        return self._asked

    def send(
        self, to: int, word: str, tensors: Mapping[str, Tensor] | None = None,
        *, within: timedelta = ANSWER, **numbers: Any,  # noqa: ANN401
    ) -> None:  # fmt: skip
        """Sends a message to a process.

        Raises ConnectionError when the process has ended or does not take it in time.
        """
        text = json.dumps({"word": word, **numbers}).encode()
        held = {
            name: t.detach().to("cpu", copy=True).contiguous()
            for name, t in (tensors or {}).items()
        }
        content = save({TABLE: torch.frombuffer(bytearray(text), dtype=torch.uint8), **held})
        packed = torch.frombuffer(bytearray(content), dtype=torch.uint8)
        for part in (torch.tensor([len(packed)]), packed):
            with _ended(to):
                _wait(dist.isend(part, to, group=self._group), within)

    def receive(self, source: int, *, within: timedelta = ANSWER) -> Message:
        """Waits for the next message of a process.

        Raises ConnectionError when the process has ended or sends none in time.
        """
        size = torch.zeros(1, dtype=torch.int64)
        with _ended(source):
            _wait(dist.irecv(size, source, group=self._group), within)
            packed = torch.empty(int(size), dtype=torch.uint8)
            _wait(dist.irecv(packed, source, group=self._group), ANSWER)
        # Copied, so that each tensor lies in memory as a tensor that was computed here.
        held = {name: t.clone() for name, t in load(packed.numpy().tobytes()).items()}
        numbers = json.loads(held.pop(TABLE).numpy().tobytes())
        return Message(numbers.pop("word"), numbers, held)

    @contextlib.contextmanager
    def leading(self) -> Iterator[None]:
        """Tells the other processes at the end of the block that it ended well, or that it did not.
        Blocks may be nested; the outermost one tells them.
        """
        self._depth += 1
        word = "stopped"
        try:
            yield
            word = "done"
        finally:
            self._depth -= 1
            if self._depth == 0:
                for other in range(1, self.n_processes):
                    with contextlib.suppress(ConnectionError):
                        self.send(other, word, within=GOODBYE, result=self.result)

    def next_task(self) -> Message:
        """Waits for the next message of process 0. Raises Stopped when it is the last one and
        process 0 has failed.
        """
        message = self.receive(0, within=PATIENCE)
        if message.word == "stopped":
            raise Stopped("process 0 has stopped, see what it says")
        return message


def _wait(work: dist.Work | None, within: timedelta) -> None:
    assert work is not None  # it is None for a process outside the group
    work.wait(within)


@contextlib.contextmanager
def _ended(other: int) -> Iterator[None]:
    """Turns errors of the transport into one that names the process."""
    try:
        yield
    except RuntimeError as error:
        reason = (str(error).splitlines() or ["no details"])[0]
        raise ConnectionError(
            f"process {other} has ended or gives no sign: {reason:.120}"
        ) from error


def launched() -> bool:
    """Returns whether a launcher has started this process as one of several."""
    if dist.is_initialized():
        return dist.get_world_size() > 1
    return all(x in os.environ for x in LAUNCHED) and int(os.environ["WORLD_SIZE"]) > 1


_JOINED: list[Processes] = []


def joined() -> Processes | None:
    """Returns the processes that this one has joined; None if it has joined none."""
    return _JOINED[0] if _JOINED else None


def join() -> Processes | None:
    """Joins the other processes of the launcher, once; None where this process is alone."""
    if not _JOINED and launched():
        _JOINED.append(Processes())
    return joined()
