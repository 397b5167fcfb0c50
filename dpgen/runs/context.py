"""What a training loop is given beside the data: where it computes and saves, what seeds it.

No key and no record is reachable from here, so that a fit which is given nothing but released
values and a `Workplace` cannot read any: keys belong to `dpgen.runs.folder.RunFolder`, and the
private data take them from it before the first stage.
"""

from __future__ import annotations

import contextlib
import resource
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from accelerate import Accelerator

from dpgen.runs.checkpoint import Checkpoints


@dataclass(frozen=True)
class Hardware:
    """Where and how a run computes. Changes speed and rounding, never the plan; rounding is a part
    of what a private stage asks, so a killed run is resumed on the hardware that it was begun on.

    Args:
        device: "auto" (a GPU where there is one) or "cpu".
        precision: "no" (float32) or "bf16"; clipping, sums and noise stay in float64 either way.
        micro_batch: records whose gradients are held at once; None: as many as suit the device and
            the batch, or on a resume as many as the run was begun with.
    """

    device: str = "auto"
    precision: str = "no"
    micro_batch: int | None = None

    def __post_init__(self) -> None:
        if self.device not in ("auto", "cpu"):
            raise ValueError(f"device must be auto or cpu, got {self.device!r}")
        if self.precision not in ("no", "bf16"):
            raise ValueError(f"precision must be no or bf16, got {self.precision!r}")
        if self.micro_batch is not None and self.micro_batch < 1:
            raise ValueError(f"micro_batch must be at least 1, got {self.micro_batch}")

    def accelerator(self) -> Accelerator:
        """Makes the accelerator. Also settles how this process multiplies on a GPU: full float32,
        and the same answer every time, so that a step which is run again after a kill gets the same
        answer.
        """
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
        accelerator = Accelerator(cpu=self.device == "cpu", mixed_precision=self.precision)
        if accelerator.num_processes > 1:
            raise ValueError(
                f"training runs in one process, got {accelerator.num_processes}: "
                "start it without a launcher"
            )
        if accelerator.device.type == "mps":
            raise ValueError("device must add in float64, which mps cannot: take --device cpu")
        return accelerator


@dataclass(frozen=True)
class Workplace:
    """What a method's training loop is given beside the data.

    Args:
        checkpoints: where the states of the loops lie; noisy answers are among them, never keys.
        accelerator: where it computes.
        micro_batch: records whose gradients are held at once; ``None``: not chosen.
        seed: of all public randomness.
        show: whether progress bars are shown.
    """

    checkpoints: Checkpoints
    accelerator: Accelerator
    micro_batch: int | None
    seed: int
    show: bool

    def generator(self, purpose: int) -> torch.Generator:
        """Returns a CPU generator of public randomness; each purpose has its own stream."""
        return torch.Generator().manual_seed((self.seed * 1_000_003 + purpose) % 2**63)


@dataclass(frozen=True)
class Rehearsal:
    """What a run would take on this machine, from a few steps on random images.

    Args:
        seconds: on a CPU those of a machine that does nothing else; on a GPU as measured.
        memory_bytes: the most that the process holds; on a GPU of that card.
        n_parameters: of the networks.
        device: "CPU" or "GPU".
    """

    seconds: float
    memory_bytes: int
    n_parameters: int
    device: str


CPU_IS_FULL = "can't allocate memory"  # as torch's allocator says it, in a RuntimeError


@contextlib.contextmanager
def in_memory(cure: Callable[[], str]) -> Iterator[None]:
    """Raises MemoryError, which says what to do, where torch raises a RuntimeError because the
    memory of a GPU or of the machine is full.

    Args:
        cure: says what to do, asked when it has happened.
    """
    try:
        yield
    except RuntimeError as error:
        said = str(error)
        if not (isinstance(error, torch.OutOfMemoryError) or CPU_IS_FULL in said):
            raise
        reason = (said.splitlines() or ["no more is known"])[0]
        raise MemoryError(f"out of memory ({reason:.120}): {cure()}") from error


def peak_memory() -> int:
    """Returns the most bytes that this process has held so far."""
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB here
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
