"""Detectors of the ensemble of teachers: what a record moves, what it costs, and what comes out."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from dpgen.auditing import disjoint as disjoints
from dpgen.auditing import oracle as oracles
from dpgen.auditing import randomness
from dpgen.auditing import replay as replays
from dpgen.auditing.disjoint import Digesting
from dpgen.data.private import PrivateDataset
from dpgen.images.images import PublicFacts
from dpgen.privacy.accounting.accountant import Budget
from dpgen.privacy.accounting.forms import mu_of
from dpgen.privacy.accounting.relation import Relation
from dpgen.privacy.ledger.chain import LedgerError
from dpgen.privacy.lineage import witness
from dpgen.privacy.lineage.keys import StageKeys
from dpgen.privacy.mechanisms.ensemble import Ball, NoisyEnsemble, Votes
from dpgen.privacy.mechanisms.noise import KeyedNoise
from dpgen.privacy.mechanisms.noisy_ensemble import Ensemble
from dpgen.privacy.plan import Plan, Stage
from dpgen.runs.checkpoint import Checkpoints
from tests.mutations.fit_detectors import fixed, verdict, watched_silently
from tests.mutations.mechanism_detectors import Rows, rough, smaller

VOTES = NoisyEnsemble(Votes(3), 5, 4, 2.0, 20)
POINTS = NoisyEnsemble(Ball((2, 6), 0.7), 5, 4, 2.0, 20)
LABEL = "teachers"
BUDGET = Budget(50.0, 1e-5)
FACTS = PublicFacts((1, 8, 8), ("a", "b", "c"), 20, "add_remove", 1, "declared")
CHECKS = 1 - 2.0 * ((torch.arange(8)[:, None] + torch.arange(8)) % 2)
QUERIES = torch.stack([-CHECKS, *(torch.full((8, 8), x) for x in (1.0, -1.0, 0.3))])[:, None]


@dataclass(frozen=True)
class Careless:
    """Teachers that draw from a global generator as often as their shard has records, and keep what
    they have seen.
    """

    seen: list[float] = field(default_factory=list)

    def __call__(
        self, pixels: Tensor, labels: Tensor, valid: Tensor, seed: int
    ) -> Callable[[Tensor], Tensor]:
        self.seen.append(float(pixels[valid].mean()))
        torch.rand(int(valid.sum()))
        answer = torch.randn(8) + sum(self.seen)
        return lambda queries: answer.expand(len(queries), 8)


@dataclass(frozen=True)
class Meddling:
    """Teachers that set the default type of numbers by the number of records of their shard, and
    answer in the type that they found.
    """

    def __call__(
        self, pixels: Tensor, labels: Tensor, valid: Tensor, seed: int
    ) -> Callable[[Tensor], Tensor]:
        answer = torch.eye(8)[torch.get_default_dtype().itemsize % 8]
        torch.set_default_dtype(torch.float64 if valid.sum() % 2 else torch.float16)
        return lambda queries: answer.expand(len(queries), 8)


@dataclass(frozen=True)
class Nearest:
    """Teachers that vote for the class of the record that is most like the query."""

    def __call__(
        self, pixels: Tensor, labels: Tensor, valid: Tensor, seed: int
    ) -> Callable[[Tensor], Tensor]:
        rows, own = pixels[valid].flatten(1), labels[valid]

        def teacher(queries: Tensor) -> Tensor:
            closest = torch.cdist(queries.flatten(1), rows).argmin(1)
            return torch.nn.functional.one_hot(own[closest], 3)

        return teacher


@dataclass(frozen=True)
class Delicate:
    """Teachers that cannot do with an odd shard, in training or when they are asked."""

    def __call__(
        self, pixels: Tensor, labels: Tensor, valid: Tensor, seed: int
    ) -> Callable[[Tensor], Tensor]:
        total = pixels[valid].sum(0).flatten()
        if len(total) and not total.isfinite().all():
            raise RuntimeError("no teacher from these records")
        return lambda queries: total.expand(len(queries), 12)


def of_shards(place: Path) -> str:
    """`dpgen.auditing.oracle` on votes and on points of a ball."""
    for mechanism in (VOTES, POINTS):
        with smaller():
            found = oracles.oracle(mechanism)
        if not found.passed:
            return f"a record moved the sum by {rough(found.largest)} bounds"
    return ""


def other_shards(place: Path) -> str:
    """`dpgen.auditing.disjoint`: a record changes the answers of its own shard alone."""
    ball = replace(POINTS, answer=Ball((8,), 1.0))
    plain = torch.get_default_dtype()
    for fit in (Digesting(1.0), Careless(), Meddling()):
        try:
            with smaller():
                found = disjoints.disjoint(ball, fit, FACTS)
        finally:
            torch.set_default_dtype(plain)
        if found.n_changed > 1:
            return f"a record changed the answers of {found.n_changed} shards"
        if not found.passed:
            return f"a record moved an answer by {rough(found.farthest)} bounds"
    return ""


def odd_shards(place: Path) -> str:
    """Shards that are empty or full, and a teacher that fails on some: every answer is finite."""
    for rows in ([], [1.0], [math.nan, 1.0], [float(k) for k in range(40)]):
        records = Rows(torch.tensor(rows).reshape(-1, 1).expand(-1, 12))
        noise = KeyedNoise(bytes(32), "odd")
        try:
            found = POINTS.ensemble(records, noise, Delicate(), seed=0).ask(QUERIES)
        except Exception as error:
            return f"{len(rows)} records stop it with {type(error).__name__}"
        if not found.isfinite().all():
            return f"{len(rows)} records answer with what is no number"
    return ""


def of_price(place: Path) -> str:
    """The price of an ensemble against the closed form of its theorem, under every relation; the
    noise of the kernel against the price, query by query.
    """
    for mechanism in (VOTES, POINTS):
        for adjacency, moved in (("add_remove", 1), ("replace_one", 2)):
            for m in (1, 3):
                mu, _ = mu_of(mechanism.event, Relation(adjacency, m))  # type: ignore[arg-type]
                wanted = moved * m * math.sqrt(4) / 2.0
                if mu < wanted * (1 - 1e-12):
                    return f"mu is {rough(mu)} for {rough(wanted)}, {adjacency} of {m}"
        stds: list[float] = []

        class Heard(KeyedNoise):
            def add(self, total: Tensor, std: float, *, release: int, name: str) -> Tensor:
                stds.append(std)  # noqa: B023
                return super().add(total, std, release=release, name=name)

        empty = Rows(torch.zeros(0, 12))
        ensemble = mechanism.ensemble(empty, Heard(bytes(32), "price"), Delicate(), seed=0)
        try:
            for query in (*QUERIES, QUERIES[0]):
                ensemble.ask(query[None])
        except RuntimeError:
            pass
        if len(stds) > mechanism.n_queries:
            return f"{len(stds)} answers where {mechanism.n_queries} are charged"
        apart = {Votes: math.sqrt(2.0), Ball: 2 * 0.7}[type(mechanism.answer)]
        if min(stds) < 2.0 * apart * (1 - 1e-12):
            return f"noise of {rough(min(stds) / apart)} diameters where 2 are charged"
    return ""


def of_noise(place: Path) -> str:
    """`dpgen.auditing.randomness` on the answers to a series of queries."""
    with smaller():
        found = randomness.randomness(POINTS)
    if found.distinct < 0.98:
        return f"{100 * found.distinct:.0f} % of the noise is distinct"
    beyond = {k: z for k, z in found.scores.items() if abs(z) > randomness.LIMIT}
    return "".join(f"{name}: z = {rough(z)}" for name, z in list(beyond.items())[:1])


class Voting:
    """A run that asks two rounds, the second about what the first was least sure of."""

    def plan(self, facts: PublicFacts) -> Plan:
        return Plan((Stage(LABEL, VOTES),), facts.relation)

    def fit(
        self, data: PrivateDataset, *, out: Path, seed: int = 0, show: bool = False,
        hardware: Any = None,  # noqa: ANN401
    ) -> None:  # fmt: skip
        out.mkdir(parents=True)
        data.open_ledger(BUDGET, out.with_name("ledger"))
        data.begin(f"voting in {out}", StageKeys(out / "keys"), self.plan(data.facts))
        checkpoints = Checkpoints(out / "checkpoint")
        ensemble = data.ensemble(VOTES, Nearest(), label=LABEL, checkpoints=checkpoints, seed=seed)
        first = ensemble.ask(QUERIES[:2])
        second = ensemble.ask(QUERIES[2:] if first[0, 0] > first[1, 0] else QUERIES[2:].flip(0))
        data.finish(LABEL, VOTES)
        (out / "labels.json").write_text(json.dumps(torch.cat([first, second]).argmax(1).tolist()))
        (out / "votes.json").write_text(json.dumps(torch.cat([first, second]).tolist()))
        for folder in ("keys", "checkpoint"):
            shutil.rmtree(out / folder)


def voting_replay(place: Path) -> str:
    """`dpgen.auditing.replay` on the whole of a run that asks an ensemble."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DPGEN_HOME", str(place / "home"))
        patch.setattr(PrivateDataset, "noise", fixed)
        return verdict(replays.replay(Voting, FACTS))


def _opened(place: Path, data: PrivateDataset) -> Ensemble:
    data.open_ledger(BUDGET, place)
    data.begin("run", StageKeys(place / "keys"), Plan((Stage(LABEL, VOTES),), FACTS.relation))
    checkpoints = Checkpoints(place / "checkpoint")
    return data.ensemble(VOTES, Nearest(), label=LABEL, checkpoints=checkpoints, seed=0)


def voting_resume(place: Path) -> str:
    """A round that was answered is saved first, is never answered anew, and another one in its
    place is refused.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DPGEN_HOME", str(place / "home"))
        patch.setattr(witness, "_ANSWERED", {})
        data = PrivateDataset(watched_silently(), facts=FACTS)
        first = _opened(place, data).ask(QUERIES[:2])
        held = Checkpoints(place / "checkpoint").load(LABEL)
        if held is None or len(held[0]["answers"]) < 2:
            return "answers are used that were not saved"
        for queries in (QUERIES[:2], QUERIES[2:], QUERIES[:1]):
            patch.setattr(witness, "_ANSWERED", {})
            drawn: list[int] = []
            add = KeyedNoise.add

            def counted(self: Any, *given: Any, **rest: Any) -> Tensor:  # noqa: ANN401
                drawn.append(rest["release"])  # noqa: B023
                return add(self, *given, **rest)  # noqa: B023

            with patch.context() as kernel:
                kernel.setattr(KeyedNoise, "add", counted)
                try:
                    again = _opened(place, data).ask(queries)
                except LedgerError:
                    if torch.equal(queries, QUERIES[:2]):
                        return "a saved answer is refused"
                    continue
            if drawn:
                return "a release is answered again"
            if not torch.equal(queries, QUERIES[:2]):
                return "another query gets the answer of the first"
            if not torch.equal(again, first):
                return "a query gets another answer"
    return ""


ENSEMBLE: dict[str, Callable[[Path], str]] = {
    "answers of shards": of_shards,
    "other shards": other_shards,
    "odd shards": odd_shards,
    "price of answers": of_price,
    "noise of answers": of_noise,
    "voting replay": voting_replay,
    "voting resume": voting_resume,
}
