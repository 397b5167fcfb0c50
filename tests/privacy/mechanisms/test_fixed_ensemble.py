"""Given teachers in fixed slots: what one can move, what it costs, and what has no price."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from dpgen.privacy.accounting.accountant import epsilon_of
from dpgen.privacy.accounting.forms import mu_of
from dpgen.privacy.accounting.gaussian import gaussian_epsilon
from dpgen.privacy.accounting.relation import Relation
from dpgen.privacy.mechanisms.ensemble import Ball, FixedEnsemble, NoisyEnsemble, Votes
from dpgen.privacy.mechanisms.noise import KeyedNoise
from dpgen.privacy.plan import Plan, Stage
from dpgen.privacy.statements.proofs import applying
from dpgen.privacy.statements.recorded import leaf_of, require_relation
from tests.relations import ADD_REMOVE, REPLACE_ONE

Kit = Any  # what conftest.py shares
Given = Callable[[Tensor], Tensor] | None
SLOTS = Relation("fixed_slots", 1)
QUERIES = torch.randn(4, 1, 1, 3, generator=torch.Generator().manual_seed(3))
VOTES = FixedEnsemble(Votes(3), n_teachers=5, n_queries=4, noise_multiplier=2.0)
POINTS = FixedEnsemble(Ball((3,), 0.7), n_teachers=5, n_queries=4, noise_multiplier=2.0)


class Held:
    """Slots that hold these teachers."""

    def __init__(self, *teachers: Given) -> None:
        self._teachers = teachers

    def teachers(self) -> Sequence[Given]:
        return self._teachers


def always(*scores: float) -> Callable[[Tensor], Tensor]:
    return lambda queries: torch.tensor(scores).expand(len(queries), len(scores))


def failing(queries: Tensor) -> Tensor:
    raise RuntimeError("the network of this silo cannot do that")


def drawing(queries: Tensor) -> Tensor:
    """Draws as often as it was asked, and prints what it saw."""
    print(queries.sum())
    return torch.rand(len(queries), 3) + torch.rand(7).sum()


OTHERS = (always(0, 1, 0), drawing, drawing, always(0, 0, 9))
EXCHANGED: dict[str, Given] = {
    "none": None, "fails": failing, "NaN": always(math.nan, 1, 0), "no scores": always(1, 0),
    "infinite": always(math.inf, 0, 0), "another": always(0, 0, 5), "draws": drawing,
}  # fmt: skip


def asked(mechanism: FixedEnsemble, noise: Any, *teachers: Given) -> Tensor:  # noqa: ANN401
    return mechanism.ensemble(Held(*teachers), noise, seed=0).ask(QUERIES)


@pytest.mark.parametrize("mechanism", [VOTES, POINTS], ids=["votes", "points"])
@pytest.mark.parametrize("other", EXCHANGED)
def test_lists_that_differ_in_one_slot_move_every_sum_by_at_most_the_diameter(
    mechanism: FixedEnsemble, other: str, kit: Kit
) -> None:
    one = always(9, 0, 0)
    for slot in range(5):
        left = (*OTHERS[:slot], one, *OTHERS[slot:])
        right = (*OTHERS[:slot], EXCHANGED[other], *OTHERS[slot:])
        a, b = (asked(mechanism, kit.Silent(), *teachers) for teachers in (left, right))
        moved = (a - b).flatten(1).norm(dim=1)
        assert a.isfinite().all() and b.isfinite().all()
        assert float(moved.max()) <= mechanism.answer.diameter * (1 + 1e-9)


def test_the_diameter_is_reached_by_an_exchange(kit: Kit) -> None:
    silent = kit.Silent()
    for mechanism, ends in (
        (VOTES, (always(9, 0, 0), always(0, 0, 9))),
        (POINTS, (always(9, 0, 0), always(-9, 0, 0))),
    ):
        a, b = (asked(mechanism, silent, *OTHERS, end) for end in ends)
        assert float((a - b).norm(dim=1).min()) >= 0.99 * mechanism.answer.diameter


def test_a_teacher_that_says_nothing_that_counts_is_as_none(kit: Kit) -> None:
    without = asked(VOTES, kit.Silent(), *OTHERS, None)
    for name in ("fails", "NaN", "no scores"):
        assert torch.equal(asked(VOTES, kit.Silent(), *OTHERS, EXCHANGED[name]), without), name


@pytest.mark.parametrize("m", [1, 3])
def test_an_exchange_costs_one_diameter_and_not_two(m: int) -> None:
    """K public and slots fixed: what is twice under replace_one is once here."""
    mu, floor = mu_of(VOTES.event, Relation("fixed_slots", m))
    assert mu == pytest.approx(m * math.sqrt(4) / 2.0) and floor == 0
    assert mu_of(VOTES.event, Relation("replace_one", m))[0] == pytest.approx(2 * mu)
    wanted = gaussian_epsilon(mu, 1e-5)
    assert epsilon_of(VOTES.event, 1e-5, Relation("fixed_slots", m)) == pytest.approx(wanted)


def test_the_noise_is_what_is_charged(kit: Kit) -> None:
    stds: list[float] = []

    class Heard(KeyedNoise):
        def add(self, total: Tensor, std: float, *, release: int, name: str) -> Tensor:
            stds.append(std)
            return super().add(total, std, release=release, name=name)

    asked(VOTES, Heard(bytes(32), "plan"), *OTHERS, None)
    assert stds == [2.0 * math.sqrt(2.0)] * 4
    ensemble = VOTES.ensemble(Held(*OTHERS, None), kit.Silent(), seed=0)
    ensemble.ask(QUERIES)
    with pytest.raises(RuntimeError, match="1 more would be 1 too many"):
        ensemble.ask(QUERIES[:1])


def test_other_teachers_get_other_noise_for_the_same_question() -> None:
    """Neighbours ask one question, and the difference of their answers must not be that of their
    sums: its noise would be gone."""
    questions = []
    for end in (always(9, 0, 0), always(0, 0, 9)):
        ensemble = VOTES.ensemble(Held(*OTHERS, end), KeyedNoise(bytes(32), "plan"), seed=0)
        questions.append(ensemble._question.digest)
        answer = ensemble.ask(QUERIES)
        questions.append(answer)
    assert questions[0] == questions[2]
    apart = questions[1] - questions[3] - torch.tensor([1.0, 0.0, -1.0])
    assert float(apart.norm(dim=1).min()) > 0.1


def test_a_list_of_another_length_is_no_neighbour_and_gets_no_answer(kit: Kit) -> None:
    with pytest.raises(RuntimeError, match="5 teachers were charged, and there are 4"):
        asked(VOTES, kit.Silent(), *OTHERS)


def test_no_mechanism_is_priced_under_the_relation_of_another(kit: Kit) -> None:
    shards = NoisyEnsemble(Votes(3), 5, 4, 2.0, 20)
    Plan((Stage("votes", VOTES),), SLOTS)
    Plan((Stage("votes", shards),), ADD_REMOVE)
    for mechanism, relation in ((VOTES, ADD_REMOVE), (VOTES, REPLACE_ONE), (shards, SLOTS)):
        with pytest.raises(ValueError, match="has no price for"):
            Plan((Stage("votes", mechanism),), relation)
        with pytest.raises(ValueError, match="has no price for"):
            require_relation({"votes": mechanism.settings}, relation)
    with pytest.raises(ValueError, match="has no price for"):
        Plan((Stage("votes", VOTES), Stage("more", shards)), SLOTS)


def test_the_event_is_rebuilt_from_the_settings_and_no_other_diameter_is_believed() -> None:
    for mechanism in (VOTES, POINTS):
        assert leaf_of(mechanism.settings).event == mechanism.event
        cheaper = mechanism.settings | {"bound": mechanism.answer.diameter / 2}
        with pytest.raises(ValueError, match="must be the diameter"):
            leaf_of(cheaper)
    assert [t.name for t in applying({"votes": VOTES.settings})] == ["A2-T", "F3", "A3"]
    with pytest.raises(ValueError, match="n_teachers"):
        FixedEnsemble(Votes(3), 0, 4, 2.0)
