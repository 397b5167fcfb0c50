"""Secret randomness of a private stage, from one 32-byte key that the operating system drew.

Everything random that meets a record comes from here: the Poisson coins, the noise, and every
per-record draw (noise levels, diffusion noise, dropped labels). A published seed would let an
adversary recompute it all. Each stream is
``SHAKE-256(key, plan, purpose, release, name)``, so streams of two releases, tensors or stages
never share a word, and a step
that is repeated after a kill draws exactly what it drew before: the same answer again, not a second
one.

The streams are float64: 53-bit uniforms, Box-Muller normals. They are not the exact normal law over
the reals; the certificate says so. That proofs take them for independent uniform numbers is said in
theorem F5.
"""

from __future__ import annotations

import hashlib
import secrets
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

KEY_BYTES = 32


class NoiseSource(Protocol):
    """The one place where randomness meets private sums. Replay tests substitute it."""

    def add(self, total: Tensor, std: float, *, release: int, name: str) -> Tensor:
        """``total + N(0, std**2)``, float64, of the shape of ``total``."""

    def coins(self, n: int, rate: float, *, release: int) -> np.ndarray:
        """Slots of the Poisson sample: each of ``0 .. n - 1`` independently with probability
        ``rate``, ascending int64.
        """

    def draws(self, slot: int, *, release: int) -> np.random.Generator:
        """The generator of one record's own draws at one release, independent of every other
        record's.
        """


def new_key() -> bytes:
    return secrets.token_bytes(KEY_BYTES)


class KeyedNoise:
    """The NoiseSource of production.

    Args:
        key: 32 bytes from `new_key`, one per stage, never published, deleted with the stage.
        plan: the plan hash of the stage. The same key under a changed plan gives unrelated streams.
    """

    def __init__(self, key: bytes, plan: str) -> None:
        if len(key) != KEY_BYTES:
            raise ValueError(f"key must have {KEY_BYTES} bytes, got {len(key)}")
        self._key, self._plan = key, plan
        # Per-record draws need speed, not a stream of their own each: Philox is counter based, so
        # (slot, release) in the counter gives disjoint streams under one secret key (Salmon et al.
        # 2011).
        self._draw_key = np.frombuffer(self._bytes(16, "draws", 0, ""), dtype=np.uint64)

    def _bytes(self, n: int, purpose: str, release: int, name: str) -> bytes:
        parts = (
            self._key,
            self._plan.encode(),
            purpose.encode(),
            str(release).encode(),
            name.encode(),
        )
        # Lengths in front make the concatenation injective.
        return hashlib.shake_256(b"".join(len(p).to_bytes(8, "big") + p for p in parts)).digest(n)

    def _uniforms(self, n: int, purpose: str, release: int, name: str) -> np.ndarray:
        """(n,) float64 in [0, 1), multiples of 2**-53."""
        words = np.frombuffer(self._bytes(8 * n, purpose, release, name), dtype="<u8")
        return (words >> np.uint64(11)).astype(np.float64) * 2.0**-53

    def add(self, total: Tensor, std: float, *, release: int, name: str) -> Tensor:
        n = total.numel()
        uniforms = self._uniforms(2 * ((n + 1) // 2), "noise", release, name).reshape(2, -1)
        radius = np.sqrt(
            -2.0 * np.log1p(-uniforms[0])
        )  # 1 - u lies in (0, 1]: the logarithm is finite
        angle = 2.0 * np.pi * uniforms[1]
        normals = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[:n]
        noise = torch.from_numpy(normals).reshape(total.shape).to(total.device)
        return total.double() + std * noise

    def coins(self, n: int, rate: float, *, release: int) -> np.ndarray:
        return np.flatnonzero(self._uniforms(n, "coins", release, "") < rate)

    def draws(self, slot: int, *, release: int) -> np.random.Generator:
        # The low words of the counter run; the high words are the address, so streams stay disjoint
        # for 2**128 draws.
        counter = np.array([0, 0, slot, release], dtype=np.uint64)
        return np.random.Generator(np.random.Philox(key=self._draw_key, counter=counter))
