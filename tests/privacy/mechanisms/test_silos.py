"""Shards that are silos: a record's shard is the silo that it names, whatever else is there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from dpgen.auditing.disjoint import Digesting
from dpgen.privacy.mechanisms.ensemble import Ball, NoisyEnsemble, Votes
from dpgen.privacy.mechanisms.noise import KeyedNoise
from dpgen.privacy.mechanisms.question import Question
from dpgen.privacy.mechanisms.sharding import read_shard, shard_slots
from dpgen.privacy.mechanisms.silos import Silos
from dpgen.privacy.mechanisms.teachers import answers, trained, vote
from dpgen.privacy.statements.recorded import leaf_of
from dpgen.privacy.statements.silos import divided, silos_declared

NAMES = "east", "north", "south", "west"
SILOS = Silos("folder", NAMES, 5)
VOTES = NoisyEnsemble(Votes(3), 4, 6, 2.0, 20, SILOS)
BALL = replace(VOTES, answer=Ball((8,), 1.0))
NOISE = KeyedNoise(bytes(32), "plan")
# Seven records of south, five of east, one of west, none of north; south comes first.
HOMES = [2, 0, 2, 0, 2, 3, 2, 0, 2, 0, 2, 0, 2]
PIXELS = torch.rand(13, 1, 2, 2, generator=torch.Generator().manual_seed(0))


class Siloed:
    """Records 0 to 12, or some of them, in some order."""

    def __init__(self, chosen: Sequence[int] = range(13)) -> None:
        self.chosen, self.n_slots = np.array(chosen), len(chosen)

    def read(self, slots: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
        own = self.chosen[slots]
        return PIXELS[own], torch.from_numpy(own % 3), torch.ones(len(slots), dtype=torch.bool)

    def silo_of(self, slots: np.ndarray) -> np.ndarray:
        return np.array(HOMES)[self.chosen[slots]]


def shards(chosen: Sequence[int] = range(13)) -> list[list[int]]:
    """The records of each shard, by their own numbers, in order."""
    records = Siloed(chosen)
    return [records.chosen[slots].tolist() for slots in shard_slots(VOTES, records, NOISE)]


def test_every_record_is_in_the_shard_of_its_silo_and_none_is_numbered_by_what_is_there() -> None:
    found = shards()
    assert [sorted({HOMES[i] for i in one}) for one in found] == [[0], [], [2], [3]]
    assert [len(one) for one in found] == [5, 0, 5, 1], "a silo of seven has five places"
    # Without the only record of west, and without those that come first, nobody moves.
    assert shards([i for i in range(13) if HOMES[i] != 3])[:3] == found[:3]
    assert shards([i for i in range(13) if HOMES[i] != 2]) == [found[0], [], [], found[3]]


@pytest.mark.parametrize("gone", range(13))
def test_a_record_less_moves_its_own_shard_alone_in_every_bit(gone: int) -> None:
    queries = torch.zeros(2, 1, 2, 2)

    def told(records: Siloed) -> list[Tensor]:
        teachers = trained(BALL, records, NOISE, Digesting(1.0), 0)
        return list(answers(BALL, teachers, {"queries": queries}, 0))

    whole, fewer = told(Siloed()), told(Siloed([i for i in range(13) if i != gone]))
    changed = [k for k, pair in enumerate(zip(whole, fewer, strict=True)) if not torch.equal(*pair)]
    dropped = gone not in shards()[HOMES[gone]]
    assert changed == ([] if dropped else [HOMES[gone]])


def test_the_surplus_of_a_silo_is_dropped_by_a_keyed_hash_and_not_by_its_place() -> None:
    order = np.random.default_rng(3).permutation(13).tolist()
    assert shards(order) == shards()
    other = [
        sorted(slots.tolist())
        for slots in shard_slots(VOTES, Siloed(), KeyedNoise(bytes(range(32)), "plan"))
    ]
    assert other[2] != sorted(shards()[2]) and [len(one) for one in other] == [5, 0, 5, 1]


def test_the_capacity_is_the_declared_one_and_all_shards_are_filled_up_to_it() -> None:
    assert VOTES.capacity == 5 and replace(VOTES, n_records=10**6).capacity == 5
    pixels, _, valid = read_shard(VOTES, Siloed(), shard_slots(VOTES, Siloed(), NOISE)[3])
    assert len(pixels) == 5 and valid.tolist() == [True] + 4 * [False]


def test_records_that_name_no_silo_are_never_divided_by_another_rule() -> None:
    class Bare:
        n_slots, read = 13, Siloed.read
        chosen = np.arange(13)

    class Lost(Siloed):
        def silo_of(self, slots: np.ndarray) -> np.ndarray:
            return np.full(len(slots), -1)

    with pytest.raises(TypeError, match="needs records that each name a silo"):
        shard_slots(VOTES, Bare(), NOISE)
    with pytest.raises(ValueError, match="must be of one of the 4 silos"):
        shard_slots(VOTES, Lost(), NOISE)


def test_a_record_of_an_undeclared_silo_is_refused_by_name() -> None:
    assert SILOS.numbers(["west", "east"]).tolist() == [3, 0]
    with pytest.raises(ValueError, match="record 1 is of silo 'centre', which is not among the 4"):
        SILOS.numbers(["west", "centre"])


def test_silos_cost_what_any_shards_cost_and_are_a_part_of_the_question_and_of_the_charge() -> None:
    hashed = replace(VOTES, silos=None)
    assert VOTES.event == hashed.event == leaf_of(VOTES.settings).event
    assert "shards" not in hashed.settings
    assert VOTES.settings["shards"]["max_records"] == 5
    others = [
        hashed,
        replace(VOTES, silos=replace(SILOS, names=("centre", *NAMES[1:]))),
        replace(VOTES, silos=replace(SILOS, max_records=6)),
        replace(VOTES, silos=replace(SILOS, ids="ward")),
    ]
    for other in others:
        assert other.settings != VOTES.settings
        assert Question.of(mechanism=other).digest != Question.of(mechanism=VOTES).digest
    with pytest.raises(ValueError, match="n_shards must be the number of silos, 4, got 3"):
        replace(VOTES, n_shards=3)


def test_a_statement_says_what_the_shards_are_and_what_was_declared_of_them() -> None:
    assert divided(VOTES.settings).startswith("in the shard of its silo (folder), one of 4; of a")
    assert "keyed hash of itself" in divided(replace(VOTES, silos=None).settings)
    said = silos_declared({"votes": VOTES.settings})
    assert "list of silos (4, by folder)" in said and "its teacher sees (5)" in said
    assert silos_declared({"votes": replace(VOTES, silos=None).settings}) == ""


@pytest.mark.parametrize(
    "wrong", [{"by": "row"}, {"max_records": 0}, {"max_records": True}, {"ids": 3}, None],
)  # fmt: skip
def test_no_proof_covers_shards_of_another_kind(wrong: dict[str, object] | None) -> None:
    shards = None if wrong is None else {**VOTES.settings["shards"], **wrong}
    with pytest.raises(ValueError, match="shards of an ensemble must be silos"):
        leaf_of({**VOTES.settings, "shards": shards})


@pytest.mark.parametrize(
    "wrong", [{"names": ()}, {"names": ("b", "a")}, {"names": ("a", "a")}, {"max_records": 0},
              {"max_records": True}],
)  # fmt: skip
def test_silos_that_are_none_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="silos must be|max_records_per_silo must be"):
        replace(SILOS, **wrong)  # type: ignore[arg-type]


def test_a_teacher_that_finds_several_candidates_likeliest_has_no_vote() -> None:
    scores = torch.tensor([[0.0, 0.0, 1.0], [0.0, 0.0, 1.0], [0.2, 0.5, 0.5]], dtype=torch.float64)
    candidates = torch.tensor([[True, True, False], [True, True, True], [True, False, True]])
    assert vote(scores, candidates).tolist() == [[0, 0, 0], [0, 0, 1], [0, 0, 1]]
    assert vote(scores)[2].tolist() == [0, 0, 0]
