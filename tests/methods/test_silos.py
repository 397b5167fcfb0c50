"""DPSD on silos: neighbour replay of the whole fit, and the same models whatever the folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import pytest

from dpgen import DPSD, Silos
from dpgen.auditing import replay as replays
from dpgen.auditing.stand_ins import StandIns, neighbours
from dpgen.images.images import PublicFacts
from dpgen.networks.fixed.gabor import GaborFeatures
from dpgen.stages import votes
from tests.methods.test_dpsd import BUDGET, tiny

SILOS = Silos("folder", ("a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"), 3)
FACTS = PublicFacts((1, 8, 8), ("a", "b", "c"), 17)
SHOWN = "checks, alone in its class", "copy of another record"


@pytest.fixture(autouse=True)
def few_features(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(votes, "features_for", partial(GaborFeatures, grid=2))


def some(
    shown: Sequence[str], facts: PublicFacts, seed: int
) -> tuple[StandIns, dict[str, StandIns]]:
    base, others = neighbours(facts, seed)
    return base, {name: others[name] for name in shown}


@pytest.mark.parametrize("adjacency", ["add_remove", "replace_one"])
def test_a_record_moves_the_votes_of_its_silo_alone_and_shows_in_nothing_released(
    adjacency: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an audit replays it: of records that each name one of twelve silos."""
    shown = SHOWN if adjacency == "add_remove" else SHOWN[:1]
    monkeypatch.setattr(replays, "neighbours", partial(some, shown))
    settings = tiny().settings
    settings = replace(settings, votes=replace(settings.votes, silos=SILOS))

    def make() -> DPSD:
        return DPSD(budget=BUDGET, settings=replays.hurried(settings))

    facts = replace(FACTS, adjacency=adjacency)
    found = replays.replay(make, facts)
    assert found.passed, (found.moved, found.different, found.outside)
    moved = found.moved["votes"]
    assert set(moved) == set(shown) and max(moved.values()) > 0.5
    assert "votes" not in found.idle
