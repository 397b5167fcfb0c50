"""The context of a training loop beside the data: where it computes and saves, and its seed.

No key and no private record is reachable from here, so that a fit which is given only released
values and a `Workplace` cannot read any: keys belong to `dpgen.runs.folder.RunFolder`, and the
private data take them from it before the first stage.
"""

from __future__ import annotations

import contextlib
import resource
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from torch import Tensor

from dpgen.runs.checkpoint import Checkpoints
from dpgen.runs.processes import joined, launched


@dataclass(frozen=True)
class Hardware:
    """Where and how a run computes. It changes speed and rounding, never the plan. The question of
    a private stage includes it, so a killed run is resumed on the hardware that it was begun on.

    Args:
        device: "auto" (a GPU where there is one) or "cpu".
        precision: "no" (float32) or "bf16"; clipping, sums and noise stay in float64 either way.
        micro_batch: number of records whose gradients are held at once. None takes a number that
            suits the device and the batch, or on a resume the number that the run was begun with.
        readers: "one" (process 0 reads the records and sends them to the other processes of a
            launcher) or "all" (each process reads those that it computes, from the same data).
    """

    device: str = "auto"
    precision: str = "no"
    micro_batch: int | None = None
    readers: str = "one"

    def __post_init__(self) -> None:
        if self.device not in ("auto", "cpu"):
            raise ValueError(f"device must be auto or cpu, got {self.device!r}")
        if self.precision not in ("no", "bf16"):
            raise ValueError(f"precision must be no or bf16, got {self.precision!r}")
        if self.micro_batch is not None and self.micro_batch < 1:
            raise ValueError(f"micro_batch must be at least 1, got {self.micro_batch}")
        if self.readers not in ("one", "all"):
            raise ValueError(f"readers must be one or all, got {self.readers!r}")

    def accelerator(self) -> Accelerator:
        """Makes the accelerator. It also sets this process to multiply on a GPU in full float32 and
        deterministically, so that a step which is repeated after a kill gets the same answer.
        """
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
        if launched() and joined() is None:
            raise ValueError(
                "this runs in one process and was started in several: start it without a launcher"
            )
        # Accelerate does not see other processes on a machine without a GPU unless told.
        cpu = self.device == "cpu" or (launched() and not torch.cuda.is_available())
        accelerator = Accelerator(cpu=cpu, mixed_precision=self.precision)
        if accelerator.device.type == "mps":
            raise ValueError("the device must support float64, and mps does not: use --device cpu")
        return accelerator


def multiplies_halves(device: torch.device) -> bool:
    """Returns whether this device has instructions for products of bfloat16 numbers, which take
    half the time there and twice the time elsewhere.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.cpu._is_avx512_bf16_supported()


@dataclass(frozen=True)
class Workplace:
    """The context of a method's training loop beside the data.

    Args:
        checkpoints: the saved states of the loops, which include noisy answers and never keys.
        accelerator: the device on which it computes.
        micro_batch: number of records whose gradients are held at once; None if not chosen.
        seed: seed of all public randomness.
        show: whether progress bars are shown.
        weights: the weights by name with which the network of the private stages starts, learned
            from public images or given; None for untrained ones.
    """

    checkpoints: Checkpoints
    accelerator: Accelerator
    micro_batch: int | None
    seed: int
    show: bool
    weights: Mapping[str, Tensor] | None = None

    def generator(self, purpose: int) -> torch.Generator:
        """Returns a CPU generator of public randomness; each purpose has its own stream."""
        return torch.Generator().manual_seed((self.seed * 1_000_003 + purpose) % 2**63)


@dataclass(frozen=True)
class Rehearsal:
    """The estimated cost of a run on this machine, from a few steps on random images.

    Args:
        seconds: duration of the run; on a CPU that of an otherwise idle machine, on a GPU as
            measured.
        memory_bytes: peak memory of the process; on a GPU that of the card.
        n_parameters: number of parameters of all networks.
        device: "CPU" or "GPU".
        n_trained: number of those that DP-SGD trains, where adapters leave the others as they are;
            None where it trains all of them.
    """

    seconds: float
    memory_bytes: int
    n_parameters: int
    device: str
    n_trained: int | None = None


CPU_IS_FULL = "can't allocate memory"  # in the RuntimeError of torch's allocator


@contextlib.contextmanager
def in_memory(cure: Callable[[], str]) -> Iterator[None]:
    """Turns torch's RuntimeError about full memory, of a GPU or of the machine, into a MemoryError
    that says what to do.

    Args:
        cure: returns what to do; called when it has happened.
    """
    try:
        yield
    except RuntimeError as error:
        said = str(error)
        if not (isinstance(error, torch.OutOfMemoryError) or CPU_IS_FULL in said):
            raise
        reason = (said.splitlines() or ["no details"])[0]
        raise MemoryError(f"out of memory ({reason:.120}): {cure()}") from error


def peak_memory() -> int:
    """Returns the most bytes that this process has held so far."""
    unit = 1 if sys.platform == "darwin" else 1024  # bytes on macOS, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
