"""Numbers that others published on the same data, from ``published.toml``."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from typing import Any

__all__ = ["Published", "comparable", "published"]


@dataclass(frozen=True)
class Published:
    """One method on one data set by one metric, as printed in its source.

    Args:
        metric: the name that dpgen gives a number made the same way; one that dpgen never makes
            (``accuracy_mean_of_resnets``) compares with nothing.
        points: (epsilon, value), accuracies as fractions.
        protocol: what else the numbers depend on, in words.
        source, url: where they stand.
        claim: whether their guarantee is claimed and not verified.
    """

    data: str
    shape: tuple[int, ...]
    method: str
    metric: str
    points: tuple[tuple[float, float], ...]
    protocol: str
    source: str
    url: str
    claim: bool


@cache
def _all() -> tuple[Published, ...]:
    text = (files("dpgen.report") / "published.toml").read_text(encoding="utf-8")
    tables = tomllib.loads(text)
    return tuple(
        Published(
            data=row["data"],
            shape=tuple(tables["data"][row["data"]]["shape"]),
            method=row["method"],
            metric=row["metric"],
            points=tuple((float(epsilon), float(value)) for epsilon, value in row["points"]),
            protocol=tables["protocol"][row["protocol"]],
            source=tables["source"][row["source"]]["title"],
            url=tables["source"][row["source"]]["url"],
            claim=row.get("claim", False),
        )
        for row in tables["series"]
    )


def published(data: Mapping[str, Any]) -> tuple[Published, ...]:
    """Returns all series on a data set: its name, whatever its case, and its shape must both be
    theirs.

    Args:
        data: with ``"name"`` and ``"shape"``, as in a benchmark's results.
    """
    name = str(data.get("name")).casefold().replace("_", "-").replace(" ", "-")
    shape = tuple(data.get("shape") or ())
    return tuple(row for row in _all() if row.data == name and row.shape == shape)


def comparable(
    data: Mapping[str, Any], metric: str, epsilons: Sequence[float]
) -> tuple[Published, ...]:
    """Returns the series that may be in one chart with ``metric`` measured on ``data``, with their
    points between the smallest and the largest of ``epsilons``.

    Published FID compares with the training split: one that compares with another is another
    metric.
    """
    if not epsilons or (metric == "fid" and data.get("reference") != "train"):
        return ()
    low, high = min(epsilons), max(epsilons)
    rows = (
        replace(row, points=tuple(p for p in row.points if low <= p[0] <= high))
        for row in published(data)
        if row.metric == metric
    )
    return tuple(row for row in rows if row.points)
