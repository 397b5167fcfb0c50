"""An ensemble of teachers on disjoint shards as it is declared and charged: noised sums of answers.

The records are divided into K shards by a keyed hash of each record alone, or by the silo that each
record names. A teacher per shard is trained without any protection; a query gets the noised sum of
the K teachers' answers. What runs it is `dpgen.privacy.mechanisms.noisy_ensemble`.

    ``Votes``  an answer is a one-hot vector, or zero           diameter sqrt 2
    ``Ball``   an answer is a deviation of at most R, or zero    diameter 2 R

`FixedEnsemble` is of teachers that others have trained, each in a slot of its own.

Reference: Papernot et al. (2017), arXiv 1610.05755, whose noise on the counts of votes this is; the
price does not depend on the votes. Theorems A2-V, for silos A2-S, and A2-T.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from dp_accounting.dp_event import DpEvent

from dpgen.privacy.accounting.events import GaussianLeaf
from dpgen.privacy.mechanisms.contributions import Nobody, Records, Witness
from dpgen.privacy.mechanisms.silos import Silos

if TYPE_CHECKING:
    from dpgen.privacy.mechanisms.noise import NoiseSource
    from dpgen.privacy.mechanisms.noisy_ensemble import Ensemble, Kept, Slots
    from dpgen.privacy.mechanisms.teachers import Fit, Teacher

NOBODY = Nobody()
SMALLEST = 1e-100  # radius of a ball
CAPACITY_DEVIATIONS = 6.0  # of the number of records in a shard, about its mean


def _whole(least: int, **values: object) -> None:
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}")


@dataclass(frozen=True)
class Votes:
    """Answers that name one of ``n_classes`` classes: one-hot vectors, or zero for no answer.

    Args:
        n_classes: number of classes, at least 2.
    """

    n_classes: int

    def __post_init__(self) -> None:
        _whole(2, n_classes=self.n_classes)

    @property
    def shape(self) -> tuple[int, ...]:
        """Returns the shape of one answer."""
        return (self.n_classes,)

    @property
    def diameter(self) -> float:
        """Returns the largest l2 distance of two answers."""
        return math.sqrt(2.0)

    @property
    def settings(self) -> dict[str, Any]:
        return {"answer": "Votes", **asdict(self)}


@dataclass(frozen=True)
class Ball:
    """Answers that are vectors of norm at most ``radius``: deviations from a public centre.

    Args:
        shape: shape of one answer.
        radius: the largest l2 norm of a deviation, over all its numbers, from 1e-100 to 1e100; a
            longer one is scaled down to it.
    """

    shape: tuple[int, ...]
    radius: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(self.shape))
        for size in self.shape:
            _whole(1, shape=size)
        # Squares of far smaller or greater numbers are zero or infinite, and norms with them.
        if not SMALLEST <= self.radius <= 1 / SMALLEST:
            raise ValueError(
                f"radius must lie between {SMALLEST:g} and {1 / SMALLEST:g}, got {self.radius}"
            )

    @property
    def diameter(self) -> float:
        """Returns the largest l2 distance of two answers."""
        return 2.0 * self.radius

    @property
    def settings(self) -> dict[str, Any]:
        return {"answer": "Ball", "shape": list(self.shape), "radius": self.radius}


class GaussianAnswers:
    """What the noise on the sums of answers costs, whoever the teachers are: one Gaussian release
    for each query, whose noise is in units of the answers' diameter.
    """

    answer: Votes | Ball
    n_queries: int
    noise_multiplier: float

    @property
    def _leaf(self) -> GaussianLeaf:
        return GaussianLeaf(1.0, self.noise_multiplier, self.n_queries)

    @property
    def event(self) -> DpEvent:
        return self._leaf.event

    @property
    def n_releases(self) -> int:
        return self.n_queries

    @property
    def noise_std(self) -> float:
        """Returns the standard deviation of the noise on every coordinate of a sum."""
        return self.noise_multiplier * self.answer.diameter


@dataclass(frozen=True)
class NoisyEnsemble(GaussianAnswers):
    """``n_queries`` noised sums of the answers of ``n_shards`` teachers, each trained on a shard of
    its own.

    Sensitivity: a record lies in one shard, so that adding or removing it changes one answer to
    each query, by at most ``answer.diameter``; replacing it changes two, by twice that in all,
    which the accountant knows, as it knows units of several records. A teacher that fails, or
    answers what is not finite, answers zero; so does an empty shard. The queries may depend on all
    earlier answers. The privacy loss is dominated by the ``n_queries``-fold Gaussian of this
    multiplier (theorems A2-V, A2-S; theorem F3 for adaptive composition). No sampling amplifies it.

    Args:
        answer: the set that every answer lies in.
        n_shards: number of shards, a constant: also the number of terms of every sum.
        n_queries: number of queries that are answered in all; one more is refused.
        noise_multiplier: standard deviation of the noise on a sum, in units of
            ``answer.diameter``.
        n_records: the public, declared size of the data set; it sets the capacity of a shard by
            hash.
        silos: the silos that are the shards, ``n_shards`` of them; None divides by a keyed hash.
    """

    answer: Votes | Ball
    n_shards: int
    n_queries: int
    noise_multiplier: float
    n_records: int
    silos: Silos | None = None

    def __post_init__(self) -> None:
        _whole(1, n_shards=self.n_shards, n_queries=self.n_queries, n_records=self.n_records)
        if self.silos is not None and self.n_shards != len(self.silos.names):
            raise ValueError(
                f"n_shards must be the number of silos, {len(self.silos.names)}, got "
                f"{self.n_shards}"
            )
        self._leaf  # noqa: B018  an event that cannot be priced must not exist

    @property
    def capacity(self) -> int:
        """Returns the most records of a shard that its teacher sees, a constant: the declared one
        of silos, else ceil(n/K + 6 sqrt(n/K)), n the declared number of records. All shards are
        filled up to it.
        """
        if self.silos is not None:
            return self.silos.max_records
        mean = self.n_records / self.n_shards
        return math.ceil(mean + CAPACITY_DEVIATIONS * math.sqrt(mean))

    @property
    def settings(self) -> dict[str, Any]:
        return {
            "mechanism": "NoisyEnsemble",
            "noise_multiplier": self.noise_multiplier,
            "bound": self.answer.diameter,
            "n_shards": self.n_shards,
            "n_queries": self.n_queries,
            "n_records": self.n_records,
            "answer": self.answer.settings,
            **({} if self.silos is None else {"shards": self.silos.settings}),
        }

    def ensemble(
        self,
        records: Records,
        noise: NoiseSource,
        fit: Fit,
        *,
        seed: int,
        witness: Witness = NOBODY,
        kept: Kept | None = None,
        rehearsed: Teacher | None = None,
    ) -> Ensemble:
        """Returns the ensemble, which answers up to ``n_queries`` queries and hands out neither a
        teacher nor a sum without noise.

        Args:
            fit: trains the teacher of one shard.
            seed: public seed of the teachers.
            kept: where answers are saved before they are used; None saves them nowhere.
            rehearsed: a teacher of made-up records, which is asked every query first; None asks
                none.
        """
        from dpgen.privacy.mechanisms.noisy_ensemble import of_shards

        return of_shards(self, records, noise, fit, seed, witness, kept, rehearsed)


@dataclass(frozen=True)
class FixedEnsemble(GaussianAnswers):
    """``n_queries`` noised sums of the answers of ``n_teachers`` teachers that others have trained,
    each in a slot of its own.

    Sensitivity: neighbours differ in the teacher of one slot, which may be any other one, or
    missing. Every other slot holds the same teacher and gives the same answers; the one slot's
    answer moves within the declared set, and a missing teacher answers zero, which lies in it: each
    sum moves by at most ``answer.diameter``. A teacher that fails, or answers what is not finite,
    answers zero. The queries may depend on all earlier answers. The privacy loss is dominated by
    the ``n_queries``-fold Gaussian of this multiplier (theorem A2-T; theorem F3 for adaptive
    composition). No sampling amplifies it.

    Args:
        answer: the set that every answer lies in.
        n_teachers: number of slots, a public constant: also the number of terms of every sum.
        n_queries: number of queries that are answered in all; one more is refused.
        noise_multiplier: standard deviation of the noise on a sum, in units of
            ``answer.diameter``.
    """

    answer: Votes | Ball
    n_teachers: int
    n_queries: int
    noise_multiplier: float

    def __post_init__(self) -> None:
        _whole(1, n_teachers=self.n_teachers, n_queries=self.n_queries)
        self._leaf  # noqa: B018  an event that cannot be priced must not exist

    @property
    def settings(self) -> dict[str, Any]:
        return {
            "mechanism": "FixedEnsemble",
            "noise_multiplier": self.noise_multiplier,
            "bound": self.answer.diameter,
            "n_teachers": self.n_teachers,
            "n_queries": self.n_queries,
            "answer": self.answer.settings,
        }

    def ensemble(
        self,
        slots: Slots,
        noise: NoiseSource,
        *,
        seed: int,
        witness: Witness = NOBODY,
        kept: Kept | None = None,
        rehearsed: Teacher | None = None,
    ) -> Ensemble:
        """Returns the ensemble, as `NoisyEnsemble.ensemble` does.

        Args:
            slots: the private teachers; read when the first query comes that has no saved answer.
            seed: public seed of whatever a teacher draws.
            kept, rehearsed: as for `NoisyEnsemble.ensemble`.
        """
        from dpgen.privacy.mechanisms.noisy_ensemble import of_slots

        return of_slots(self, slots, noise, seed, witness, kept, rehearsed)


AnyEnsemble = NoisyEnsemble | FixedEnsemble
