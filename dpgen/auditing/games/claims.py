"""Defines what an audit tries to refute: a mechanism's event, as a bound on how well two data sets
can be told apart.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from dp_accounting.dp_event import DpEvent
from scipy.special import ndtr, ndtri

from dpgen.auditing.games.bounds import gaussian_epsilon
from dpgen.privacy.accounting.accountant import Adjacency, curve_of, epsilon_of, round_up
from dpgen.privacy.accounting.events import leaves
from dpgen.privacy.accounting.forms import mu_of
from dpgen.privacy.accounting.relation import Relation
from dpgen.privacy.mechanisms.declared import NoisySGD, OfRecords
from dpgen.privacy.mechanisms.ensemble import NoisyEnsemble

# The slopes of a blow-up function that a game of at most 10^5 runs can see: e^12 > 10^5.
PROFILE_EPSILONS = np.linspace(0.0, 12.0, 241)


class BlowUp(Protocol):
    """A bound on how much more probable an event is on a neighbour; the same in both directions."""

    def __call__(self, x: np.ndarray | float) -> np.ndarray:
        """Returns the largest probability on the neighbour of an event that has probability x."""

    def inverse(self, y: float) -> float:
        """Returns the smallest probability of an event that has probability y on the neighbour."""


@dataclass(frozen=True)
class GaussianBlowUp:
    """The bound of Gaussian mechanisms on all records: ``Phi(Phi^-1(x) + mu)``, exact (Dong, Roth
    and Su 2022).
    """

    mu: float

    def __call__(self, x: np.ndarray | float) -> np.ndarray:
        return ndtr(ndtri(x) + self.mu)

    def inverse(self, y: float) -> float:
        return float(ndtr(ndtri(y) - self.mu))


@dataclass(frozen=True)
class ProfileBlowUp:
    """The bound of pairs (epsilon, delta) that all hold: the smallest that any of them allows, for
    an event or for its complement. With fewer pairs the bound only gets weaker.

    Args:
        epsilons, deltas: the pairs, (K,) each.
    """

    epsilons: np.ndarray
    deltas: np.ndarray

    def __call__(self, x: np.ndarray | float) -> np.ndarray:
        x = np.asarray(x)[..., None]
        event = self.deltas + np.exp(self.epsilons) * x
        complement = 1 - np.exp(-self.epsilons) * (1 - self.deltas - x)
        return np.minimum(1.0, np.minimum(event, complement).min(-1))

    def inverse(self, y: float) -> float:
        event = np.exp(-self.epsilons) * (y - self.deltas)
        complement = 1 - self.deltas - np.exp(self.epsilons) * (1 - y)
        return max(0.0, float(event.max()), float(complement.max()))


@dataclass(frozen=True)
class Claim:
    """A privacy claim, and what it is about.

    Args:
        epsilon, delta: the pair that is printed.
        adjacency: the neighbouring relation.
        blow_up: the whole claim, of which the pair is one point.
        scope: what ran, in words.
    """

    epsilon: float
    delta: float
    adjacency: Adjacency
    blow_up: BlowUp
    scope: str

    def __post_init__(self) -> None:
        if not math.isfinite(self.epsilon):
            raise ValueError(f"epsilon must be a finite number to be refuted, got {self.epsilon}")

    @property
    def pair(self) -> BlowUp:
        """Returns the bound of the printed pair alone."""
        return ProfileBlowUp(np.array([self.epsilon]), np.array([self.delta]))

    @property
    def sentence(self) -> str:
        return f"epsilon {round_up(self.epsilon)} at delta {self.delta:g}, {self.scope}"

    @property
    def numbers(self) -> dict[str, Any]:
        """Returns the numbers of the claim, as JSON values."""
        return {
            "claimed_epsilon": self.epsilon,
            "delta": self.delta,
            "adjacency": self.adjacency,
            "scope": self.scope,
        }


def claim_of(event: DpEvent, delta: float, adjacency: Adjacency, scope: str) -> Claim:
    """Returns the accountant's claim for ``event``: exact for Gaussians on all records; where
    something is sampled, its pessimistic privacy loss distribution, which never claims more privacy
    than there is.
    """
    relation = Relation(adjacency, 1)  # a game adds or replaces one record
    if all(leaf.rate == 1 for leaf in leaves(event)):
        mu, _ = mu_of(event, relation)
        return Claim(gaussian_epsilon(mu, delta), delta, adjacency, GaussianBlowUp(mu), scope)
    epsilon = epsilon_of(event, delta, relation)
    curve = curve_of(event, relation)
    deltas = np.ones_like(PROFILE_EPSILONS)  # where nothing is bounded; `Claim` refuses that
    if curve is not None:
        deltas = np.asarray(curve.get_delta_for_epsilon(PROFILE_EPSILONS))
    profile = ProfileBlowUp(np.append(PROFILE_EPSILONS, epsilon), np.append(deltas, delta))
    return Claim(epsilon, delta, adjacency, profile, scope)


def mechanism_claim(
    mechanism: OfRecords, delta: float, adjacency: Adjacency, of: int | None = None
) -> Claim:
    """Returns the accountant's claim for ``mechanism`` alone.

    Args:
        of: number of steps in the plan, if the mechanism has only the first of them.
    """
    scope = f"noise multiplier {mechanism.noise_multiplier:.4g}"
    if isinstance(mechanism, NoisySGD):
        n = mechanism.n_steps
        steps = f"{n} step{'s' if n > 1 else ''}" if of in (None, n) else f"{n} of {of} steps"
        scope = f"{steps} at rate {mechanism.rate:.4g}, {scope}"
    elif isinstance(mechanism, NoisyEnsemble):
        n = mechanism.n_queries
        queries = f"{n} queries" if of in (None, n) else f"{n} of {of} queries"
        scope = f"{queries}, {scope}"
    else:
        scope = f"one release, {scope}"
    return claim_of(mechanism.event, delta, adjacency, scope)
