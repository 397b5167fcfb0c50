"""Detectors of given teachers: what an exchange moves, what it costs, and whose account it is."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from dpgen.data.teachers import PrivateTeachers, open_teachers
from dpgen.networks.student import ClassifierConfig
from dpgen.privacy.accounting.accountant import Budget
from dpgen.privacy.accounting.forms import mu_of
from dpgen.privacy.accounting.relation import Relation
from dpgen.privacy.ledger.chain import LedgerError
from dpgen.privacy.ledger.charges import charged_event
from dpgen.privacy.ledger.privacy_ledger import BudgetExceeded
from dpgen.privacy.lineage import witness
from dpgen.privacy.lineage.keys import StageKeys
from dpgen.privacy.mechanisms.ensemble import FixedEnsemble, Votes
from dpgen.privacy.mechanisms.noise import KeyedNoise
from dpgen.privacy.plan import Plan, Stage
from dpgen.runs.checkpoint import Checkpoints
from dpgen.runs.classifier_file import save_classifier
from dpgen.training.students import untrained
from tests.mutations.mechanism_detectors import rough

K, Q, MULTIPLIER = 4, 3, 2.0
VOTES = FixedEnsemble(Votes(3), K, Q, MULTIPLIER)
LABEL, BUDGET = "votes", Budget(50.0, 1e-5)
QUERIES = torch.randn(Q, 1, 8, 8, generator=torch.Generator().manual_seed(1))
Given = Callable[[Tensor], Tensor]


class Held:
    """Slots that hold these teachers."""

    def __init__(self, *teachers: Given | None) -> None:
        self._teachers = teachers

    def teachers(self) -> Sequence[Given | None]:
        return self._teachers


def says(*scores: float) -> Given:
    return lambda queries: torch.tensor(scores).expand(len(queries), len(scores))


def fails(queries: Tensor) -> Tensor:
    raise RuntimeError("no answer")


class Kept(KeyedNoise):
    """Adds nothing, and keeps what it was asked to add."""

    stds: list[float]

    def add(self, total: Tensor, std: float, *, release: int, name: str) -> Tensor:
        self.stds.append(std)
        return total.double()


def _sums(*teachers: Given | None) -> tuple[Tensor, list[float]]:
    source = Kept(bytes(32), "plan")
    source.stds = []
    return VOTES.ensemble(Held(*teachers), source, seed=0).ask(QUERIES), source.stds


def exchange(place: Path) -> str:
    """What the exchange of a teacher for any other, for none, or for one that fails, moves in the
    sums; and the noise on them.
    """
    full = (says(0, 1, 0), says(0, 0, 1), says(1, 0, 0))
    ends = {
        "another": says(0, 9, 0), "none": None, "NaN": says(math.nan, 0, 0), "an error": fails,
    }  # fmt: skip
    for (name, end), others in product(ends.items(), (full, (says(0, 1, 0), None, fails))):
        left, stds = _sums(says(9, 0, 0), *others)
        right, _ = _sums(end, *others)
        moved = float((left - right).norm(dim=1).max())
        if not moved <= math.sqrt(2.0) * (1 + 1e-9):
            return f"{name} moves a sum by {rough(moved)}, and sqrt 2 is priced"
        if min(stds) < MULTIPLIER * math.sqrt(2.0) * (1 - 1e-12):
            return f"noise of {rough(min(stds))} where {rough(MULTIPLIER * math.sqrt(2.0))} is"
    return ""


def noise(place: Path) -> str:
    """The noise of two lists of teachers under one key and one question: the difference of their
    answers is not that of their sums.
    """
    others = (says(0, 1, 0), says(0, 0, 1), says(1, 0, 0))
    answers = [
        VOTES.ensemble(Held(end, *others), KeyedNoise(bytes(32), "plan"), seed=0).ask(QUERIES)
        for end in (says(9, 0, 0), says(0, 9, 0))
    ]
    apart = answers[0] - answers[1] - torch.tensor([1.0, -1.0, 0.0])
    least = float(apart.norm(dim=1).min())
    return f"the noise of two lists differs by {rough(least)}" if least < 0.1 else ""


def price(place: Path) -> str:
    """The price of an exchange, from the theorem: mu = sqrt(Q) / multiplier, m times as much for m
    teachers.
    """
    for m in (1, 3):
        mu, _ = mu_of(VOTES.event, Relation("fixed_slots", m))
        wanted = m * math.sqrt(Q) / MULTIPLIER
        if mu < wanted * (1 - 1e-12):
            return f"mu is {rough(mu)} for {rough(wanted)}, of {m}"
    return ""


def _silos(folder: Path, *seeds: int, names: str = "abcd") -> Path:
    folder.mkdir()
    for name, seed in zip(names, seeds, strict=True):
        network = untrained(ClassifierConfig((1, 8, 8), 3, 8), seed)
        save_classifier(network, folder / f"{name}.safetensors", ("x", "y", "z"))
    return folder


def _begun(folder: Path, place: Path, run: str, ledger: Path | None = None) -> PrivateTeachers:
    data = open_teachers(folder, overlap="separate", ledger=ledger)
    data.open_ledger(BUDGET, place)
    plan = Plan((Stage(LABEL, VOTES),), data.facts.relation)
    data.begin(run, StageKeys(place / "keys"), plan)
    return data


def _asked(data: PrivateTeachers, place: Path) -> Tensor:
    return data.ensemble(
        VOTES, label=LABEL, checkpoints=Checkpoints(place / "state"), seed=0,
        stand_in=says(1, 0, 0),
    ).ask(QUERIES)  # fmt: skip


def account(place: Path) -> str:
    """The same teachers in another folder, under other names, add up in one account; a resume with
    one of them exchanged gets no answer; and what is asked was charged.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DPGEN_HOME", str(place / "home"))
        patch.setattr(witness, "_ANSWERED", {})
        first = _silos(place / "first", 1, 2, 3, 4)
        data = _begun(first, place / "one", "one")
        if data.facts.n_records != K or not any(
            line["kind"] == "charge" for line in data.ledger.lines()
        ):
            return "nothing was charged"
        _asked(data, place / "one")
        if mu_of(charged_event(data.ledger.lines()), data.facts.relation)[0] < 0.86:
            return "less was charged than was asked"
        second = _silos(place / "second", 4, 3, 2, 1, names="pqrs")
        if _begun(second, place / "two", "two").ledger.path != data.ledger.path:
            return "the same teachers have two accounts"
        patch.setattr(witness, "_ANSWERED", {})
        third = _silos(place / "third", 1, 2, 3, 9)
        try:
            again = _begun(third, place / "one", "one", data.ledger.path)
            _asked(again, place / "one")
        except (LedgerError, BudgetExceeded):
            return ""
        return "a run goes on with another teacher in a slot"


TEACHERS: dict[str, Callable[[Path], Any]] = {
    "exchange of a teacher": exchange,
    "noise of an exchange": noise,
    "price of a teacher": price,
    "account of teachers": account,
}
