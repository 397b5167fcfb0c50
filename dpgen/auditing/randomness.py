"""Tests, from a mechanism's own answers, whether its noise and coins are as its price assumes.

The noise is taken from releases without a record, whose answer is noise alone, and the coins from
the records that steps ask for. Each statistic is a z-score, or is converted to one. At a threshold
of 6 a correct mechanism is accused about once in 10^5 audits: sums of squares of rare coins have
heavier tails than a normal variable.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from scipy.stats import kstest, norm
from torch import Tensor

from dpgen.auditing.overheard import (
    OneQuestion,
    Slots,
    answers,
    bound,
    fresh_source,
    overhear_coins,
)
from dpgen.privacy.mechanisms.declared import NoisySGD, NoisySum, OfRecords
from dpgen.privacy.mechanisms.ensemble import NoisyEnsemble

LIMIT = 6.0
SHAPES = {"first": (100_000, 1), "second": (400, 250)}
N_NOISE_RELEASES = 6  # 1.2 million draws: a standard deviation that is 0.4 % wrong is detected
N_SLOTS, N_COIN_STEPS, N_LAGS = 300, 400, 5
N_WHOLE_STEPS = 10  # steps that are run to their end


@dataclass(frozen=True)
class Randomness:
    """The z-scores by test; ``distinct`` is the share of distinct noise values."""

    scores: Mapping[str, float]
    distinct: float

    @property
    def worst(self) -> str:
        return max(self.scores, key=lambda name: abs(self.scores[name]))

    @property
    def passed(self) -> bool:
        return abs(self.scores[self.worst]) <= LIMIT and self.distinct >= 0.98


def randomness(mechanism: OfRecords) -> Randomness:
    """Tests the noise, and for a NoisySGD the coins, of enough releases for every statistic."""
    noise = list(_noise(mechanism))
    flat = torch.cat([part.reshape(-1) for step in noise for part in step.values()]).numpy()
    # Answers are float32: of a million normals about one in a hundred equals another.
    distinct = len(np.unique(flat)) / len(flat)
    scores = _noise_scores(noise, flat)
    if isinstance(mechanism, NoisySGD):
        coins, read = _coins(mechanism)
        scores |= _coin_scores(coins, mechanism)
        scores["records that are read"] = 0.0 if read else math.inf
    return Randomness({name: float(score) for name, score in scores.items()}, distinct)


def _noise_scores(noise: list[dict[str, Tensor]], flat: np.ndarray) -> dict[str, float]:
    n = len(flat)
    found = {
        "standard deviation of the noise": (flat.var() - 1) * math.sqrt(n / 2),
        "mean of the noise": flat.mean() * math.sqrt(n),
        "shape of the noise": float(norm.isf(max(float(kstest(flat, "norm").pvalue), 1e-300))),
    }
    lag = [_correlation(a["first"], b["first"]) for a, b in zip(noise, noise[1:], strict=False)]
    found["noise of two releases"] = max(lag, key=abs)
    both = [_correlation(step["first"], step["second"]) for step in noise]
    found["noise of two tensors"] = max(both, key=abs)
    # The second half of a tensor against the first.
    halves = [_correlation(*step["first"].split(SHAPES["first"][0] // 2)) for step in noise]
    found["noise within a tensor"] = max(halves, key=abs)
    return found


def _correlation(one: Tensor, other: Tensor) -> float:
    """Computes the z-score of the correlation of two independent standard normal samples."""
    one, other = one.reshape(-1).double(), other.reshape(-1).double()
    return float((one * other).sum() / math.sqrt(len(one)))


def _coin_scores(coins: np.ndarray, mechanism: NoisySGD) -> dict[str, float]:
    """Scores (steps, slots) of zeros and ones that should be independent with probability
    `rate`.
    """
    q = mechanism.rate
    if q == 1:
        return {"coins": 0.0 if coins.all() else math.inf}
    n_steps, n_slots = coins.shape
    variance, deviations = q * (1 - q), coins - q
    found = {
        "rate of the coins": deviations.sum() / math.sqrt(coins.size * variance),
        "variance of batch sizes": _dispersion(deviations.sum(1), n_slots, q),
        "variance of a record's coins": _dispersion(deviations.sum(0), n_steps, q),
    }
    for lag in range(1, N_LAGS + 1):
        products = deviations[lag:] * deviations[:-lag]
        found[f"coins {lag} steps apart"] = products.sum() / (
            variance * math.sqrt(products.size)
        )
    return found


def _dispersion(sums: np.ndarray, n: int, q: float) -> float:
    """Computes the z-score of the mean square of sums of ``n`` centred coins, which have the fourth
    moment of a binomial.
    """
    variance = n * q * (1 - q)
    fourth = variance * (1 + 3 * (n - 2) * q * (1 - q))
    spread = math.sqrt((fourth - variance**2) / len(sums))
    return float(((sums**2).mean() - variance) / spread)


def _noise(mechanism: OfRecords) -> Iterator[dict[str, Tensor]]:
    """Yields noise in units of the standard deviation that its price assumes: of several steps of
    one run, or of one release of several runs.
    """
    std = mechanism.noise_multiplier * bound(mechanism)
    if isinstance(mechanism, NoisySum):
        for _ in range(N_NOISE_RELEASES):
            for answer in answers(mechanism, fresh_source(), SHAPES):
                yield {name: part / std for name, part in answer.items()}
        return
    divisor = 1.0 if isinstance(mechanism, NoisyEnsemble) else mechanism.expected_batch
    scale = divisor / std
    for answer in answers(mechanism, fresh_source(), SHAPES, range(N_NOISE_RELEASES)):
        yield {name: scale * part for name, part in answer.items()}


def _coins(mechanism: NoisySGD) -> tuple[np.ndarray, bool]:
    """Returns which records steps ask for, (steps, slots) of ones and zeros; and whether the steps
    that are run to their end read exactly these, each once, micro-batch by micro-batch.
    """
    n_steps = 10 if mechanism.rate == 1 else N_COIN_STEPS
    source = OneQuestion(fresh_source())  # the size of a micro-batch is part of the question
    coins = overhear_coins(mechanism, source, N_SLOTS, range(n_steps))
    records, shapes = Slots(N_SLOTS), {"one": (1,)}
    whole = answers(mechanism, source, shapes, range(N_WHOLE_STEPS), records=records)
    right = True
    for row, _ in zip(coins, whole, strict=False):
        right &= records.asked == np.flatnonzero(row).tolist()
        records.asked.clear()
    return coins.astype(np.float64), right
