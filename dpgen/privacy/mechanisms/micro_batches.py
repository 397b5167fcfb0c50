"""Micro-batches of one size, however many records there are."""

from __future__ import annotations

import torch
from torch import Tensor

Rows = tuple[Tensor, Tensor, Tensor]  # rows or pixels (B, ...), labels (B,), valid (B,)


def filled(
    pixels: Tensor, labels: Tensor, valid: Tensor, size: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Pads a micro-batch to ``size`` rows, the added ones invalid: all micro-batches have the same
    shape, so that rounding inside a kernel does not reveal how many records there are.
    """
    real = torch.arange(size) < len(valid)
    return _extended(pixels, size), _extended(labels, size), _extended(valid, size) & real


def moved(rows: Tensor, device: torch.device) -> Tensor:
    """Copies rows to the device without waiting for it to finish earlier work."""
    return rows.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else rows


def _extended(rows: Tensor, size: int) -> Tensor:
    """Appends copies of the first row until there are ``size`` rows."""
    missing = size - len(rows)
    return torch.cat([rows, rows[:1].expand(missing, *rows.shape[1:])]) if missing else rows
