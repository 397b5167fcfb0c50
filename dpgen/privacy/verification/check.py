"""One thing that was looked at and what was seen, and when two accounts of it agree."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

# Far out on a curve a delta has few digits that two machines agree on.
LOOSE, LAST_DIGIT = ("profile", "mu_gdp", "cross_check"), 0.01


@dataclass(frozen=True)
class Check:
    """One thing that was looked at, or could not be.

    Args:
        name: what it was.
        held: whether it holds; ``None`` when it was not looked at, and ``seen`` says why.
        seen: what was seen.
    """

    name: str
    held: bool | None
    seen: str

    @property
    def failed(self) -> bool:
        """Whether it was looked at and does not hold."""
        return self.held is False

    @property
    def state(self) -> Literal["ok", "FAILED", "skip"]:
        """The outcome in a word."""
        return "skip" if self.held is None else "ok" if self.held else "FAILED"


def agree(one: Any, other: Any, *, loose: bool = False) -> bool:  # noqa: ANN401
    """Returns whether two values are equal; loose numbers may differ in their last digit."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(
            agree(one[k], other[k], loose=loose or k in LOOSE) for k in one
        )
    if isinstance(one, list) and isinstance(other, list):
        pairs = zip(one, other, strict=False)
        return len(one) == len(other) and all(agree(x, y, loose=loose) for x, y in pairs)
    if loose and type(one) is type(other) is float:
        return math.isclose(one, other, rel_tol=LAST_DIGIT)
    return type(one) is type(other) and bool(one == other)


def unversioned(value: Any) -> Any:  # noqa: ANN401
    """Replaces the versions of what computed a value by their type: that there is one is compared,
    not which.
    """
    if not isinstance(value, Mapping):
        return value
    return {
        key: type(held) if key == "version" else unversioned(held) for key, held in value.items()
    }
