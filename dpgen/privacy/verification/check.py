"""The result of one check of a statement, and the comparison of two values of one quantity."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

# Far out on a curve two machines agree on few digits of a delta.
LOOSE, LAST_DIGIT = ("profile", "mu_gdp", "cross_check"), 0.01


@dataclass(frozen=True)
class Check:
    """The result of one check.

    Args:
        name: what was checked.
        held: whether it holds; None if it could not be checked, and ``seen`` says why.
        seen: what was found.
    """

    name: str
    held: bool | None
    seen: str

    @property
    def failed(self) -> bool:
        """Returns whether the check was made and does not hold."""
        return self.held is False

    @property
    def state(self) -> Literal["ok", "FAILED", "skip"]:
        """Returns the outcome in a word."""
        return "skip" if self.held is None else "ok" if self.held else "FAILED"


def agree(one: Any, other: Any, *, loose: bool = False) -> bool:  # noqa: ANN401
    """Returns whether two values are equal; with ``loose`` numbers may differ in their last digit.
    """
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
    """Replaces the versions of the software that computed a value by their type: a comparison then
    requires a version, but not a certain one.
    """
    if not isinstance(value, Mapping):
        return value
    return {
        key: type(held) if key == "version" else unversioned(held) for key, held in value.items()
    }
