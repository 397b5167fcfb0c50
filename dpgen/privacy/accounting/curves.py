"""Curves delta(epsilon) of a run: in closed form, or from a composed loss distribution."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from dp_accounting.pld.pld_pmf import PLDPmf
from dp_accounting.pld.privacy_loss_distribution import PrivacyLossDistribution
from scipy.signal import lfilter

from dpgen.privacy.accounting.gaussian import gaussian_delta, gaussian_epsilon, log_divergence

Array = np.ndarray[Any, np.dtype[np.float64]]
Epsilons = Any  # a number, or (N,)


class Curve(Protocol):
    """An upper bound on delta(epsilon), and its inverse."""

    def get_delta_for_epsilon(self, epsilon: Epsilons) -> Any:  # noqa: ANN401
        """Returns delta at every epsilon of at least 0, in the shape of ``epsilon``."""

    def get_epsilon_for_delta(self, delta: float) -> float:
        """Returns the smallest epsilon >= 0 that holds at ``delta``; infinity where none does."""


@dataclass(frozen=True)
class GaussianCurve:
    """The privacy curve of sums over all records, which holds at every delta; ``mu`` is the root of
    the sum of their squared (sensitivity / noise).
    """

    mu: float

    def get_delta_for_epsilon(self, epsilon: Epsilons) -> Any:  # noqa: ANN401
        if np.ndim(epsilon) == 0:
            return gaussian_delta(float(epsilon), self.mu)
        if self.mu <= 0:
            return np.zeros(np.shape(epsilon))
        return np.exp(log_divergence(epsilon, self.mu))

    def get_epsilon_for_delta(self, delta: float) -> float:
        return gaussian_epsilon(self.mu, delta)


class LossCurve:
    """The privacy curve of a loss distribution; the larger value where the two directions differ.

    Every number is a sum of nonnegative terms, so that its rounding error is a few units in the
    last place for each term: the sums are raised by as much.
    """

    def __init__(self, losses: PrivacyLossDistribution) -> None:
        pmfs = [losses._pmf_remove] + ([] if losses._symmetric else [losses._pmf_add])
        self._sides = [_Side(pmf) for pmf in pmfs]

    def get_delta_for_epsilon(self, epsilon: Epsilons) -> Any:  # noqa: ANN401
        found = np.max([side.deltas(np.atleast_1d(epsilon)) for side in self._sides], axis=0)
        return float(found[0]) if np.ndim(epsilon) == 0 else found

    def get_epsilon_for_delta(self, delta: float) -> float:
        return max(side.epsilon(delta) for side in self._sides)


class _Side:
    """One direction: losses l_i = (first + i) d with masses p_i, and an infinite one.

    The mass above l_i is S_i = p_(i+1) + S_(i+1), and delta at l_i is D_i = exp(-d) D_(i+1) +
    (1 - exp(-d)) S_i; between two losses delta is linear in exp(epsilon).
    """

    def __init__(self, pmf: PLDPmf) -> None:
        dense = pmf.to_dense_pmf()
        self._d, self._first = dense._discretization, dense._lower_loss
        self._infinite = float(dense._infinity_mass)
        # An FFT leaves rounding errors of either sign where the mass is zero.
        masses = np.maximum(np.asarray(dense._probs, np.float64), 0.0)
        masses *= 1 + 4 * np.finfo(np.float64).eps * len(masses)
        self._total = float(masses.sum())
        above = np.append(np.cumsum(masses[:0:-1])[::-1], 0.0)
        decay = math.exp(-self._d)
        self._deltas = lfilter([-math.expm1(-self._d)], [1.0, -decay], above[::-1])[::-1]

    def deltas(self, epsilons: Array) -> Array:
        epsilons = np.asarray(epsilons, np.float64)
        last = len(self._deltas) - 1
        # The loss at or above each epsilon, and how far below it that lies.
        place = np.clip(np.ceil(epsilons / self._d) - self._first, 0, last).astype(np.int64)
        short = np.minimum(epsilons - (self._first + place) * self._d, 0.0)
        upper = self._deltas[place]
        lower = self._deltas[np.maximum(place - 1, 0)]
        share = np.minimum(np.expm1(short) / math.expm1(-self._d), 1.0)
        found = upper + share * (lower - upper)
        before = self._total - np.exp(short) * (self._total - self._deltas[0])
        return np.minimum(self._infinite + np.where(place > 0, found, before), 1.0)

    def epsilon(self, delta: float) -> float:
        """Returns the epsilon that ``delta`` allows, a few units in the last place too large."""
        room = delta - self._infinite
        if room < 0:
            return math.inf
        place = len(self._deltas) - int(np.searchsorted(self._deltas[::-1], room, side="right"))
        loss = (self._first + place) * self._d
        if place == 0:
            if room >= self._total:
                return 0.0
            held = self._total - self._deltas[0]
            loss += math.log((self._total - room) / held)
        else:
            lower, upper = self._deltas[place - 1], self._deltas[place]
            loss += math.log1p((room - upper) / (lower - upper) * math.expm1(-self._d))
        return max(0.0, loss + 1e-14 * abs(loss))
