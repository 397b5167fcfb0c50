"""Rebuilds the event of a mechanism from the settings that a statement records.

A statement holds the settings of every stage. Events are rebuilt from them, and not from the events
that the same statement lists, so that the two can be compared.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from dpgen.privacy.accounting.events import GaussianLeaf

Settings = Mapping[str, Any]

SGD, SUM, ENSEMBLE = "NoisySGD", "NoisySum", "NoisyEnsemble"


def leaf_of(settings: Settings) -> GaussianLeaf:
    """Returns the event of a recorded mechanism. Raises ValueError for one that no proof covers.

    Args:
        settings: as the `settings` of `NoisySGD`, `NoisySum` and `NoisyEnsemble` write them.
    """
    kind = settings["mechanism"]
    if kind == SGD:
        rate, n_steps = settings["rate"], settings["n_steps"]
    elif kind == SUM:
        rate, n_steps = 1.0, 1
    elif kind == ENSEMBLE:
        rate, n_steps = 1.0, settings["n_queries"]
    else:
        raise ValueError(f"no proof in this package covers the mechanism {kind!r:.60}")
    for name in ("noise_multiplier", "rate", "clip_norm", "bound", "n_records", "n_shards"):
        value = settings.get(name, 1.0)
        if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
            raise ValueError(f"{name} of a stage must be greater than 0, got {value!r:.60}")
    if kind == ENSEMBLE and settings["bound"] != _diameter(settings["answer"]):
        raise ValueError(
            "bound of an ensemble must be the diameter of its answers, "
            f"{settings['answer']!r:.80}, got {settings['bound']!r:.60}"
        )
    return GaussianLeaf(float(rate), float(settings["noise_multiplier"]), n_steps)


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
    """Returns the declared number of records that the mechanism divides by, or that fills a shard;
    None where it uses none.
    """
    return settings["n_records"] if settings["mechanism"] != SUM else None
