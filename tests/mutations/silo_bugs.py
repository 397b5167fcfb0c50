"""Bugs in shards that are silos: numbers and sizes that follow the records, records that vanish."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from tests.mutations.bug import Bug

HERE = "dpgen.privacy.mechanisms."
# Where it is used.
TRAINED = tuple(
    name + ".trained"
    for name in (HERE + "teachers", HERE + "noisy_ensemble", "dpgen.auditing.disjoint")
)


def as_they_appear(original: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
    """The silo of the first record is the first shard, and so on."""

    def numbers(mechanism: Any, records: Any, slots: np.ndarray) -> np.ndarray:  # noqa: ANN401
        every = original(mechanism, records, np.arange(records.n_slots)).tolist()
        order = {silo: place for place, silo in enumerate(dict.fromkeys(every))}
        return np.array([order[every[slot]] for slot in slots.tolist()], dtype=np.int64)

    return numbers


def as_large_as_the_largest(original: Callable[..., Any]) -> Callable[..., Any]:
    def trained(mechanism: Any, records: Any, *given: Any) -> Any:  # noqa: ANN401
        sizes = np.bincount(records.silo_of(np.arange(records.n_slots)), minlength=1)
        silos = replace(mechanism.silos, max_records=max(1, int(sizes.max())))
        return original(replace(mechanism, silos=silos), records, *given)

    return trained


def unknown_left_out(original: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
    def numbers(silos: Any, ids: Sequence[str]) -> np.ndarray:  # noqa: ANN401
        return np.array([silos.names.index(i) if i in silos.names else -1 for i in ids])

    return numbers


BUGS = (
    Bug(
        "silos numbered as they appear",
        "without the first record all shards have other numbers, and other seeds",
        "silos", {HERE + "sharding.silo_numbers": as_they_appear},
    ),
    Bug(
        "room for the largest silo",
        "a record of the largest silo changes the padding of all shards",
        "silos", dict.fromkeys(TRAINED, as_large_as_the_largest),
        place="privacy.mechanisms.teachers.trained",
    ),
    Bug(
        "records of unknown silos left out",
        "which silos are declared decides without a word which records are learned from",
        "silos", {HERE + "silos.Silos.numbers": unknown_left_out},
    ),
    Bug(
        "a plan for other silos",
        "what was charged and stated is not what the records are divided by",
        "silos", {"dpgen.data.charged.require_silos": lambda original: lambda *given: None},
    ),
    Bug(
        "records that moved to other silos are the same records",
        "a resume asks a question again of other shards, under the same noise",
        "silos", {"dpgen.data.account.assigned": lambda original: lambda source: ""},
    ),
)  # fmt: skip
