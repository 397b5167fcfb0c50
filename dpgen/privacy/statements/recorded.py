"""Rebuilds the event of a mechanism from the settings that a statement records.

A statement holds the settings of every stage. Events are rebuilt from them, and not from the events
that the same statement lists, so that the two can be compared.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from dpgen.privacy.accounting.events import GaussianLeaf
from dpgen.privacy.accounting.relation import Relation

Settings = Mapping[str, Any]

SHARDS = "shards"  # of an ensemble whose shards are silos
SGD, SUM, ENSEMBLE, FIXED = "NoisySGD", "NoisySum", "NoisyEnsemble", "FixedEnsemble"


def leaf_of(settings: Settings) -> GaussianLeaf:
    """Returns the event of a recorded mechanism. Raises ValueError for one that no proof covers.

    Args:
        settings: as the `settings` of `NoisySGD`, `NoisySum`, `NoisyEnsemble` and `FixedEnsemble`
            write them.
    """
    kind = settings["mechanism"]
    if kind == SGD:
        rate, n_steps = settings["rate"], settings["n_steps"]
    elif kind == SUM:
        rate, n_steps = 1.0, 1
    elif kind in (ENSEMBLE, FIXED):
        rate, n_steps = 1.0, settings["n_queries"]
    else:
        raise ValueError(f"no proof in this package covers the mechanism {kind!r:.60}")
    for name in (
        "noise_multiplier", "rate", "clip_norm", "bound", "n_records", "n_shards", "n_teachers",
    ):  # fmt: skip
        value = settings.get(name, 1.0)
        if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
            raise ValueError(f"{name} of a stage must be greater than 0, got {value!r:.60}")
    if kind in (ENSEMBLE, FIXED) and settings["bound"] != _diameter(settings["answer"]):
        raise ValueError(
            "bound of an ensemble must be the diameter of its answers, "
            f"{settings['answer']!r:.80}, got {settings['bound']!r:.60}"
        )
    if kind == ENSEMBLE and SHARDS in settings and not _is_of_silos(settings[SHARDS]):
        raise ValueError(
            "shards of an ensemble must be silos with a declared bound, or left out where a hash "
            f"makes them, got {settings[SHARDS]!r:.80}"
        )
    return GaussianLeaf(float(rate), float(settings["noise_multiplier"]), n_steps)


def _is_of_silos(shards: object) -> bool:
    """Returns whether the settings of shards are those that `Silos` writes."""
    match shards:
        case {"by": "silo", "ids": str(), "names_sha256": str(), "max_records": int() as most}:
            return not isinstance(most, bool) and most >= 1
    return False


def _diameter(answer: Settings) -> float | None:
    """Returns the largest distance of two answers, as `Votes` and `Ball` compute it; None for
    answers of no kind that the theorem covers.
    """
    match answer:
        case {"answer": "Votes", "n_classes": int()}:
            return math.sqrt(2.0)
        case {"answer": "Ball", "shape": list(), "radius": float() | int() as radius}:
            return 2.0 * radius
    return None


def is_sampled(settings: Settings) -> bool:
    """Returns whether a release reads a Poisson sample of the records instead of all of them."""
    return leaf_of(settings).rate < 1


def n_records_of(settings: Settings) -> int | None:
    """Returns the declared number of records that the mechanism divides by, or that fills a shard,
    or the number of its teachers; None where it uses none.
    """
    kind = settings["mechanism"]
    return settings["n_teachers" if kind == FIXED else "n_records"] if kind != SUM else None


def require_relation(stages: Mapping[str, Settings], relation: Relation) -> None:
    """Raises ValueError where a stage has no price under this relation: a `FixedEnsemble` has one
    for teachers in fixed slots, and no other mechanism has.
    """
    for label, settings in stages.items():
        if (settings["mechanism"] == FIXED) != relation.is_of_teachers:
            raise ValueError(
                f"stage {label!r:.60}, a {settings['mechanism']!s:.60}, has no price for "
                f"{relation.phrase}"
            )
