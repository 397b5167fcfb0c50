"""An audit of a run that asks teachers of disjoint shards: nothing is accused, and mistakes are."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from dpgen.auditing import randomness as randomnesses
from dpgen.auditing.deterministic import of_stage
from dpgen.auditing.games.white_box import one_run, sharpened, two_world
from dpgen.auditing.replay import record
from dpgen.privacy.mechanisms.noise import KeyedNoise
from tests.mutations.ensemble_detectors import FACTS, LABEL, POINTS, VOTES, Voting

pytestmark = pytest.mark.usefixtures("one_thread", "short_audits")
HONEST = KeyedNoise.add


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DPGEN_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(randomnesses, "SHAPES", {"first": (20_000, 1), "second": (200, 100)})


def test_every_finding_about_an_honest_ensemble_passes_and_says_what_was_seen() -> None:
    base, advanced = record(Voting, FACTS), []
    (stage,) = Voting().plan(FACTS).stages
    found = list(of_stage(stage, base, FACTS, 0, lambda: advanced.append(1)))
    assert [one.name.removeprefix(f"{LABEL}: ") for one in found] == [
        "sensitivity", "a record and its shard", "randomness",
        "noise that comes back, and its tails",
    ]  # fmt: skip
    assert all(one.passed for one in found), [one.seen for one in found if not one.passed]
    assert "at most 1 shards" in found[1].seen and len(advanced) == 4


def shared(self: KeyedNoise, total: Tensor, std: float, *, release: int, name: str) -> Tensor:
    """Noise that knows neither the question nor the sum nor the query."""
    nothing = torch.zeros_like(total)
    return total + HONEST(self.for_question(""), nothing, std, release=0, name=name)


def test_games_with_canaries_in_shards_of_their_own_keep_the_claim(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sharp = sharpened(VOTES, "add_remove", mu=1.0)
    assert (sharp.n_releases, sharp.event) == (2, sharpened(POINTS, "add_remove").event)
    found = two_world(sharp, adjacency="add_remove", delta=1e-5, n_runs=60)
    assert found.passed and "2 queries" in found.sentence
    monkeypatch.setattr(KeyedNoise, "add", shared)
    # The sign of a canary turns from query to query: noise that two of them share is gone.
    found = two_world(sharp, adjacency="add_remove", delta=1e-5, n_runs=60)
    assert not found.passed and found.mu_low > 1


def test_the_first_queries_of_a_plan_are_claimed_as_such() -> None:
    found = one_run(VOTES, adjacency="add_remove", delta=1e-5, m=40, n_steps=2)
    assert found.passed and "2 of 4 queries" in found.sentence
