"""Detectors of private keys that can be guessed."""

from __future__ import annotations

import hashlib
import os
import random
import secrets
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from dpgen.auditing import keys as audits
from dpgen.privacy.lineage import keys
from dpgen.privacy.lineage.keys import StageKeys
from dpgen.privacy.mechanisms import noise
from dpgen.privacy.mechanisms.noise import KEY_BYTES, KeyedNoise

N_BITS = 8 * KEY_BYTES


class Entropy:
    """The operating system's random bytes, told what to be: a stream with one bit turned over."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.asked, self.turned = 0, -1
        for module, name in ((os, "urandom"), (random, "_urandom"), (secrets, "token_bytes")):
            patch.setattr(module, name, self)
        for module in (keys, noise):  # whoever has imported it by name
            for name in ("token_bytes", "urandom"):
                patch.setattr(module, name, self, raising=False)

    def __call__(self, n: int | None = None) -> bytes:
        n = KEY_BYTES if n is None else n
        stream = bytearray(hashlib.shake_256(b"entropy").digest(self.asked + n)[self.asked :])
        byte, bit = divmod(self.turned, 8)
        if self.turned >= 0 and self.asked <= byte < self.asked + n:
            stream[byte - self.asked] ^= 1 << bit
        self.asked += n
        return bytes(stream)

    def again(self, turned: int = -1) -> None:
        self.asked, self.turned = 0, turned


def entropy(place: Path) -> str:
    """Every one of 256 random bits of the operating system moves the noise of a stage, and nothing
    else does.
    """
    with pytest.MonkeyPatch.context() as patch:
        # Onto disk, but not through it: this makes hundreds of keys.
        patch.setattr(os, "fsync", lambda descriptor: None)
        source = Entropy(patch)

        def stage(number: int) -> bytes:
            made = StageKeys(place / str(number))
            made.create("plan")
            return _noise(made.noise("plan"))

        first = stage(-1)
        asked = source.asked
        source.again()
        if stage(-2) != first:
            return "a key follows something else than the system's random bytes"
        turned = 0
        for bit in range(8 * min(asked, 4 * KEY_BYTES)):
            source.again(bit)
            turned += stage(bit) != first
        return "" if turned >= N_BITS else f"a key has {turned} random bits"


def _noise(source: KeyedNoise) -> bytes:
    zeros = torch.zeros(8, dtype=torch.float64)
    return source.add(zeros, 1.0, release=0, name="one").numpy().tobytes()


def new_keys(place: Path) -> str:
    """`dpgen.auditing.keys`: new keys never come twice, and every bit of a key matters."""
    if audits.n_equal_keys():
        return "new keys come again"
    idle = audits.idle_bits()
    return f"{idle} of {N_BITS} bits of a key move nothing" if idle else ""


KEYS: dict[str, Callable[[Path], str]] = {"entropy": entropy, "new keys": new_keys}
