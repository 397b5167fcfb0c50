"""Chooses how many records are computed at once: a constant of a run, from public numbers alone.

Every micro-batch of a run has this size, and the last one is filled up with rows of weight zero, so
that rounding inside a kernel does not reveal how many records were drawn. Added rows are wasted
work, so the size is chosen for the expected batch.

Gradients are kept per record, in one pass. A second pass that never holds them would cost a third
more work and save little: of the largest preset at 256x256 they are 31 MB a record (7.7 million
parameters), beside 464 MiB measured on a CPU for one noised image, of which a record has several.
"""

from __future__ import annotations

import math

import psutil
import torch
from torch import Tensor, nn

from dpgen.networks.denoiser import Denoiser

__all__ = ["even_size", "records_at_once"]

STEP = 8  # sizes are multiples of it, where there is room
CPU_RECORDS = 32
SHARE = 0.4  # of the device's memory
GPU_IMAGES = 1024  # noised images that take as long as the start of a micro-batch


def records_at_once(
    denoiser: Denoiser, n_draws: int, expected: float, device: torch.device, *, half: bool
) -> int:
    """Chooses the number of records in a micro-batch of a private step on this device: a function
    of public numbers and of the size of its memory, not of the free memory, so that a resumed run
    has the same.

    Args:
        n_draws: noised images of a record.
        expected: mean of the number of records.
        half: whether the network computes in half precision.
    """
    image = 1.5 * _outputs(denoiser) * (2 if half else 4)
    gradient = 3 * 4 * sum(p.numel() for p in denoiser.parameters())
    on_gpu = device.type == "cuda"
    memory = (
        torch.cuda.get_device_properties(device).total_memory
        if on_gpu
        else psutil.virtual_memory().total
    )
    most = max(1, int(SHARE * memory / (n_draws * image + gradient)))
    if not on_gpu:
        return even_size(expected, min(CPU_RECORDS, most), overhead=1.0)
    return even_size(expected, most, overhead=GPU_IMAGES / n_draws)


def _outputs(denoiser: Denoiser) -> int:
    """Counts the numbers in the outputs of all layers for one image."""
    sizes: list[int] = []

    def note(layer: nn.Module, given: object, out: object) -> None:
        if isinstance(out, Tensor) and not list(layer.children()):
            sizes.append(out.numel())

    handles = [layer.register_forward_hook(note) for layer in denoiser.modules()]
    device = next(denoiser.parameters()).device
    try:
        with torch.no_grad():
            denoiser(
                torch.zeros(1, *denoiser.config.shape, device=device),
                torch.ones(1, device=device),
                torch.zeros(1, dtype=torch.int64, device=device),
            )
    finally:
        for handle in handles:
            handle.remove()
    return sum(sizes)


def even_size(expected: float, most: int, overhead: float) -> int:
    """Finds the size, at most ``most``, at which a Poisson sample costs least on average: the rows
    that are computed, and ``overhead`` for every micro-batch.

    Args:
        expected: mean of the number of records.
        most: largest size that fits.
        overhead: cost of a micro-batch beyond its rows, in rows.
    """
    if most <= STEP:
        return most
    spread = math.sqrt(expected)
    # Poisson's distribution is approximated by a normal one, in tenths of its standard deviation.
    counts = [max(0.0, expected + spread * z / 10) for z in range(-40, 41)]
    weights = [math.exp(-0.5 * (z / 10) ** 2) for z in range(-40, 41)]

    def cost(size: int) -> float:
        calls = sum(w * math.ceil(n / size) for n, w in zip(counts, weights, strict=True))
        return calls * (size + overhead)

    largest = min(most, math.ceil((expected + 4 * spread) / STEP) * STEP)
    return min(range(STEP, largest + 1, STEP), key=lambda size: (cost(size), size))
