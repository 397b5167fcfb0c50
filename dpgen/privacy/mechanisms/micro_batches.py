"""Micro-batches of one size, whatever number of records there is."""

from __future__ import annotations

import torch
from torch import Tensor


def filled(
    pixels: Tensor, labels: Tensor, valid: Tensor, size: int
) -> tuple[Tensor, Tensor, Tensor]:
    """A micro-batch of ``size`` rows, the added ones invalid: every one has the same shape, so
    that rounding inside a kernel does not tell how many records there are.
    """
    real = torch.arange(size) < len(valid)
    return _extended(pixels, size), _extended(labels, size), _extended(valid, size) & real


def moved(rows: Tensor, device: torch.device) -> Tensor:
    """Rows on the device, without waiting for what it still computes."""
    return rows.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else rows


def _extended(rows: Tensor, size: int) -> Tensor:
    """The first row again behind the last, until there are ``size``."""
    missing = size - len(rows)
    return torch.cat([rows, rows[:1].expand(missing, *rows.shape[1:])]) if missing else rows
