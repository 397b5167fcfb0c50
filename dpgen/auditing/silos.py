"""Silos of stand-in records."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from dpgen.privacy.mechanisms.silos import Silos


def numbered(silos: Silos | None, n: int, **changes: Any) -> Silos | None:  # noqa: ANN401
    """Returns silos of another number, which have numbers for names; None of None.

    Args:
        changes: other fields.
    """
    names = tuple(f"{k:06d}" for k in range(n))
    return None if silos is None else replace(silos, names=names, **changes)


def silos_of_settings(generator: Any) -> Silos | None:  # noqa: ANN401
    """Returns the silos for which a generator is set; None where it has no shards, or others."""
    votes = getattr(getattr(generator, "settings", None), "votes", None)
    return getattr(votes, "silos", None)
