"""Detectors of shards that are silos."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from dpgen.auditing import disjoint as disjoints
from dpgen.auditing import oracle as oracles
from dpgen.auditing.disjoint import Digesting
from dpgen.data.opening import open_images
from dpgen.data.private import PrivateDataset
from dpgen.images.images import Images
from dpgen.privacy.accounting.accountant import Budget
from dpgen.privacy.ledger.chain import LedgerError
from dpgen.privacy.lineage.keys import StageKeys
from dpgen.privacy.mechanisms.ensemble import Ball, NoisyEnsemble, Votes
from dpgen.privacy.mechanisms.silos import Silos
from dpgen.privacy.plan import Plan, Stage
from tests.mutations.ensemble_detectors import FACTS
from tests.mutations.mechanism_detectors import rough, smaller

NAMES = "north", "south", "west"
HOMES = [NAMES[k % 3] for k in range(12)]
SILOS = Silos("ids given with the records", NAMES, 4)
VOTES = NoisyEnsemble(Votes(3), 3, 4, 2.0, 12, SILOS)


def shards_of_silos(place: Path) -> str:
    """`dpgen.auditing.oracle` and `dpgen.auditing.disjoint` on shards that are silos."""
    ball = replace(VOTES, answer=Ball((8,), 1.0))
    with smaller():
        largest = max(oracles.oracle(one).largest for one in (VOTES, ball))
        found = disjoints.disjoint(ball, Digesting(1.0), FACTS)
    if largest > 1:
        return f"a record moved the sum by {rough(largest)} bounds"
    if found.n_changed > 1:
        return f"a record changed the answers of {found.n_changed} shards"
    return "" if found.passed else "a record changed nothing"


def _opened(homes: list[str], names: tuple[str, ...] | None = NAMES) -> PrivateDataset:
    pixels = torch.rand(12, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    images = Images(2 * (255 * pixels).round() / 255 - 1, torch.arange(12) % 3, ("a", "b", "c"))
    return open_images(images, silo=homes, silos=names, max_records_per_silo=4)


def _begun(place: Path, homes: list[str], silos: Silos = SILOS) -> None:
    data = _opened(homes)
    data.open_ledger(Budget(50.0, 1e-5), place)
    stage = Stage("votes", replace(VOTES, silos=silos))
    data.begin("run", StageKeys(place / "keys"), Plan((stage,), data.facts.relation))


def silos_of_records(place: Path) -> str:
    """Records of a silo that was not declared are refused; so are a plan for other silos, and a
    resume of records that moved to other silos.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DPGEN_HOME", str(place / "home"))
        try:
            _opened(["east", *HOMES[1:]])
        except ValueError:
            pass
        else:
            return "a record of an undeclared silo is taken without a word"
        others = replace(SILOS, names=("east", "south", "west"))
        try:
            _begun(place / "other", HOMES, others)
        except ValueError:
            pass
        else:
            return "a plan for other silos is charged"
        _begun(place / "moved", HOMES)
        try:
            _begun(place / "moved", [HOMES[1], HOMES[0], *HOMES[2:]])
        except LedgerError:
            return ""
        return "records that moved to other silos are taken for those the run was begun on"


SILO: dict[str, Callable[[Path], str]] = {
    "shards of silos": shards_of_silos,
    "silos of records": silos_of_records,
}
