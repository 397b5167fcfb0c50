"""Other forms of a guarantee: its curve, Gaussian differential privacy, larger and smaller units.

Each is computed from the same events as epsilon, and each is an upper bound.
"""

from __future__ import annotations

import math

import numpy as np
from dp_accounting.dp_event import DpEvent
from scipy.special import log_ndtr, ndtr

from dpgen.privacy.accounting.accountant import curve_of, round_up
from dpgen.privacy.accounting.events import leaves
from dpgen.privacy.accounting.relation import Relation

DELTA_FLOOR = 1e-10  # below it the accountant's rounding shows, so no smaller delta is stated
PROFILE = (0.25, 0.5, 1.0, 1.5, 2.0)  # multiples of epsilon
UNITS = (1, 2, 5, 10)
N_POINTS = 2000


def profile_of(
    event: DpEvent, epsilon: float, relation: Relation
) -> list[list[float]]:
    """Returns [epsilon, delta] at five epsilons about ``epsilon``. No delta is stated below the
    floor, or below the delta at ``epsilon`` where that is smaller.
    """
    curve = curve_of(event, relation)

    def delta(at: float) -> float:
        return 1.0 if curve is None else float(curve.get_delta_for_epsilon(at))

    floor = min(DELTA_FLOOR, delta(epsilon))
    return [[at, round_up(max(delta(at), floor))] for at in (epsilon * x for x in PROFILE)]


def mu_of(event: DpEvent, relation: Relation) -> tuple[float, float]:
    """Returns the mu of Gaussian differential privacy, and the delta from which on it holds.

    Un-sampled Gaussians are mu-GDP exactly, at every delta: the floor is 0 (Dong, Roth and Su 2022,
    Corollary 3.3). A sampled run is not, or only with a far larger mu. The returned mu then has
    ``delta(epsilon) <= max(delta of mu-GDP, floor)`` at every epsilon.
    """
    found = leaves(event)
    if not any(leaf.rate < 1 for leaf in found):
        moved = relation.max_records_per_unit * (2 if relation.adjacency == "replace_one" else 1)
        return moved * math.sqrt(sum(x.steps / x.noise_multiplier**2 for x in found)), 0.0
    curve = curve_of(event, relation)
    last = math.inf if curve is None else float(curve.get_epsilon_for_delta(DELTA_FLOOR))
    if curve is None or not math.isfinite(last):
        return math.inf, DELTA_FLOOR
    epsilons = np.linspace(0.0, last, N_POINTS)
    # Rounding can put delta of a large loss slightly above 1, which no Gaussian curve reaches.
    deltas = np.minimum(curve.get_delta_for_epsilon(epsilons), 1.0)
    # Between two points delta is at most that of the left one, and mu-GDP's at least that of the
    # right one: so nothing between them is missed.
    return float(_mu_at(epsilons[1:], deltas[:-1]).max()), DELTA_FLOOR


def _mu_at(epsilons: np.ndarray, deltas: np.ndarray) -> np.ndarray:
    """Returns mu, rounded up, whose Gaussian mechanism spends ``deltas`` at ``epsilons``, (N,)."""
    low, high = np.full(len(deltas), 1e-9), np.full(len(deltas), 1e4)
    for _ in range(60):
        mu = np.sqrt(low * high)
        spent = ndtr(mu / 2 - epsilons / mu) - np.exp(epsilons + log_ndtr(-mu / 2 - epsilons / mu))
        enough = spent >= deltas
        low, high = np.where(enough, low, mu), np.where(enough, mu, high)
    return high


def units_of(
    event: DpEvent, delta: float, relation: Relation
) -> dict[str, float | str | None]:
    """Prices the same run, at the same delta, for units of 1, 2, 5 and 10 records except the size
    that ``relation`` states: epsilon, "infinity" where there is no bound, None where no proof in
    this package covers it.
    """
    sampled = any(leaf.rate < 1 for leaf in leaves(event))
    stated: dict[str, float | str | None] = {}
    for m in UNITS:
        if m == relation.max_records_per_unit:
            continue
        if m > 1 and sampled and relation.adjacency == "replace_one":
            stated[str(m)] = None
            continue
        curve = curve_of(event, Relation(relation.adjacency, m))
        epsilon = math.inf if curve is None else float(curve.get_epsilon_for_delta(delta))
        stated[str(m)] = round_up(epsilon) if math.isfinite(epsilon) else "infinity"
    return stated
