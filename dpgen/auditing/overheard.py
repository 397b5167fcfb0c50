"""Records the noise of a mechanism to the last bit, as its source draws it for sums of no record.
"""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from dpgen.privacy.mechanisms.contributions import Block, Records
from dpgen.privacy.mechanisms.declared import NoisySGD, NoisySum, OfRecords
from dpgen.privacy.mechanisms.draws import Draws
from dpgen.privacy.mechanisms.ensemble import Ball, NoisyEnsemble
from dpgen.privacy.mechanisms.noise import KeyedNoise, NoiseSource, new_key
from dpgen.privacy.mechanisms.noisy_step import NoisyStep
from dpgen.privacy.mechanisms.teachers import Teacher

CPU = torch.device("cpu")
Shapes = Mapping[str, tuple[int, ...]]


class OneQuestion:
    """A NoiseSource that treats all questions as one, so that releases of two questions can be
    compared.
    """

    def __init__(self, source: NoiseSource) -> None:
        self._source = source

    def for_question(self, question: str) -> Self:
        return self

    def add(self, total: Tensor, std: float, *, release: int, name: str) -> Tensor:
        return self._source.add(total, std, release=release, name=name)

    def coins(self, n: int, rate: float, *, release: int) -> np.ndarray:
        return self._source.coins(n, rate, release=release)

    def draws(self, slots: np.ndarray, **where: Any) -> Draws:  # noqa: ANN401
        return self._source.draws(slots, **where)

    def tag(self, content: bytes) -> bytes:
        return self._source.tag(content)


class Overheard(OneQuestion):
    """A NoiseSource that passes on the answers of ``source`` and keeps its noise, float64, in units
    of the standard deviation ``std`` that a price assumes.
    """

    def __init__(self, source: NoiseSource, std: float) -> None:
        super().__init__(source)
        self._std = std
        self.heard: list[tuple[str, np.ndarray]] = []

    def for_question(self, question: str) -> Self:
        bound = copy.copy(self)
        bound._source = self._source.for_question(question)
        return bound

    def add(self, total: Tensor, std: float, *, release: int, name: str) -> Tensor:
        answer = self._source.add(total, std, release=release, name=name)
        self.heard.append((name, ((answer - total) / self._std).cpu().numpy().reshape(-1)))
        return answer


def overhear(
    mechanism: OfRecords, source: NoiseSource, shapes: Shapes,
    releases: Iterable[int] = (0,),
) -> dict[str, np.ndarray]:
    """Returns the noise of some releases, (n_releases, n_words) by tensor, in units of the standard
    deviation that the price assumes.

    Args:
        shapes: shapes of the requested tensors; two dimensions for a NoisySum; of one size for a
            NoisyEnsemble, which answers a query for each.
        releases: steps of a NoisySGD; a NoisySum has one release; 0 to n - 1 for a NoisyEnsemble.
    """
    ear = Overheard(source, mechanism.noise_multiplier * bound(mechanism))
    for _ in answers(mechanism, ear, shapes, releases):
        pass
    if isinstance(mechanism, NoisyEnsemble):
        heard = [words for _, words in ear.heard]
        return {name: np.stack(heard[k :: len(shapes)]) for k, name in enumerate(shapes)}
    return {name: np.stack([w for n, w in ear.heard if n == name]) for name in shapes}


def bound(mechanism: OfRecords) -> float:
    """Returns how far one record, added or removed, may move a release."""
    if isinstance(mechanism, NoisySGD):
        return mechanism.clip_norm
    if isinstance(mechanism, NoisyEnsemble):
        return mechanism.answer.diameter
    return mechanism.statistic.bound


def answers(
    mechanism: OfRecords, source: NoiseSource, shapes: Shapes,
    releases: Iterable[int] = (0,), *, records: Records | None = None, micro_batch: int = 64,
) -> Iterator[dict[str, Tensor]]:  # fmt: skip
    """Yields the answers of releases for tensors of these shapes, with records that contribute
    nothing.

    Args:
        records: the records that a NoisySGD reads; None for none.
    """
    records = Slots(0) if records is None else records
    if isinstance(mechanism, NoisySum):
        tables = tuple((name, (shape[0], shape[1])) for name, shape in shapes.items())
        empty = replace(mechanism, statistic=Nothing(bound(mechanism), tables))
        yield empty.release(records, source)
        return
    if isinstance(mechanism, NoisyEnsemble):
        yield from _asked(mechanism, source, shapes, len(list(releases)))
        return
    held = {name: torch.zeros(shape) for name, shape in shapes.items()}
    for step in _steps(mechanism, source, releases, records, micro_batch):
        yield step.gradient(Flat(), held)


def _asked(
    mechanism: NoisyEnsemble, source: NoiseSource, shapes: Shapes, n_releases: int
) -> Iterator[dict[str, Tensor]]:
    """Yields the answers to one query for each shape, of an ensemble without records."""
    sizes = {math.prod(shape) for shape in shapes.values()}
    if len(sizes) != 1:
        raise ValueError(f"an ensemble has answers of one size, asked for {sorted(sizes)}")
    wide = replace(
        mechanism, answer=Ball((*sizes,), bound(mechanism) / 2), n_queries=n_releases * len(shapes)
    )
    ensemble = wide.ensemble(Slots(0), source, Silent(), seed=0)
    for _ in range(n_releases):
        found = ensemble.ask(torch.zeros(len(shapes), 1, 1, 1))
        yield {name: part.reshape(shapes[name]) for name, part in zip(shapes, found, strict=True)}


def _steps(
    mechanism: NoisySGD, source: NoiseSource, releases: Iterable[int], records: Records,
    micro_batch: int,
) -> Iterator[NoisyStep]:  # fmt: skip
    """Yields the chosen steps of one stage, which asks one question; after a gap it starts anew."""
    chosen = list(releases)
    longer, following = replace(mechanism, n_steps=max(chosen) + 1), -1
    for release in chosen:
        if release != following:
            steps = longer.steps(
                records, source, start=release, micro_batch=micro_batch, device=CPU
            )
        yield next(steps)
        following = release + 1


def overhear_coins(
    mechanism: NoisySGD, source: NoiseSource, n_slots: int, releases: Iterable[int]
) -> np.ndarray:
    """Returns which of the records the steps ask for, (n_releases, n_slots) bool.

    A step is aborted when it has asked, which it does for all of them at once.
    """
    rows, records = [], _Locked(n_slots)
    for step in _steps(mechanism, source, releases, records, n_slots):
        with contextlib.suppress(_Asked):
            step.gradient(Flat(), {"one": torch.zeros(1)})
        rows.append(np.zeros(n_slots, dtype=bool))
        rows[-1][records.asked] = True
        records.asked.clear()
    return np.stack(rows)


@dataclass(frozen=True)
class Flat:
    """A loss with gradient zero."""

    def draw(self, draws: Draws) -> dict[str, Tensor]:
        return {}

    def loss(
        self, parameters: dict[str, Tensor], pixels: Tensor, label: Tensor, draws: object
    ) -> Tensor:
        return torch.stack([p.sum() for p in parameters.values()]).sum() * 0


class Slots:
    """Records that contribute nothing, and that remember which of them were read."""

    def __init__(self, n_slots: int) -> None:
        self.n_slots = n_slots
        self.asked: list[int] = []

    def read(self, slots: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
        self.asked += slots.tolist()
        n = len(slots)
        return torch.zeros(n, 1, 1, 1), torch.zeros(n, dtype=torch.int64), torch.ones(n).bool()


class _Asked(Exception):
    """A step has asked for its records; it is aborted there."""


class _Locked(Slots):
    def read(self, slots: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
        super().read(slots)
        raise _Asked


@dataclass(frozen=True)
class Nothing:
    """A statistic without a contribution, in place of the mechanism's own."""

    bound: float
    shapes: tuple[tuple[str, tuple[int, int]], ...]
    settings: ClassVar[dict[str, Any]] = {"statistic": "nothing"}

    @property
    def tables(self) -> dict[str, tuple[int, int]]:
        return dict(self.shapes)

    def __call__(self, pixels: Tensor, labels: Tensor) -> dict[str, Block]:
        raise RuntimeError("there is no record to ask about")


@dataclass(frozen=True)
class Silent:
    """A function that trains no teacher: there is no record."""

    def __call__(self, pixels: Tensor, labels: Tensor, valid: Tensor, seed: int) -> Teacher:
        raise RuntimeError("there is no record to train on")


def fresh_source() -> NoiseSource:
    """Makes a production source under a new key."""
    return KeyedNoise(new_key(), "audit")
