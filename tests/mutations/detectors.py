"""All detectors, and which of them can see a bug of which room at all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.mutations.classifier_detectors import CLASSIFIER
from tests.mutations.condensed_detectors import CONDENSED
from tests.mutations.data_free_detectors import DATA_FREE
from tests.mutations.ensemble_detectors import ENSEMBLE
from tests.mutations.fair_detectors import FAIR
from tests.mutations.fit_detectors import FIT
from tests.mutations.key_detectors import KEYS
from tests.mutations.lineage_detectors import LINEAGE
from tests.mutations.long_detectors import LONG
from tests.mutations.mechanism_detectors import MECHANISM
from tests.mutations.process_detectors import PROCESSES
from tests.mutations.public_detectors import PUBLIC_START
from tests.mutations.records_detectors import RECORDS
from tests.mutations.restored_detectors import RESTORED
from tests.mutations.run_detectors import RUN
from tests.mutations.silo_detectors import SILO
from tests.mutations.spectrum_detectors import SPECTRUM
from tests.mutations.teacher_detectors import TEACHERS
from tests.mutations.transcription_detectors import TRANSCRIPTION

DETECTORS: dict[str, Callable[[Path], str]] = {
    **MECHANISM, **LONG, **FIT, **RUN, **KEYS, **LINEAGE, **RESTORED, **RECORDS,
    **SPECTRUM, **CLASSIFIER, **PROCESSES, **DATA_FREE, **CONDENSED, **ENSEMBLE,
    **TEACHERS, **SILO, **TRANSCRIPTION, **FAIR, **PUBLIC_START,
}  # fmt: skip
GAMES = ("one-run game", "two-world game")
# Not those that never run the code that is changed, or that put something of their own in its
# place: a replay has its own coins and repeats one noise, an oracle has no noise.
ROOMS = {
    "clip": (*MECHANISM, "branches", "neighbour replay", "isolation"),
    "noise": (
        *(name for name in MECHANISM if name != "rounding"), "long run", "one run", "ledger",
        "resume", "keys",
    ),
    "coins": ("noise and coins", "long coins", *GAMES, "ledger", "resume"),
    "keys": ("one run", "guesses", "resume", "keys", *KEYS),
    "lineage": (*LINEAGE, "resume", "keys"),
    "restored": tuple(RESTORED),
    "records": tuple(RECORDS),
    "processes": tuple(PROCESSES),
    "fit": ("neighbour replay", "doors", "ledger", "plan"),
    "account": ("doors", "ledger", "plan", "budget", "price"),
    "price": ("price",),
    "spectrum": tuple(SPECTRUM),
    "classifier": tuple(CLASSIFIER),
    "data-free": tuple(DATA_FREE),
    "condensed": tuple(CONDENSED),
    "ensemble": tuple(ENSEMBLE),
    "teachers": tuple(TEACHERS),
    "silos": tuple(SILO),
    "transcription": tuple(TRANSCRIPTION),
    "fair": tuple(FAIR),
    "public start": tuple(PUBLIC_START),
    "published": ("neighbour replay", "doors", "ledger"),
}  # fmt: skip
# The first sentence of what each says of itself, in one line.
NOTES = {name: " ".join((detector.__doc__ or "").split()) for name, detector in DETECTORS.items()}
