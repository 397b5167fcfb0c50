"""A bug on purpose: what it is, why it breaks the guarantee, and how it gets into production code.

Bugs live here and nowhere else: `dpgen` has no switch for any of them. Each replaces functions of
the package, by their full names, for as long as a test runs.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest

# From what stands in the package to what the bug puts in its place.
Change = Callable[[Any], Any]


@dataclass(frozen=True)
class Bug:
    """One mistake.

    Args:
        name: what is done wrong, a few words.
        why: one sentence on how it breaks the guarantee.
        room: which detectors can see it at all; a key of `tests.mutations.detectors.ROOMS`.
        changes: by full name of a function, a method or a property, what becomes of it.
        refusal: what a detector may end in because the package itself refuses to go on; any other
            exception would be a mistake in the bug.
        place: where the bug is, when it is not where the changes are.
    """

    name: str
    why: str
    room: str
    changes: Mapping[str, Change]
    refusal: type[Exception] | None = None
    place: str = ""

    @property
    def where(self) -> str:
        return self.place or ", ".join(name.removeprefix("dpgen.") for name in self.changes)

    def inject(self, patch: pytest.MonkeyPatch) -> None:
        for name, change in self.changes.items():
            owner, _, attribute = name.rpartition(".")
            patch.setattr(
                pkgutil.resolve_name(owner), attribute, change(pkgutil.resolve_name(name))
            )
