"""Measures on this machine how long one step of a loop takes, for the estimate of a run."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from dpgen.runs.context import Hardware, Rehearsal, peak_memory

CPU = torch.device("cpu")
# Rough gain of each processor after the first: with two, private steps, matching and releases kept
# 1.2 to 1.6 of them busy.
PARALLEL = 0.5


def rehearsal_of(seconds: float, n_parameters: int, device: torch.device) -> Rehearsal:
    """Returns the estimate of a run of so many seconds, with the memory that was held so far."""
    on_gpu = device.type == "cuda"
    memory = torch.cuda.max_memory_allocated() if on_gpu else peak_memory()
    return Rehearsal(seconds, memory, n_parameters, "GPU" if on_gpu else "CPU")


def rehearse_steps(
    step_of: Callable[[torch.device], Callable[[], object]], n_steps: int, n_parameters: int,
    hardware: Hardware,
) -> Rehearsal:  # fmt: skip
    """Estimates a run of steps of one kind.

    Args:
        step_of: makes such a step, on a device.
        n_steps: number of them.
        n_parameters: number of parameters of all networks.
        hardware: device and precision.
    """
    device = hardware.accelerator().device
    return rehearsal_of(n_steps * seconds_of(step_of(device), device), n_parameters, device)


def seconds_of(step: Callable[[], object], device: torch.device) -> float:
    """Measures the seconds of one call: of the second, because the first includes warming up.

    On a CPU other processes do not count: it is the time of one thread, which waits for no other,
    divided among the processors that a run keeps busy.
    """
    if device.type == "cuda":
        return _timed(step, time.perf_counter)
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _timed(step, time.process_time) / (PARALLEL * (n_threads - 1) + 1)
    finally:
        torch.set_num_threads(n_threads)


def _timed(step: Callable[[], object], clock: Callable[[], float]) -> float:
    seconds = 0.0
    for _ in range(2):
        start = clock()
        step()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        seconds = clock() - start
    return seconds
