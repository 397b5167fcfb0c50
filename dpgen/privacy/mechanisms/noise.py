"""Secret randomness of a private stage, from one 32-byte key that the operating system drew.

Everything random that meets a record comes from here: the Poisson coins, the noise, and every
per-record draw (noise levels, diffusion noise, dropped labels). A published seed would let an
adversary recompute it all. Each stream is

    SHAKE-256(key, plan, question, release, purpose, name)

and the noise of a sum has two parts more: the width that it is asked for, and the sum itself.

Randomness belongs to the question (`dpgen.privacy.mechanisms.question`). The same question again,
after a kill, draws what it drew before: the same answer, not a second one. Any other question,
under the same key, gets coins, draws and noise that know nothing of the first ones, so that the
difference of two answers is never the un-noised difference of two sums.

Why noise may depend on the sum that it hides. The one assumption is that SHAKE-256 behind a secret
32-byte key is a pseudo-random function F (the sponge with a keyed prefix, as in KMAC). In one run
every (plan, release, name) is asked for its noise once. The inputs of these calls differ in those
parts whatever the sums are, and a sum is fixed before its call, as a function of the records and of
earlier outputs of F alone. A random function at a new input, chosen by whatever was seen before,
gives fresh uniform bits that are independent of the input and of all that was seen. So the noise is
independent of the sum, and the law of a run is that of noise which does not look at sums. What
changes is a second call: two sums under one address get independent noise unless they are equal in
every bit, and equal sums repeat one answer. Where a part of a question is forgotten, a kernel does
not repeat itself or a sum is added up by another number of threads or processes, the worst is two
answers under independent noise. Coins and draws are not keyed in this way, they come before the
sum: two such answers are about one batch, which is more than two steps of the plan would tell, and
not priced. That is why a run has one line of descent (`dpgen.privacy.lineage.descent`).

The streams are float64: 53-bit uniforms, Box-Muller normals. They are not the exact normal law over
the reals; the certificate says so. That proofs take them for independent uniform numbers is said in
theorem F5.
"""

from __future__ import annotations

import copy
import hashlib
import math
import secrets
from typing import Protocol, Self

import numpy as np
import torch
from torch import Tensor

from dpgen.privacy.mechanisms.draws import KEY_BYTES as DRAW_KEY_BYTES
from dpgen.privacy.mechanisms.draws import Draws

KEY_BYTES = 32


class NoiseSource(Protocol):
    """The one place where randomness meets private sums. Replay tests substitute it."""

    def for_question(self, question: str) -> NoiseSource:
        """The randomness of one question, by its digest; mechanisms take it once a release."""

    def add(self, total: Tensor, std: float, *, release: int, name: str) -> Tensor:
        """``total + N(0, std**2)``, float64, of the shape of ``total``."""

    def coins(self, n: int, rate: float, *, release: int) -> np.ndarray:
        """Slots of the Poisson sample: each of ``0 .. n - 1`` independently with probability
        ``rate``, ascending int64.
        """

    def draws(
        self, slots: np.ndarray, *, release: int, device: torch.device | str = "cpu"
    ) -> Draws:
        """The records' own draws at one release, each independent of every other record's."""


def new_key() -> bytes:
    return secrets.token_bytes(KEY_BYTES)


class KeyedNoise:
    """The NoiseSource of production.

    Args:
        key: 32 bytes from `new_key`, one per stage, never published, deleted with the stage.
        plan: the plan hash of the stage. The same key under a changed plan gives unrelated streams.
        question: digest of what is asked; see `for_question`.
    """

    def __init__(self, key: bytes, plan: str, question: str = "") -> None:
        if len(key) != KEY_BYTES:
            raise ValueError(f"key must have {KEY_BYTES} bytes, got {len(key)}")
        self._key, self._plan, self._question = key, plan, question

    def for_question(self, question: str) -> Self:
        bound = copy.copy(self)
        bound._question = question
        return bound

    def commitment(self) -> str:
        """Returns the ledger's commitment to this key, 64 hexadecimal digits. It is a stream of its
        own: it says as little about the key and the other streams as one random number about
        another, and does not depend on the records.
        """
        return self._bytes(32, "commitment", 0, "").hex()

    def _bytes(self, n: int, purpose: str, release: int, name: str, *more: str) -> bytes:
        words = (self._plan, self._question, str(release), purpose, name, *more)
        parts = (self._key, *(word.encode() for word in words))
        # Lengths in front make the concatenation injective.
        return hashlib.shake_256(b"".join(len(p).to_bytes(8, "big") + p for p in parts)).digest(n)

    def _uniforms(
        self, n: int, purpose: str, release: int, name: str, *more: str
    ) -> np.ndarray:
        """(n,) float64 in [0, 1), multiples of 2**-53."""
        words = np.frombuffer(self._bytes(8 * n, purpose, release, name, *more), dtype="<u8")
        return (words >> np.uint64(11)).astype(np.float64) * 2.0**-53

    def add(self, total: Tensor, std: float, *, release: int, name: str) -> Tensor:
        n = total.numel()
        sums = total.detach().double().cpu().contiguous()
        asked = (float(std).hex(), hashlib.sha256(sums.numpy().tobytes()).hexdigest())
        uniforms = self._uniforms(2 * ((n + 1) // 2), "noise", release, name, *asked).reshape(2, -1)
        first, second = torch.from_numpy(uniforms).to(total.device)
        # 1 - u lies in (0, 1]: the logarithm is finite.
        radius, angle = (-2.0 * torch.log1p(-first)).sqrt(), 2.0 * math.pi * second
        normals = torch.cat([radius * angle.cos(), radius * angle.sin()])[:n]
        return total.double() + std * normals.reshape(total.shape)

    def coins(self, n: int, rate: float, *, release: int) -> np.ndarray:
        return np.flatnonzero(self._uniforms(n, "coins", release, "") < rate)

    def draws(
        self, slots: np.ndarray, *, release: int, device: torch.device | str = "cpu"
    ) -> Draws:
        return Draws(self._bytes(DRAW_KEY_BYTES, "draws", release, ""), slots, device)
