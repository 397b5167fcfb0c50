"""Secret randomness of a private stage, from one 32-byte key drawn by the operating system.

All randomness that is applied to a record comes from here: the Poisson coins, the noise, and every
per-record draw (noise levels, diffusion noise, dropped labels). A published seed would let an
adversary recompute all of it. Each stream is

    SHAKE-256(key, plan, question, release, purpose, name)

and the noise of a sum has two more parts: its standard deviation and the sum itself.

Randomness belongs to the question (`dpgen.privacy.mechanisms.question`). When the same question is
repeated after a kill, it draws the same numbers: the same answer, not a second one. Any other
question under the same key gets coins, draws and noise that are independent of the first ones, so
that the difference of two answers is never the un-noised difference of two sums.

Why noise may depend on the sum that it hides. The only assumption is that SHAKE-256 with a secret
32-byte key is a pseudo-random function F (the sponge with a keyed prefix, as in KMAC). In one run
every (plan, release, name) is asked for its noise once. The inputs of these calls differ in those
parts whatever the sums are, and a sum is fixed before its call, as a function of the records and of
earlier outputs of F alone. A random function at a new input, however that is chosen from earlier
outputs, gives fresh uniform bits that are independent of the input and of all earlier outputs. So
the noise is independent of the sum, and a run has the same law as with noise that does not depend
on sums. The difference appears in a second call: two sums under one address get independent noise
unless they are equal in every bit, and equal sums repeat one answer. If a part of a question is
missing from its description, if a kernel is not deterministic or if another number of threads or
processes adds up a sum, the worst outcome is two answers with independent noise. Coins and draws do
not depend on the sum, because they come before it: two such answers are about one batch, which
reveals more than two steps of the plan would, and is not priced. That is why a run has one line of
descent (`dpgen.privacy.lineage.descent`).

The streams are float64: 53-bit uniforms, Box-Muller normals. They are not the exact normal law over
the reals; the certificate says so. Theorem F5 states that the proofs treat them as independent
uniform numbers.
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
TAG_BYTES = 16


class NoiseSource(Protocol):
    """The source of all randomness that is applied to private sums. Replay tests substitute it."""

    def for_question(self, question: str) -> NoiseSource:
        """Returns the source for one question, given by its digest; mechanisms call this once per
        release.
        """

    def add(self, total: Tensor, std: float, *, release: int, name: str) -> Tensor:
        """Returns ``total + N(0, std**2)``, float64, in the shape of ``total``."""

    def coins(self, n: int, rate: float, *, release: int) -> np.ndarray:
        """Draws the slots of the Poisson sample: each of ``0 .. n - 1`` independently with
        probability ``rate``, ascending int64.
        """

    def draws(
        self, slots: np.ndarray, *, release: int, device: torch.device | str = "cpu"
    ) -> Draws:
        """Returns the draws of these slots, (B,), at one release, independent between records."""

    def tag(self, content: bytes) -> bytes:
        """Returns 16 bytes that follow from a record's content and the stage's key alone: the same
        for every release and every question of the stage.
        """


def new_key() -> bytes:
    return secrets.token_bytes(KEY_BYTES)


class KeyedNoise:
    """The NoiseSource of production.

    Args:
        key: 32 bytes from `new_key`, one per stage, never published, deleted with the stage.
        plan: the plan hash of the stage. The same key under a changed plan gives unrelated streams.
        question: digest of the question; see `for_question`.
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
        own: under the assumption above it reveals nothing about the key and the other streams, and
        it does not depend on the records.
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
        """Draws uniform numbers, (n,) float64 in [0, 1), multiples of 2**-53."""
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

    def tag(self, content: bytes) -> bytes:
        stage = KeyedNoise.for_question(self, "")
        return stage._bytes(TAG_BYTES, "tag", 0, hashlib.sha256(content).hexdigest())
