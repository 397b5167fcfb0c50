"""Mechanisms as they are declared and charged: their public numbers, their sensitivity and their
price. What runs them is `dpgen.privacy.mechanisms`; a plan is made and checked without it, and so
without torch.

    ``NoisySGD``  Poisson sample, per-record clipped gradients, Gaussian noise: DP-SGD (Abadi et al.
                  2016, Algorithm 1, with the sampling its analysis assumes).
    ``NoisySum``  one Gaussian release of a sum of clipped per-record statistics (Balle and Wang
                  2018).

A third one, `dpgen.privacy.mechanisms.ensemble.NoisyEnsemble`, answers queries by teachers of
disjoint shards; `dpgen.privacy.mechanisms.ensemble.FixedEnsemble` by teachers that others have
trained.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from dp_accounting.dp_event import DpEvent

from dpgen.privacy.accounting.events import GaussianLeaf
from dpgen.privacy.mechanisms.contributions import Nobody, Records, Statistic, Witness
from dpgen.privacy.mechanisms.ensemble import FixedEnsemble, NoisyEnsemble

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from dpgen.privacy.mechanisms.noise import NoiseSource
    from dpgen.privacy.mechanisms.noisy_step import NoisyStep
    from dpgen.privacy.mechanisms.shares import Shares

NOBODY = Nobody()


def _positive(**values: float) -> None:
    for name, value in values.items():
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"{name} must be a number greater than 0, got {value}")


@dataclass(frozen=True)
class NoisySGD:
    """``n_steps`` noisy gradients, each the noised sum of clipped per-record gradients of a Poisson
    sample.

    Sensitivity: adding or removing one record moves a step's sum by at most ``clip_norm``, whatever
    the records; replacing one by at most twice that, which the accountant knows. An empty sample is
    a step like any other: it releases noise. A non-finite gradient contributes zero. The
    privacy loss is dominated by the ``n_steps``-fold Poisson-subsampled Gaussian of this rate and
    multiplier (theorem B1; theorem F3 for adaptive composition).

    Args:
        rate: probability with which each record enters a step, in (0, 1], the same constant for
            every data set.
        n_steps: number of releases.
        noise_multiplier: standard deviation of the noise on the sum, in units of ``clip_norm``.
        n_records: the public, declared size of the data set; with ``rate`` it sets the constant
            denominator.
        clip_norm: the largest l2 norm one record contributes.
    """

    rate: float
    n_steps: int
    noise_multiplier: float
    n_records: int
    clip_norm: float = 1.0

    def __post_init__(self) -> None:
        _positive(n_records=self.n_records, clip_norm=self.clip_norm)
        self._leaf  # noqa: B018  an event that cannot be priced must not exist

    @property
    def _leaf(self) -> GaussianLeaf:
        return GaussianLeaf(self.rate, self.noise_multiplier, self.n_steps)

    @property
    def event(self) -> DpEvent:
        return self._leaf.event

    @property
    def n_releases(self) -> int:
        return self.n_steps

    @property
    def noise_std(self) -> float:
        """Returns the standard deviation of the noise on the sum, per coordinate."""
        return self.noise_multiplier * self.clip_norm

    @property
    def expected_batch(self) -> float:
        """Returns the denominator of every step: a constant, never the size of a batch."""
        return self.rate * self.n_records

    @property
    def settings(self) -> dict[str, Any]:
        return {"mechanism": "NoisySGD", **asdict(self)}

    def steps(
        self,
        records: Records,
        noise: NoiseSource,
        *,
        start: int,
        micro_batch: int,
        device: torch.device,
        witness: Witness = NOBODY,
        shares: Shares | None = None,
    ) -> Iterator[NoisyStep]:
        """Yields the releases from number ``start`` on, each of which gives its gradient once.

        Args:
            shares: the processes that share a step's micro-batches; None for this one alone.

        Raises:
            ValueError: start does not lie in [0, n_steps].
        """
        from dpgen.privacy.mechanisms.noisy_step import NoisyStep
        from dpgen.privacy.mechanisms.prepared import PreparedRecords

        if not 0 <= start <= self.n_steps:
            raise ValueError(f"start must lie in [0, n_steps = {self.n_steps}], got {start}")
        # What an objective makes of the records once is kept while the stage runs, and no longer.
        prepared = PreparedRecords(records, keep=self.rate == 1)
        for index in range(start, self.n_steps):
            step = NoisyStep(self, index, prepared, noise, micro_batch, device, witness, shares)
            yield step
            step.close()


@dataclass(frozen=True)
class NoisySum:
    """One Gaussian release of the sum over all records of a clipped statistic.

    Sensitivity: a record's blocks, taken together as one vector, are clipped to ``bound``, so
    adding or removing it moves the release by at most ``bound`` and replacing it by at most twice
    that, which the accountant knows (theorem B2). A non-finite statistic contributes zero. Every
    real coordinate of every table gets noise, also rows that no record contributes to.

    Args:
        statistic: what a record contributes.
        noise_multiplier: standard deviation of the noise, in units of ``statistic.bound``.
    """

    statistic: Statistic
    noise_multiplier: float

    def __post_init__(self) -> None:
        _positive(bound=self.statistic.bound)
        self._leaf  # noqa: B018  an event that cannot be priced must not exist

    @property
    def _leaf(self) -> GaussianLeaf:
        return GaussianLeaf(1.0, self.noise_multiplier, 1)

    @property
    def event(self) -> DpEvent:
        return self._leaf.event

    @property
    def n_releases(self) -> int:
        return 1

    @property
    def noise_std(self) -> float:
        """Returns the standard deviation of the noise on every coordinate of the sums."""
        return self.noise_multiplier * self.statistic.bound

    @property
    def settings(self) -> dict[str, Any]:
        return {
            "mechanism": "NoisySum",
            "noise_multiplier": self.noise_multiplier,
            "bound": self.statistic.bound,
            "statistic": self.statistic.settings,
        }

    def release(
        self,
        records: Records,
        noise: NoiseSource,
        *,
        micro_batch: int = 64,
        witness: Witness = NOBODY,
    ) -> dict[str, Tensor]:
        """Returns the noisy tables by name, (n_rows, D) float64 each."""
        from dpgen.privacy.mechanisms.noisy_sum import released_sum

        return released_sum(self, records, noise, micro_batch, witness)


OfRecords = NoisySGD | NoisySum | NoisyEnsemble
Mechanism = OfRecords | FixedEnsemble
