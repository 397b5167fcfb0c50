"""Measures whether a record changes anything but the answer of its own shard.

Records are removed one after another, the first, some in between and the last. Each time all shards
are made and their teachers trained by the production code, and every answer is compared with those
of the whole set, to the last bit. One of them may differ. Twice: with teachers that answer a digest
of all that they were given, so that a record that moves to another shard or another place, padding,
a capacity or a seed that depends on the records is seen; and with the stage's own teachers, which
may find what another shard has left behind.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from dpgen.auditing.overheard import fresh_source
from dpgen.auditing.silos import numbered
from dpgen.auditing.stand_ins import neighbours
from dpgen.images.images import PublicFacts, to_float
from dpgen.privacy.mechanisms.ensemble import Ball, NoisyEnsemble
from dpgen.privacy.mechanisms.teachers import Fit, Teacher, answers, trained

N_SHARDS = 4
N_DECLARED = 3  # records by declaration: a capacity that some of these shards exceed
N_QUERIES = 2
N_DIGITS = 8


@dataclass(frozen=True)
class Disjoint:
    """What was measured.

    n_changed: the most shards whose answers a record changed.
    farthest: the most that the answer of one shard to one query moved, in diameters.
    n_removed: number of records that were removed.
    """

    n_changed: int
    farthest: float
    n_removed: int

    @property
    def passed(self) -> bool:
        """Returns whether one shard changed, never more. With none the test would say nothing."""
        return self.n_changed == 1 and self.farthest <= 1


def disjoint(
    mechanism: NoisyEnsemble, fit: Fit, facts: PublicFacts, *, seed: int = 0
) -> Disjoint:
    """Measures an ensemble with few shards and stand-in records.

    Args:
        fit: trains the stage's own teachers.
        facts: shape and classes of the records.
        seed: seed of the stand-ins and the teachers.
    """
    n_shards = min(mechanism.n_shards, N_SHARDS)
    few = replace(
        mechanism, n_shards=n_shards, n_records=N_DECLARED,
        silos=numbered(mechanism.silos, n_shards, max_records=N_DECLARED),
    )  # fmt: skip
    told = replace(few, answer=Ball((N_DIGITS,), mechanism.answer.diameter / 2))
    source, everything = fresh_source(), _Remaining(facts, seed, n_shards)
    n, queries = everything.n_slots, everything.read(np.arange(N_QUERIES))[0].flip(-1)

    def asked(kind: NoisyEnsemble, teach: Fit, records: _Remaining) -> Tensor:
        """Returns every shard's answers, (K, N_QUERIES, ...)."""
        teachers = trained(kind, records, source, teach, seed)
        return torch.stack(list(answers(kind, teachers, {"queries": queries}, seed)))

    removed = sorted({0, 1, n // 2, n - 1})
    most, farthest = 0, 0.0
    for kind, teach in ((told, Digesting(mechanism.answer.diameter)), (few, fit)):
        whole = asked(kind, teach, everything)
        for one in removed:
            found = asked(kind, teach, _Remaining(facts, seed, n_shards, without=one))
            most = max(most, sum(not torch.equal(*pair) for pair in zip(whole, found, strict=True)))
            gaps = (found - whole).reshape(len(whole), N_QUERIES, -1).norm(dim=2)
            farthest = max(farthest, float(gaps.max()) / mechanism.answer.diameter)
    return Disjoint(most, farthest, len(removed))


class _Remaining:
    """Stand-in records, some of them twice, without one of them. The first silo is the largest.
    """

    def __init__(
        self, facts: PublicFacts, seed: int, n_silos: int, without: int | None = None
    ) -> None:
        base, others = neighbours(facts, seed)
        pixels = torch.cat([base.pixels, *(x.pixels[-1:] for x in others.values())])
        kept = [k for k in range(len(pixels)) if k != without]
        self._pixels, self._labels = pixels[kept], torch.tensor(kept) % facts.n_classes
        self.n_slots = len(kept)
        self._silos = np.array(kept) % (n_silos + 1) % n_silos

    def silo_of(self, slots: np.ndarray) -> np.ndarray:
        return np.asarray(self._silos[slots])

    def read(self, slots: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
        valid = torch.ones(len(slots), dtype=torch.bool)
        return to_float(self._pixels[slots]), self._labels[slots], valid


@dataclass(frozen=True)
class Digesting:
    """Trains teachers that answer a digest of everything that they were given.

    Args:
        size: the largest number of an answer.
    """

    size: float

    def __call__(self, pixels: Tensor, labels: Tensor, valid: Tensor, seed: int) -> Teacher:
        given = hashlib.sha256(str((seed, tuple(pixels.shape))).encode())
        for part in (pixels, labels, valid, torch.rand(2)):
            given.update(part.numpy().tobytes())

        def teacher(queries: Tensor) -> Tensor:
            digits = np.frombuffer(given.digest()[:N_DIGITS], dtype=np.uint8)
            return (torch.from_numpy(digits.copy()) - 127.5).repeat(len(queries), 1) * self.size

        return teacher
