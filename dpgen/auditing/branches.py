"""Measures what one record contributes, in every branch that its draws, its class, its pixels and
its position can select.

A record's gradient is clipped once. A bug that scales it afterwards, for dropped labels, at one
noise level, for one class or at one position, breaks the bound only for the records that it
affects. So here every record has a huge gradient in a direction of its own, and its share of the
sum is measured: in every branch it must be the clip norm, less the margin for rounding. Draws are
made to differ: a truth value is true for half of the records, numbers are scaled by up to a factor
of 150 up or down, and for a quarter of the records all of several draws are the same.

Not detected: a branch that fewer than about one in a thousand of these records take, and one for
positions beyond the first `N_RECORDS`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dpgen.auditing.overheard import bound
from dpgen.privacy.mechanisms.clipping import MARGIN
from dpgen.privacy.mechanisms.contributions import Block, Objective, Records
from dpgen.privacy.mechanisms.declared import NoisySGD, NoisySum
from dpgen.privacy.mechanisms.draws import Draws
from dpgen.privacy.mechanisms.noise import KeyedNoise

N_RECORDS, N_STEPS = 128, 64
MOST_DRAWS = 2**26  # random numbers for all records and steps; large images get fewer steps
N_CODED = 256  # pixels that identify a record
MICRO_BATCHES = (32, 128, 7, 128, 128, 128, 5, 128)  # sizes step by step, repeated
EXCESS = 2.0**14  # norm of a record's gradient over the bound
STRETCH = 5.0  # log of the largest factor by which draws are scaled
ROUNDING = 1e-9
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Shares:
    """The largest contributions of records to releases, in units of the bound, by circumstance.

    A correct clip lets through ``1 / MARGIN`` and nothing more; this is deterministic.
    """

    largest: Mapping[str, float]
    n_records: int

    @property
    def worst(self) -> str:
        return max(self.largest, key=lambda name: self.largest[name])

    @property
    def passed(self) -> bool:
        return self.largest[self.worst] <= (1 + ROUNDING) / MARGIN


class Summed(KeyedNoise):
    """A noise source that records the sums and adds no noise; the batches are given to it."""

    def __init__(self, batch: Iterable[int]) -> None:
        super().__init__(bytes(32), "branches")
        self._batch = np.array(sorted(batch), dtype=np.int64)
        self.sums: dict[str, Tensor] = {}

    def add(self, total: Tensor, std: float, *, release: int, name: str) -> Tensor:
        self.sums[name] = total.detach().double().cpu().clone()
        return total

    def coins(self, n: int, rate: float, *, release: int) -> np.ndarray:
        return self._batch


class Coded:
    """Records whose pixels, all of one absolute value and of either sign, identify them.

    Some are entirely dark, some entirely bright, some faint; every class occurs many times.
    """

    def __init__(self, shape: tuple[int, int, int], n_classes: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        n_pixels = math.prod(shape)
        self.n_slots = min(N_RECORDS, 2 ** (min(n_pixels, 40) // 2))
        bright = rng.permutation(np.linspace(0.05, 0.95, self.n_slots))
        found: dict[bytes, np.ndarray] = {}
        while len(found) < self.n_slots:
            signs = np.where(rng.random(n_pixels) < bright[len(found)], 1.0, -1.0)
            found[signs[:N_CODED].tobytes()] = signs
        images = torch.from_numpy(np.stack(list(found.values()))).float()
        faint = torch.from_numpy(rng.choice([1.0, 1.0, 0.5, 0.25], self.n_slots)).float()
        self.codes = images[:, :N_CODED]
        self._pixels = (faint[:, None] * images).reshape(-1, *shape)
        self._labels = torch.from_numpy(rng.permutation(self.n_slots) % n_classes)

    def read(self, slots: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
        return self._pixels[slots], self._labels[slots], torch.ones(len(slots), dtype=torch.bool)


@dataclass(frozen=True)
class Telling:
    """A statistic that encodes the record's number, in the row of its class."""

    bound: float
    codes: Tensor
    n_classes: int

    @property
    def tables(self) -> dict[str, tuple[int, int]]:
        return dict.fromkeys(("one", "two"), (self.n_classes, len(self.codes)))

    @property
    def settings(self) -> dict[str, Any]:
        return {"statistic": "telling", "bound": self.bound}

    def __call__(self, pixels: Tensor, labels: Tensor) -> dict[str, Block]:
        values = EXCESS * self.bound * told(self.codes, pixels)
        return {name: Block(values, labels) for name in self.tables}


@dataclass(frozen=True)
class Pulling:
    """A loss whose gradient is ``size`` along the record's own direction; its draws are made to
    differ between records.

    draws_of: the objective whose draws are used; without it there are none.
    """

    size: float
    codes: Tensor
    draws_of: Objective | None

    def draw(self, draws: Draws) -> Mapping[str, Tensor]:
        drawn = {} if self.draws_of is None else self.draws_of.draw(draws)
        return {name: _stretched(x, draws) for name, x in drawn.items()}

    def loss(
        self, parameters: dict[str, Tensor], pixels: Tensor, label: Tensor, draws: object
    ) -> Tensor:
        pulled = parameters["one"] + parameters["two"]
        return self.size * (told(self.codes, pixels) * pulled).sum()


def told(codes: Tensor, pixels: Tensor) -> Tensor:
    """Identifies the record that pixels (..., C, H, W) belong to: 1 for it and 0 for the others,
    (..., n_records).
    """
    flat = pixels.flatten(-3)[..., : codes.shape[1]]
    return (flat @ codes.T == flat.abs().sum(-1, keepdim=True)).to(pixels.dtype)


def branches(
    mechanism: NoisySGD | NoisySum, shape: tuple[int, int, int], n_classes: int,
    objective: Objective | None = None, *, seed: int = 0,
) -> Shares:  # fmt: skip
    """Measures every record's share of the sums of the mechanism's releases.

    Args:
        shape: (C, H, W) of the images.
        objective: the objective whose draws a record has at a step; for a NoisySGD.
        seed: seed of the made-up records.
    """
    records = Coded(shape, n_classes, seed)
    if isinstance(mechanism, NoisySGD):
        found = dict(_of_steps(mechanism, records, objective))
    else:
        statistic = Telling(bound(mechanism), records.codes, n_classes)
        told = replace(mechanism, statistic=statistic)
        found = {
            f"in micro-batches of {size}": _released(told, records, size)
            for size in sorted(set(MICRO_BATCHES))
        }
    most = {name: float(shares.max()) for name, shares in found.items()}
    return Shares(most, records.n_slots * len(found))


def _of_steps(
    mechanism: NoisySGD, records: Coded, objective: Objective | None
) -> Iterator[tuple[str, np.ndarray]]:
    parameters = {name: torch.zeros(records.n_slots) for name in ("one", "two")}
    pulling = Pulling(EXCESS * mechanism.clip_norm, records.codes, objective)
    one = pulling.draw(Summed(()).draws(np.zeros(1, dtype=np.int64), release=0))
    n_drawn = max(1, sum(x.numel() for x in one.values()))
    n_steps = min(max(MOST_DRAWS // (n_drawn * records.n_slots), 8), N_STEPS)
    last = mechanism.n_steps - 1
    for k, index in enumerate(np.unique(np.linspace(0, last, n_steps).round().astype(int))):
        noise, micro_batch = Summed(range(records.n_slots)), MICRO_BATCHES[k % len(MICRO_BATCHES)]
        step = next(
            mechanism.steps(
                records, noise, start=int(index), micro_batch=micro_batch, device=CPU
            )  # fmt: skip
        )
        step.gradient(pulling, parameters)
        yield f"step {index}", _lengths(noise) / mechanism.clip_norm


def _released(told: NoisySum, records: Records, micro_batch: int) -> np.ndarray:
    noise = Summed(())
    told.release(records, noise, micro_batch=micro_batch)
    return _lengths(noise) / told.statistic.bound


def _lengths(noise: Summed) -> np.ndarray:
    """Returns the norm of each record's own coordinates over all tables and rows, (n_records,)."""
    squares = [part.square().reshape(-1, part.shape[-1]).sum(0) for part in noise.sums.values()]
    return torch.stack(squares).sum(0).sqrt().nan_to_num(math.inf).numpy()


def _stretched(drawn: Tensor, draws: Draws) -> Tensor:
    """Changes draws (B, ...) so that every record takes another branch."""
    alike, longer, by = (draws.uniform().reshape(-1, *[1] * (drawn.ndim - 1)) for _ in range(3))
    if drawn.dtype == torch.bool:
        drawn = draws.uniform(*drawn.shape[1:]) < 0.5
    if drawn.ndim > 1:
        drawn = torch.where(alike < 0.25, drawn[:, :1], drawn)
    if not drawn.is_floating_point():
        return drawn
    return drawn * torch.where(longer < 0.5, (STRETCH * (2 * by - 1)).exp(), 1.0).to(drawn.dtype)
