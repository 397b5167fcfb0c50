"""The random numbers that a loss uses for each record: noise levels, diffusion noise, dropped
labels.

Each record has a stream of its own at each release, a function of key, release and slot alone, so
that adding or removing a record shifts the numbers of no other. The guarantee requires nothing
else of them: with the draws of every slot fixed in advance, a step is still a subsampled Gaussian
of the stated sensitivity, and the guarantee is an average over such steps. They are as
unpredictable as Philox under a secret key; nothing that is certified rests on that.

The streams are Philox4x32-10, ten rounds of exact integer arithmetic, computed for all records of a
micro-batch at once and on the device where they are used. The words are the same on every device;
the logarithms and cosines of `normal` are float32 and may differ in their last bits.

Reference: Salmon, Moraes, Dror, Shaw (2011), "Parallel Random Numbers: As Easy as 1, 2, 3".
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

__all__ = ["KEY_BYTES", "Draws", "philox"]

KEY_BYTES = 8
_WORD = 2**32 - 1
_MULTIPLIERS = 0xD2511F53, 0xCD9E8D57
_WEYL = 0x9E3779B9, 0xBB67AE85
_ROUNDS = 10


class Draws:
    """Numbers for B records. Every call gives each record the next ones of its own stream.

    Args:
        key: 8 secret bytes that belong to one release of one stage.
        slots: slots of the records, (B,) integers in [0, 2**64).
        device: device of the returned tensors.
    """

    def __init__(self, key: bytes, slots: np.ndarray, device: torch.device | str = "cpu") -> None:
        if len(key) != KEY_BYTES:
            raise ValueError(f"key must have {KEY_BYTES} bytes, got {len(key)}")
        self.key, self.slots = key, slots
        self._key = int.from_bytes(key[:4], "little"), int.from_bytes(key[4:], "little")
        halves = np.asarray(slots).astype(np.uint64)
        self._low, self._high = (
            torch.from_numpy((part & np.uint64(_WORD)).astype(np.int64)).to(device)[:, None]
            for part in (halves, halves >> np.uint64(32))
        )
        self._n_blocks = 0

    def __len__(self) -> int:
        """Returns the number of records, B."""
        return len(self._low)

    def _words(self, n: int) -> Tensor:
        """Returns the next n words of every record, in blocks of four: (B, n) int64 in [0, 2**32).
        """
        first, n_blocks = self._n_blocks, -(-n // 4)
        self._n_blocks = first + n_blocks
        if self._n_blocks > 2**32:
            raise ValueError(f"a record has {2**34} words at a release, asked for {n} more")
        blocks = torch.arange(first, self._n_blocks, device=self._low.device)[None]
        shape = len(self), n_blocks
        counter = [part.expand(shape) for part in (blocks, self._low, self._high)]
        words = philox(self._key, (*counter, torch.zeros_like(blocks).expand(shape)))
        # The first words of all blocks come first: to order by block would need a copy.
        return torch.cat(words, 1)[:, :n]

    def uniform(self, *shape: int) -> Tensor:
        """Draws uniform numbers, (B, *shape) float64 in [0, 1), multiples of 2**-32."""
        return (self._words(math.prod(shape)).double() * 2.0**-32).reshape(-1, *shape)

    def normal(self, *shape: int) -> Tensor:
        """Draws standard normal numbers by Box-Muller, (B, *shape) float32; none beyond 6.7."""
        n = math.prod(shape)
        half = (n + 1) // 2
        words = self._words(2 * half).float()
        # Rounding of a word may reach 2**32, so both ends are closed: [2**-32, 1] and [0, 1].
        radius = words[:, :half].add(1).mul_(2.0**-32).log_().mul_(-2).sqrt_()
        angle = words[:, half:].mul(2 * math.pi * 2.0**-32)
        return torch.cat([radius * angle.cos(), radius * angle.sin()], 1)[:, :n].reshape(-1, *shape)

    def signs(self, *shape: int) -> Tensor:
        """Draws independent signs, (B, *shape) int8, -1 or 1."""
        n = math.prod(shape)
        bits = self._words(-(-n // 32))[..., None] >> torch.arange(32, device=self._low.device)
        return (2 * (bits & 1) - 1).to(torch.int8).flatten(1)[:, :n].reshape(-1, *shape)


def philox(key: tuple[int, int], counter: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Computes Philox4x32-10: four words in [0, 2**32) for every counter of four, elementwise,
    int64.
    """
    a, b, c, d = counter
    for turn in range(_ROUNDS):
        # A product of two words needs 64 bits; torch's int64 wraps around, which loses no bit.
        first, second = a * _MULTIPLIERS[0], c * _MULTIPLIERS[1]
        e, f = ((part + turn * step) & _WORD for part, step in zip(key, _WEYL, strict=True))
        a, b = ((second >> 32) & _WORD) ^ b ^ e, second & _WORD
        c, d = ((first >> 32) & _WORD) ^ d ^ f, first & _WORD
    return a, b, c, d
