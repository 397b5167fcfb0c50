"""Makes networks of the same initial weights wherever they are made."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seeds torch's CPU generator in the block, and restores its state afterwards.

    Accelerators are left alone: `torch.manual_seed` would seed them too, and their state is not
    restored.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield
