"""All detectors, and which of them can see a bug of which room at all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.mutations.fit_detectors import FIT
from tests.mutations.mechanism_detectors import MECHANISM
from tests.mutations.run_detectors import RUN

DETECTORS: dict[str, Callable[[Path], str]] = {**MECHANISM, **FIT, **RUN}
# Not those that never run the code that is changed, or that put something of their own in its
# place: a replay has its own coins and repeats one noise.
ROOMS = {
    "clip": (*MECHANISM, "neighbour replay"),
    "noise": (*MECHANISM, "ledger", "resume", "keys"),
    "keys": ("resume", "keys"),
    "fit": tuple(FIT),
    "account": ("doors", "ledger", "plan", "budget", "price"),
    "price": ("price",),
    "published": ("neighbour replay", "doors", "ledger"),
}
# The first sentence of what each says of itself, in one line.
NOTES = {name: " ".join((detector.__doc__ or "").split()) for name, detector in DETECTORS.items()}
