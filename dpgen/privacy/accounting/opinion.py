"""A second accountant: Opacus' Renyi bounds, from a separate code base and other theorems."""

from __future__ import annotations

import importlib.util
import math
import sys
import warnings
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from types import ModuleType

from dp_accounting.dp_event import DpEvent

from dpgen.privacy.accounting.events import GaussianLeaf, leaves
from dpgen.privacy.accounting.relation import Relation

ORDERS = (
    [1 + x / 10 for x in range(1, 100)]
    + [float(x) for x in range(12, 64)]
    + [128.0, 256.0, 512.0]
)  # fmt: skip
N_PRICES = 4096  # size of the cache: a statement and its checks price the same events


def second_opinion(
    event: DpEvent, delta: float, relation: Relation
) -> float | None:
    """Returns epsilon by Opacus, or None where it has no theorem (Poisson sampling under
    replace-one).

    Opacus has no theorem for sampling with a unit of m > 1 records, either, but its bound for one
    record implies one: the classical group bound for m records, which is never below the exact
    price, and infinite where it bounds nothing.
    """
    return _epsilon(tuple(leaves(event)), delta, relation)


@lru_cache(maxsize=N_PRICES)
def _epsilon(found: tuple[GaussianLeaf, ...], delta: float, relation: Relation) -> float | None:
    m, replaced = relation.max_records_per_unit, relation.adjacency == "replace_one"
    sampled = any(leaf.rate < 1 for leaf in found)
    if replaced and sampled:
        return None
    scale = (2.0 if replaced else 1.0) * (1 if sampled else m)
    epsilon_fn = _renyi(found, scale)
    return _of_group(epsilon_fn, m, delta) if sampled and m > 1 else epsilon_fn(delta)


def _renyi(found: tuple[GaussianLeaf, ...], scale: float) -> Callable[[float], float]:
    """Returns epsilon as a function of delta, for sums whose sensitivity is ``scale`` times their
    bound.
    """
    rdp = opacus_rdp()
    total = 0.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for leaf in found:
            total = total + rdp.compute_rdp(
                q=leaf.rate,
                noise_multiplier=leaf.noise_multiplier / scale,
                steps=leaf.steps,
                orders=ORDERS,
            )

    def epsilon(delta: float) -> float:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return float(rdp.get_privacy_spent(orders=ORDERS, rdp=total, delta=delta)[0])

    return epsilon


@lru_cache(maxsize=1)
def opacus_rdp() -> ModuleType:
    """Imports Opacus' module of Renyi bounds alone: the module needs NumPy and SciPy only, while
    its package loads torch, which takes longer than all the pricing.
    """
    found = importlib.util.find_spec("opacus")
    places = found.submodule_search_locations if found is not None else None
    file = Path(places[0], "accountants", "analysis", "rdp.py") if places else Path()
    if "opacus" in sys.modules or not file.is_file():
        from opacus.accountants.analysis import rdp

        return rdp
    spec = importlib.util.spec_from_file_location("opacus_rdp", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _of_group(epsilon_fn: Callable[[float], float], m: int, delta: float) -> float:
    """Bounds epsilon for m records by the classical lemma, from the epsilon for one.

    A mechanism that is (x, d)-indistinguishable from one record to the next is, from the first to
    the last of m, (m x, d (1 + e**x + ... + e**((m - 1) x))): Dwork and Roth 2014, Theorem 2.2,
    with its delta summed. Every d that stays within ``delta`` gives a bound; the search looks for a
    large d.
    """

    def within(depth: float) -> float | None:
        """Returns m x if d = exp(-depth) is small enough."""
        x = epsilon_fn(math.exp(-depth))
        if not (math.isfinite(x) and x > 0):
            return None
        log_sum = (m - 1) * x + math.log1p(-math.exp(-m * x)) - math.log1p(-math.exp(-x))
        return m * x if log_sum - depth <= math.log(delta) else None

    low = high = -math.log(delta)
    while (found := within(high)) is None:
        low, high = high, 1.1 * high
        if high > 700:  # exp(-700) is about the smallest float
            return math.inf
    for _ in range(8):
        middle = (low + high) / 2
        closer = within(middle)
        low, high, found = (middle, high, found) if closer is None else (low, middle, closer)
    return found
