"""Teachers of disjoint shards: what a record can move, what it costs, and that no more shows."""

from __future__ import annotations

import itertools
import logging
import math
import random
import warnings
import zlib
from asyncio import CancelledError
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.overrides import _get_current_function_mode_stack

from dpgen.auditing.disjoint import Digesting, disjoint
from dpgen.auditing.games.shard_canaries import ensemble_scores
from dpgen.auditing.oracle import oracle
from dpgen.images.images import PublicFacts
from dpgen.privacy.accounting.accountant import Budget, epsilon_of
from dpgen.privacy.accounting.calibration import gaussian_mu
from dpgen.privacy.accounting.forms import mu_of
from dpgen.privacy.accounting.gaussian import gaussian_epsilon
from dpgen.privacy.accounting.relation import Relation
from dpgen.privacy.mechanisms import noisy_ensemble
from dpgen.privacy.mechanisms.ensemble import Ball, NoisyEnsemble, Votes
from dpgen.privacy.mechanisms.noise import KeyedNoise
from dpgen.privacy.mechanisms.sharding import read_shard, shard_slots
from dpgen.privacy.mechanisms.teachers import answers, rehearse, trained
from dpgen.privacy.plan import split_budget
from dpgen.privacy.statements.recorded import leaf_of
from tests.relations import ADD_REMOVE, REPLACE_ONE

Kit = Any  # what conftest.py shares
ANSWERS = {"votes": Votes(3), "ball": Ball((2, 2), 0.7)}
SHAPE = (1, 1, 3)
FACTS = PublicFacts(SHAPE, ("a", "b"), 24, "add_remove", 1, "declared")
QUERY = torch.zeros(1, *SHAPE)


def made(answer: Votes | Ball = ANSWERS["votes"], **changes: Any) -> NoisyEnsemble:  # noqa: ANN401
    numbers = {"n_shards": 4, "n_queries": 3, "noise_multiplier": 2.0, "n_records": 24}
    return NoisyEnsemble(answer, **(numbers | changes))


@dataclass(frozen=True)
class Mean:
    """Teachers that score the classes by the mean pixels of their shard, whatever is asked."""

    def __call__(
        self, pixels: Tensor, labels: Tensor, valid: Tensor, seed: int
    ) -> Callable[[Tensor], Tensor]:
        mean = pixels[valid].mean(0).flatten()
        return lambda queries: mean.expand(len(queries), 3)


def some(kit: Kit, n: int = 24) -> Any:  # noqa: ANN401
    vectors = torch.randn(n, 3, generator=torch.Generator().manual_seed(0))
    return kit.rows(vectors, [k % 2 for k in range(n)])


def without(kit: Kit, records: Any, one: int) -> Any:  # noqa: ANN401
    kept = torch.arange(records.n_slots) != one
    return kit.Rows(records.pixels[kept], records.labels[kept], records.valid[kept])


class Bare(KeyedNoise):
    """Adds no noise."""

    def add(self, total: Tensor, std: float, *, release: int, name: str) -> Tensor:
        return total.clone()


@pytest.mark.parametrize("kind", ANSWERS)
def test_a_record_moves_a_sum_by_at_most_the_diameter_and_some_by_all_of_it(kind: str) -> None:
    found = oracle(made(ANSWERS[kind]))
    assert found.passed and 0.99 <= found.largest <= 1


@pytest.mark.parametrize("kind", ANSWERS)
def test_a_replaced_record_moves_two_answers_each_by_the_diameter(kind: str) -> None:
    """A person's records move one each; the scores are in diameters, and summed over queries."""
    mechanism, noise = made(ANSWERS[kind], n_queries=2), Bare(bytes(range(32)), "plan")
    there, gone, other = (
        ensemble_scores(mechanism, np.full(3, version), noise) for version in (1.0, 0.0, -1.0)
    )
    assert there - gone == pytest.approx(2.0, abs=1e-4) and (there - gone <= 2).all()
    assert there - other == pytest.approx(4.0, abs=1e-4) and (there - other <= 4).all()


@pytest.mark.parametrize("m", [1, 3])
@pytest.mark.parametrize("adjacency", ["add_remove", "replace_one"])
@pytest.mark.parametrize("n_queries", [1, 100])
def test_the_price_is_that_of_the_theorem_under_every_relation(
    n_queries: int, adjacency: Any, m: int  # noqa: ANN401
) -> None:
    mechanism, relation = made(n_queries=n_queries, noise_multiplier=50.0), Relation(adjacency, m)
    mu = (2 if adjacency == "replace_one" else 1) * m * math.sqrt(n_queries) / 50.0
    assert mu_of(mechanism.event, relation)[0] == pytest.approx(mu, rel=1e-12)
    epsilon = epsilon_of(mechanism.event, 1e-5, relation)
    assert gaussian_epsilon(mu, 1e-5) <= epsilon * (1 + 1e-9)
    assert epsilon == pytest.approx(gaussian_epsilon(mu, 1e-5), rel=1e-3)


@pytest.mark.parametrize(
    ("epsilon", "n_queries", "std"),
    [
        (1.0, 10, 16.7), (1.0, 100, 52.8), (1.0, 1000, 167.0),
        (10.0, 10, 2.24), (10.0, 100, 7.08), (10.0, 1000, 22.4),
    ],
)  # fmt: skip
def test_the_noise_on_votes_is_that_of_the_closed_form(
    epsilon: float, n_queries: int, std: float
) -> None:
    """And what a split of the budget gives to a release that is made as often."""
    budget = Budget(epsilon, 1e-5)
    multiplier = math.sqrt(n_queries) / gaussian_mu(budget)
    votes = made(Votes(10), n_queries=n_queries, noise_multiplier=multiplier)
    assert votes.noise_std == pytest.approx(std, rel=4e-3)
    for relation, moved in ((ADD_REMOVE, 1), (REPLACE_ONE, 2)):
        split, _ = split_budget(
            budget, relation, shares=[1.0], rate=1.0, n_steps=0, repeats=[n_queries]
        )
        assert split[0] == pytest.approx(moved * multiplier, rel=1e-3)
        priced = replace(votes, noise_multiplier=split[0]).event
        assert epsilon_of(priced, 1e-5, relation) <= epsilon


def test_without_a_record_every_other_shard_is_the_same_in_every_bit(kit: Kit) -> None:
    """T22, also where a shard has more records than its capacity."""
    records, noise = some(kit), KeyedNoise(kit.KEY, "plan")
    mechanism = made(n_records=3)
    whole = shard_slots(mechanism, records, noise)
    sizes = [len(slots) for slots in shard_slots(made(), records, noise)]
    assert max(sizes) > mechanism.capacity == max(map(len, whole)), "no shard is full"
    assert sum(sizes) == records.n_slots
    for one in (0, 7, records.n_slots - 1):
        fewer = without(kit, records, one)
        found = shard_slots(mechanism, fewer, noise)
        changed = 0
        for before, after in zip(whole, found, strict=True):
            pairs = zip(
                read_shard(mechanism, records, before), read_shard(mechanism, fewer, after),
                strict=True,
            )  # fmt: skip
            changed += not all(torch.equal(*pair) for pair in pairs)
        own = sum(one in slots.tolist() for slots in whole)
        assert changed == own, "a record that its shard had dropped changes nothing"


def test_a_record_of_no_declared_class_is_in_no_shard_and_takes_no_place(kit: Kit) -> None:
    records, noise, mechanism = some(kit), KeyedNoise(kit.KEY, "plan"), made(n_records=3)
    vectors = records.pixels.reshape(-1, 3)
    labels = [*records.labels.tolist(), *[7] * 24]
    more = kit.rows(torch.cat([vectors, vectors + 1]), labels)
    whole, found = (shard_slots(mechanism, rows, noise) for rows in (records, more))
    assert [x.tolist() for x in found] == [x.tolist() for x in whole]


@dataclass(frozen=True)
class Descending:
    """Teachers that learn by a gradient, from weights that are a field."""

    weights: Tensor

    def __call__(
        self, pixels: Tensor, labels: Tensor, valid: Tensor, seed: int
    ) -> Callable[[Tensor], Tensor]:
        weights = self.weights.clone().requires_grad_(True)
        (weights * pixels[valid].mean(0).flatten()).sum().backward()
        learned = self.weights + weights.grad
        return lambda queries: learned.expand(len(queries), 3)


def test_teachers_learn_by_gradients_and_begin_as_the_fit_that_the_ensemble_was_given(
    kit: Kit,
) -> None:
    """A stage that changes its networks afterwards changes no teacher, and no question."""
    records, ball = some(kit), made(Ball((3,), 9.0))
    with torch.no_grad():
        found = []
        for change in (0.0, 5.0):
            weights = torch.zeros(3)
            ensemble = ball.ensemble(records, Bare(kit.KEY, "plan"), Descending(weights), seed=0)
            weights += change
            found.append(ensemble.ask(QUERY))
    assert torch.equal(*found) and found[0].any()


@dataclass(frozen=True)
class Careless:
    """Teachers that draw from every global generator as often as their shard has records, speak,
    and keep what they have seen.
    """

    seen: list[float] = field(default_factory=list)

    def __call__(
        self, pixels: Tensor, labels: Tensor, valid: Tensor, seed: int
    ) -> Callable[[Tensor], Tensor]:
        warnings.warn(f"{int(valid.sum())} records", stacklevel=1)
        print(pixels)
        logging.getLogger("teachers").critical("%d records", int(valid.sum()))
        for _ in range(int(valid.sum())):
            self.seen.append(random.random() + np.random.rand() + float(torch.rand(())))

        def teacher(queries: Tensor) -> Tensor:
            queries += sum(self.seen)
            return queries.flatten(1) + torch.rand(())

        return teacher


@dataclass(frozen=True)
class Meddling:
    """Teachers that change settings of the process, those of some shards other ones, and answer
    with what they found.
    """

    def __call__(
        self, pixels: Tensor, labels: Tensor, valid: Tensor, seed: int
    ) -> Callable[[Tensor], Tensor]:
        found = settings_found()
        odd = bool(pixels[valid].sum() > 0)
        torch.set_default_dtype(torch.float64 if odd else torch.bfloat16)
        torch.set_num_threads(3 if odd else 2)
        torch.set_deterministic_debug_mode("warn" if odd else "error")
        torch.set_default_device("meta" if odd else "cpu")
        torch.set_autocast_enabled("cpu", odd)
        torch.set_float32_matmul_precision("medium" if odd else "high")
        np.seterr(all="raise" if odd else "ignore")

        def teacher(queries: Tensor) -> Tensor:
            return torch.tensor([[*found, *settings_found()]]).expand(len(queries), -1)

        return teacher


def settings_found() -> list[float]:
    """What Meddling changes, as numbers."""
    read = (
        torch.get_default_dtype(), torch.get_num_threads(), torch.get_deterministic_debug_mode(),
        torch.get_default_device(), torch.is_autocast_enabled("cpu"),
        torch.get_float32_matmul_precision(), sorted(np.geterr().items()),
    )  # fmt: skip
    return [float(zlib.crc32(str(one).encode())) for one in read]


def test_settings_that_a_teacher_changes_are_put_back_for_the_next_one(kit: Kit) -> None:
    before, modes = settings_found(), _get_current_function_mode_stack()
    ball = made(Ball((14,), 1e12))
    found = ball.ensemble(some(kit), Bare(kit.KEY, "plan"), Meddling(), seed=0).ask(QUERY)
    assert settings_found() == before
    assert _get_current_function_mode_stack() == modes, "a mode of the default device is left"
    assert found[0].tolist() == pytest.approx([ball.n_shards * one for one in before] * 2, rel=1e-6)


@pytest.mark.parametrize("fit", [Careless(), Digesting(1.0)], ids=["careless", "digesting"])
def test_a_shard_never_meets_what_another_one_left_behind(
    fit: Any,  # noqa: ANN401
) -> None:
    ball = made(Ball((8,) if isinstance(fit, Digesting) else (3,), 1.0))
    found = disjoint(ball, fit, FACTS)
    assert found.passed and found.farthest > 0.1, found


def test_what_a_teacher_draws_and_says_leaves_no_trace(
    kit: Kit, capsys: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    fit = Careless()
    ensemble = made(Ball((3,), 1.0)).ensemble(some(kit), kit.Silent(), fit, seed=1)
    queries = QUERY.clone()
    ensemble.ask(queries)
    assert random.getstate() == states[0] and np.random.get_state()[1].tolist() == states[1]
    assert torch.equal(torch.get_rng_state(), states[2])
    assert fit.seen == [] and torch.equal(queries, QUERY)
    assert capsys.readouterr() == ("", "") and not recwarn.list and not caplog.records
    logging.getLogger("teachers").warning("heard again")
    assert caplog.messages == ["heard again"]


@dataclass(frozen=True)
class Delicate:
    """Teachers that cannot do with an odd shard: one class, one record, a number that is none."""

    n_classes: int

    def __call__(
        self, pixels: Tensor, labels: Tensor, valid: Tensor, seed: int
    ) -> Callable[[Tensor], Tensor]:
        if valid.sum() < 2 or len(labels[valid].unique()) < self.n_classes:
            error = RuntimeError if valid.sum() < 2 else SystemExit
            raise error(f"no teacher from {int(valid.sum())} records")
        return lambda queries: pixels[valid].sum(0).flatten().expand(len(queries), 3)


@pytest.mark.parametrize(
    ("vectors", "labels", "votes"),
    [
        ([], [], 0),
        ([[1.0, 0, 0]], [0], 0),
        ([[1.0, 0, 0], [2.0, 0, 0]], [0, 0], 0),
        ([[1.0, 0, 0], [math.nan, 0, 0]], [0, 1], 0),
        ([[1.0, 0, 0], [math.inf, 0, 0]], [0, 1], 0),
        ([[1.0, 0, 0], [2.0, 0, 0]], [0, 9], 0),
        ([[1.0, 0, 0], [2.0, 0, 0]], [0, 1], 1),
        ([[k, 0.0, 0] for k in range(1, 20)], [k % 2 for k in range(1, 20)], 1),
    ],
    ids=["empty", "one record", "one class", "no number", "infinite", "no such class", "ordinary",
         "more than the capacity"],
)  # fmt: skip
def test_an_odd_shard_answers_zero_and_stops_nothing(
    vectors: list[list[float]], labels: list[int], votes: int, kit: Kit
) -> None:
    for answer in (Votes(3), Ball((3,), 0.5)):
        mechanism, noise = made(answer, n_shards=1, n_records=4), kit.Silent()
        told = mechanism.ensemble(kit.rows(vectors, labels), noise, Delicate(2), seed=0)
        found = told.ask(QUERY)
        wanted = votes * torch.tensor([[1.0 if isinstance(answer, Votes) else 0.5, 0, 0]])
        assert torch.allclose(found, wanted.double(), atol=1e-4)
        assert noise.stds == [2.0 * answer.diameter], "noise is added to nothing, too"
    assert mechanism.capacity == 16


def test_a_teacher_that_remembers_what_it_was_asked_is_refused_on_made_up_records() -> None:
    """After a resume it would answer the next batch as if it had not been asked the last one."""

    @dataclass(frozen=True)
    class Counting:
        def __call__(self, *shard: Tensor | int) -> Callable[[Tensor], Tensor]:
            asked = itertools.count(1)
            return lambda queries: torch.full((len(queries), 3), float(next(asked)))

    with pytest.raises(ValueError, match="keep nothing of what it was asked"):
        rehearse(made(), Counting(), SHAPE, 2, 0)


def test_every_shard_has_the_same_shape_and_padding_is_marked(kit: Kit) -> None:
    records, noise, mechanism = some(kit, 9), KeyedNoise(kit.KEY, "plan"), made()
    for slots in shard_slots(mechanism, records, noise):
        if len(slots):
            pixels, labels, valid = read_shard(mechanism, records, slots)
            assert len(pixels) == len(labels) == mechanism.capacity
            assert valid.tolist() == [k < len(slots) for k in range(mechanism.capacity)]


def test_the_capacity_follows_the_declared_number_alone(kit: Kit) -> None:
    assert made(n_shards=250, n_records=60_000).capacity == 240 + math.ceil(6 * math.sqrt(240))
    sizes = {len(read_shard(made(), some(kit, n), np.array([0]))[0]) for n in (1, 24)}
    assert sizes == {made().capacity}


def test_shards_belong_to_the_key_and_not_to_the_question(kit: Kit) -> None:
    records, mechanism = some(kit), made()

    def of(noise: KeyedNoise) -> list[list[int]]:
        return [slots.tolist() for slots in shard_slots(mechanism, records, noise)]

    one = KeyedNoise(kit.KEY, "plan")
    assert of(one) == of(one.for_question("another"))
    assert of(one) != of(KeyedNoise(kit.KEY[::-1], "plan")) and of(one) != of(
        KeyedNoise(kit.KEY, "another plan")
    )


def test_one_more_query_than_was_charged_is_refused_and_no_teacher_is_asked(
    kit: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    real = noisy_ensemble.answers
    monkeypatch.setattr(
        noisy_ensemble, "answers",
        lambda m, t, given, seed: (asked.append(len(given["queries"])), real(m, t, given, seed))[1],
    )  # fmt: skip
    ensemble = made().ensemble(some(kit), kit.Silent(), Mean(), seed=0)
    ensemble.ask(QUERY.expand(2, *SHAPE))
    with pytest.raises(RuntimeError, match="answers the 3 queries .* 1 too many"):
        ensemble.ask(QUERY.expand(2, *SHAPE))
    assert asked == [2] and ensemble.n_left == 1
    ensemble.ask(QUERY)
    with pytest.raises(RuntimeError, match="1 too many"):
        ensemble.ask(QUERY)
    assert asked == [2, 1]


def test_every_query_is_a_release_with_the_noise_that_is_priced_and_of_its_own(kit: Kit) -> None:
    """T10, in the noise kernel: two equal queries get two noises, two ensembles repeat one."""
    mechanism, records = made(Ball((3,), 0.25)), some(kit)
    noise = kit.Silent()
    mechanism.ensemble(records, noise, Mean(), seed=0).ask(QUERY.expand(3, *SHAPE))
    assert noise.stds == [2.0 * 0.5] * 3 and sorted(noise.totals) == [
        f"{release} answer" for release in range(3)
    ]
    keyed = KeyedNoise(kit.KEY, "plan")
    found = mechanism.ensemble(records, keyed, Mean(), seed=0).ask(QUERY.expand(3, *SHAPE))
    assert len(found.unique()) == found.numel()
    again = mechanism.ensemble(records, keyed, Mean(), seed=0)
    assert torch.equal(again.ask(QUERY.expand(3, *SHAPE)), found)
    alone = mechanism.ensemble(records, keyed, Mean(), seed=0)
    answers = torch.cat([alone.ask(QUERY) for _ in range(3)])
    assert not torch.isin(answers, found).any(), "other batches are other questions"
    other = mechanism.ensemble(records, keyed, Mean(), seed=5).ask(QUERY.expand(3, *SHAPE))
    assert not torch.isin(other, found).any(), "another seed is another question"


def test_answers_that_were_saved_for_another_batch_are_refused_and_no_teacher_is_asked(
    kit: Kit,
) -> None:
    class OfOne:
        def load(self) -> Tensor:
            return torch.zeros(1, 3, dtype=torch.float64)

    ensemble = made().ensemble(some(kit), None, Mean(), seed=0, kept=OfOne())
    with pytest.raises(RuntimeError, match="first 1 of these 2 queries were answered before"):
        ensemble.ask(QUERY.expand(2, *SHAPE))


def test_votes_go_to_candidates_alone_and_sums_are_whole_numbers(kit: Kit) -> None:
    mechanism, noise = made(n_shards=4), Bare(kit.KEY, "plan")
    votes = mechanism.ensemble(some(kit), noise, Mean(), seed=0)
    candidates = torch.tensor([[True, True, True], [False, True, False]])
    found = votes.ask(QUERY.expand(2, *SHAPE), candidates=candidates)
    assert found.sum(1).tolist() == [4, 4] and found[1].tolist() == [0, 4, 0]
    assert found[0, 0] > 0, "some vote for a class that the second query does not admit"


def test_deviations_are_measured_from_the_centre_and_no_longer_than_the_radius(kit: Kit) -> None:
    mechanism, noise = made(Ball((3,), 0.2), n_shards=1), Bare(kit.KEY, "plan")
    records = some(kit)
    ensemble = mechanism.ensemble(records, noise, Mean(), seed=0)
    mean = records.pixels.mean(0).flatten().double()
    centres = torch.stack([mean - torch.tensor([0.1, 0.0, 0.0]), mean + 5.0])
    near, far = ensemble.ask(QUERY.expand(2, *SHAPE), centre=centres)
    assert near.tolist() == pytest.approx([0.1, 0.0, 0.0], abs=1e-6)
    assert float(far.norm()) == pytest.approx(0.2, rel=2e-5) and float(far.norm()) < 0.2


@pytest.mark.parametrize(
    ("answer", "given", "match"),
    [
        (Votes(3), {"centre": torch.zeros(1, 3)}, "centre must be 1 points of a Ball"),
        (Ball((3,), 1.0), {"centre": torch.zeros(1, 2)}, "centre must be 1 points of a Ball"),
        (Ball((3,), 1.0), {"centre": torch.full((1, 3), math.nan)}, "centre must be finite"),
        (Ball((3,), 1.0), {"candidates": torch.ones(1, 3).bool()}, "candidates must be 1 rows"),
        (Votes(3), {"candidates": torch.zeros(1, 3).bool()}, "at least one class"),
        (Votes(3), {"candidates": torch.ones(1, 3)}, "must be bool"),
    ],
    ids=["centre of votes", "wrong size", "no number", "candidates of a ball", "none", "floats"],
)
def test_a_question_that_does_not_fit_the_answers_is_refused(
    answer: Votes | Ball, given: dict[str, Tensor], match: str, kit: Kit
) -> None:
    ensemble = made(answer).ensemble(some(kit), kit.Silent(), Mean(), seed=0)
    with pytest.raises(ValueError, match=match):
        ensemble.ask(QUERY, **given)
    assert ensemble.n_left == 3


@dataclass(frozen=True)
class Saying:
    """Teachers that all say one thing."""

    answer: Any

    def __call__(
        self, pixels: Tensor, labels: Tensor, valid: Tensor, seed: int
    ) -> Callable[[Tensor], Any]:
        return lambda queries: self.answer


@pytest.mark.parametrize(
    ("said", "error", "match"),
    [
        (torch.zeros(2, 4), ValueError, r"shape \(2, 3\), got shape \(2, 4\)"),
        (torch.full((2, 3), math.nan), ValueError, "not all of them finite"),
        (3.0, TypeError, "must answer with a tensor, got float"),
    ],
    ids=["shape", "no number", "no tensor"],
)
def test_a_mistake_in_a_teacher_is_found_on_made_up_records(
    said: Any, error: type[Exception], match: str, kit: Kit  # noqa: ANN401
) -> None:
    with pytest.raises(error, match=match):
        rehearse(made(), Saying(said), SHAPE, 2, 0)
    with pytest.raises(TypeError, match="frozen dataclasses"):
        rehearse(made(), lambda *shard: None, SHAPE, 2, 0)  # type: ignore[arg-type,return-value]
    # On records it is an answer of zero, and no error.
    found = trained(made(), some(kit), KeyedNoise(kit.KEY, "plan"), Saying(said), 0)
    queries = {"queries": QUERY.expand(2, *SHAPE)}
    assert not torch.stack(list(answers(made(), found, queries, 0))).any()


class Louder(Tensor):
    """A tensor whose products are a thousand times what they should be."""

    @classmethod
    def __torch_function__(
        cls, function: Any, types: Any, args: Any = (), kwargs: Any = None  # noqa: ANN401
    ) -> Any:  # noqa: ANN401
        found = super().__torch_function__(function, types, args, kwargs or {})
        return found + 999 * found if function.__name__ in ("mul", "__mul__") else found


@dataclass(frozen=True)
class Unruly:
    """Teachers that answer with a tensor of a class of its own, or end what is around them."""

    shape: tuple[int, ...]
    ending: str = ""

    def __call__(
        self, pixels: Tensor, labels: Tensor, valid: Tensor, seed: int
    ) -> Callable[[Tensor], Tensor]:
        endings = {"exit": GeneratorExit, "cancel": CancelledError, "stop": KeyboardInterrupt}

        def teacher(queries: Tensor) -> Tensor:
            if self.ending:
                raise endings[self.ending]
            return torch.ones(len(queries), *self.shape).as_subclass(Louder)

        return teacher


@pytest.mark.parametrize("kind", ANSWERS)
def test_no_kind_of_answer_and_no_kind_of_error_says_more_than_an_answer(
    kind: str, kit: Kit
) -> None:
    """But an interrupt, which may come from outside."""
    mechanism, records, noise = made(ANSWERS[kind]), some(kit), KeyedNoise(kit.KEY, "plan")
    shape, queries = mechanism.answer.shape, {"queries": QUERY}
    for ending in ("", "exit", "cancel"):
        found = trained(mechanism, records, noise, Unruly(shape, ending), 0)
        assert not torch.stack(list(answers(mechanism, found, queries, 0))).any(), ending
    found = trained(mechanism, records, noise, Unruly(shape, "stop"), 0)
    with pytest.raises(KeyboardInterrupt):
        list(answers(mechanism, found, queries, 0))
    with pytest.raises(TypeError, match="must answer with a tensor, got Louder"):
        rehearse(mechanism, Unruly(shape), SHAPE, 2, 0)


def test_queries_that_a_teacher_cannot_take_are_an_error_and_cost_no_answer(kit: Kit) -> None:
    @dataclass(frozen=True)
    class Narrow(Mean):
        def __call__(self, *shard: Any) -> Callable[[Tensor], Tensor]:  # noqa: ANN401
            return lambda queries: queries.reshape(len(queries), 3)

    rehearsed = rehearse(made(), Narrow(), SHAPE, 2, 0)
    ensemble = made().ensemble(some(kit), kit.Silent(), Narrow(), seed=0, rehearsed=rehearsed)
    with pytest.raises(RuntimeError, match="invalid for input of size"):
        ensemble.ask(torch.zeros(1, 1, 2, 2))
    assert ensemble.n_left == 3


@pytest.mark.parametrize(
    "change",
    [
        {"n_shards": 0}, {"n_queries": 0}, {"n_queries": 2.0}, {"n_records": 0}, {"n_shards": True},
        {"noise_multiplier": 0.0}, {"noise_multiplier": math.nan},
    ],
)  # fmt: skip
def test_an_ensemble_that_cannot_be_priced_cannot_be_made(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(change))):
        made(**change)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Votes(1), lambda: Ball((3,), 0.0), lambda: Ball((0,), 1.0),
        lambda: Ball((3,), 1e-101), lambda: Ball((3,), 1e101), lambda: Ball((3,), math.nan),
    ],
    ids=["one class", "no radius", "no number", "no square", "infinite square", "not a radius"],
)  # fmt: skip
def test_answers_without_a_diameter_are_refused(make: Callable[[], Any]) -> None:
    with pytest.raises(ValueError):
        make()


@pytest.mark.parametrize("kind", ANSWERS)
def test_every_number_of_an_ensemble_is_in_its_settings_and_gives_its_event(kind: str) -> None:
    mechanism = made(ANSWERS[kind])
    settings = mechanism.settings
    assert leaf_of(settings).event == mechanism.event
    changes: dict[str, Any] = {"n_shards": 5, "n_queries": 9, "noise_multiplier": 3.0}
    for name, value in {**changes, "n_records": 7, "answer": Ball((3,), 9.0)}.items():
        assert replace(mechanism, **{name: value}).settings != settings, name


def test_a_statement_of_an_ensemble_has_the_bound_that_its_answers_have() -> None:
    votes, ball = (made(answer).settings for answer in ANSWERS.values())
    wrong = [
        {**votes, "bound": 1.0},
        {**votes, "answer": ball["answer"]},
        {**ball, "answer": {**ball["answer"], "radius": 0.8}},
        {**votes, "answer": {"answer": "Anything", "n_classes": 3}},
    ]
    for settings in wrong:
        with pytest.raises(ValueError, match="must be the diameter of its answers"):
            leaf_of(settings)
