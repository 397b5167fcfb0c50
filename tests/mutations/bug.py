"""A bug on purpose: what it is, why it breaks the guarantee, and how it gets into production code.

Bugs live here and nowhere else: `dpgen` has no switch for any of them. Each replaces functions of
the package, by their full names, for as long as a test runs.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from dpgen.privacy.mechanisms.draws import Draws
from dpgen.privacy.mechanisms.noise import KeyedNoise, NoiseSource

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


class Around:
    """A NoiseSource whose noise another function adds, which is given the source itself."""

    def __init__(self, source: NoiseSource, add: Callable[..., Tensor]) -> None:
        self._source, self._add = source, add

    def for_question(self, question: str) -> Around:
        return Around(self._source.for_question(question), self._add)

    def add(self, total: Tensor, std: float, *, release: int, name: str) -> Tensor:
        return self._add(self._source, total, std, release, name)

    def coins(self, n: int, rate: float, *, release: int) -> np.ndarray:
        return self._source.coins(n, rate, release=release)

    def draws(self, slots: np.ndarray, **where: Any) -> Draws:  # noqa: ANN401
        return self._source.draws(slots, **where)

    def tag(self, content: bytes) -> bytes:
        return self._source.tag(content)


def plain(source: KeyedNoise) -> KeyedNoise:
    """The source without a question: what it would draw if noise belonged to the release alone."""
    source = getattr(source, "_source", source)  # behind one that takes notes
    return KeyedNoise(source._key, source._plan)


def bare(add: Callable[..., Tensor], source: KeyedNoise, like: Tensor, t: int, name: str) -> Tensor:
    """Standard normal noise of a release and a tensor, whatever is asked and summed."""
    nothing = torch.zeros(like.shape, dtype=torch.float64)
    return add(plain(source), nothing, 1.0, release=t, name=name)
