"""Bugs in the ensemble of teachers: shards that know of each other, votes that are priced as less
than they move, answers that come out without noise or twice.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dpgen.privacy.accounting.events import GaussianLeaf
from dpgen.privacy.ledger.chain import LedgerError
from dpgen.privacy.mechanisms import teachers
from dpgen.privacy.mechanisms.clipping import clip_factors
from dpgen.privacy.mechanisms.ensemble import Ball
from dpgen.privacy.mechanisms.isolation import isolated
from dpgen.privacy.mechanisms.noisy_ensemble import Ensemble
from tests.mutations.bug import Around, Bug, Change

HERE = "dpgen.privacy.mechanisms."
SLOTS, TRAINED, ANSWERS = (
    HERE + name for name in ("teachers.shard_slots", "teachers.trained", "noisy_ensemble.answers")
)
ENSEMBLE = HERE + "noisy_ensemble.Ensemble."
# Where it is used.
KERNEL, SEEN = HERE + "noisy_ensemble.trained", "dpgen.auditing.disjoint.trained"


def constant(value: float) -> Change:
    return lambda original: property(lambda answer: value)


def of_the_radius(original: property) -> property:
    return property(lambda ball: ball.radius)


def leaf(make: Callable[[Any], GaussianLeaf]) -> Change:
    return lambda original: property(make)


def dealt(deal: Callable[[np.ndarray, int], list[np.ndarray]]) -> Change:
    """Shards that are made of the list of slots."""

    def slots(mechanism: Any, records: Any, noise: Any) -> list[np.ndarray]:  # noqa: ANN401
        found = deal(np.arange(records.n_slots), mechanism.n_shards)
        return [one[: mechanism.capacity] for one in found]

    return lambda original: slots


def by_row(slots: np.ndarray, n_shards: int) -> list[np.ndarray]:
    return [slots[k::n_shards] for k in range(n_shards)]


def shuffled(slots: np.ndarray, n_shards: int) -> list[np.ndarray]:
    return by_row(np.random.default_rng(0).permutation(slots), n_shards)


def of_equal_sizes(original: Callable[..., list[np.ndarray]]) -> Callable[..., list[np.ndarray]]:
    """The records in the order of their hashes, cut into pieces of one size."""

    def slots(mechanism: Any, records: Any, noise: Any) -> list[np.ndarray]:  # noqa: ANN401
        whole = replace(mechanism, n_shards=1, n_records=10**9)
        return np.array_split(original(whole, records, noise)[0], mechanism.n_shards)

    return slots


def with_the_actual_number(original: Callable[..., Any]) -> Callable[..., Any]:
    def trained(mechanism: Any, records: Any, *given: Any) -> Any:  # noqa: ANN401
        return original(replace(mechanism, n_records=max(1, records.n_slots)), records, *given)

    return trained


class Centred:
    """Records less the mean of all of them."""

    def __init__(self, records: Any) -> None:  # noqa: ANN401
        self._records, self.n_slots = records, records.n_slots

    def read(self, slots: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
        pixels, labels, valid = self._records.read(slots)
        return pixels - self._records.read(np.arange(self.n_slots))[0].mean(0), labels, valid


def less_the_mean_of_all(original: Callable[..., Any]) -> Callable[..., Any]:
    def trained(mechanism: Any, records: Any, *given: Any) -> Any:  # noqa: ANN401
        return original(mechanism, Centred(records), *given)

    return trained


def of_those_that_answer(original: Callable[..., Any]) -> Callable[..., Any]:
    """A mean over the shards that have a teacher, where the mean of all is meant."""

    def answers(mechanism: Any, found: Any, *given: Any) -> Iterator[Tensor]:  # noqa: ANN401
        factor = len(found) / max(1, sum(teacher is not None for teacher in found))
        return (factor * answer for answer in original(mechanism, found, *given))

    return answers


class NoCopies:
    """In the place of the module `copy`."""

    @staticmethod
    def deepcopy(value: Any) -> Any:  # noqa: ANN401
        return value


def in_company(original: Callable[..., Any]) -> Callable[..., Any]:
    """One stream of random numbers for all shards."""
    return lambda seed: contextlib.nullcontext()


def aloud(original: Callable[..., Any]) -> Callable[..., Any]:
    """An error of a teacher is an error of the run."""

    def trained(fit: Any, shard: Any, seed: int) -> Any:  # noqa: ANN401
        with isolated(seed):
            return copy.deepcopy(fit)(*shard, seed)

    return trained


def raw_scores(original: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return lambda scores, candidates=None: scores.nan_to_num(0, 0, 0)


def unclipped(original: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def deviation(points: Tensor, ball: Any, centre: Tensor | None = None) -> Tensor:  # noqa: ANN401
        return (points if centre is None else points - centre).nan_to_num(0, 0, 0)

    return deviation


def by_coordinate(original: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def deviation(points: Tensor, ball: Any, centre: Tensor | None = None) -> Tensor:  # noqa: ANN401
        away = points if centre is None else points - centre
        return away.nan_to_num(0).clamp(-ball.radius, ball.radius)

    return deviation


def keeping_what_is_no_number(original: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def deviation(points: Tensor, ball: Any, centre: Tensor | None = None) -> Tensor:  # noqa: ANN401
        flat = points.flatten(1)
        return (clip_factors(flat.norm(dim=1), ball.radius)[:, None] * flat).reshape(points.shape)

    return deviation


def without_end(original: property) -> property:
    return property(lambda ensemble: 10**9)


def raw(ensemble: Ensemble, given: Mapping[str, Tensor]) -> Tensor:
    """The sums without noise."""
    found = teachers.answers(ensemble._mechanism, ensemble._teachers, given, ensemble._seed)
    return torch.stack(list(found)).sum(0)


def by_their_margin(original: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Answers count by how much the teachers agree, by the votes before the noise."""

    def ask(ensemble: Ensemble, queries: Tensor, **given: Any) -> Tensor:  # noqa: ANN401
        found = original(ensemble, queries, **given)
        if isinstance(ensemble._mechanism.answer, Ball):
            return found
        first, second = raw(ensemble, {"queries": queries}).topk(2, 1).values.T
        return (first - second)[:, None] * found

    return ask


def among_the_likeliest(original: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The classes that some teacher names are the candidates."""

    def ask(ensemble: Ensemble, queries: Tensor, **given: Any) -> Tensor:  # noqa: ANN401
        if isinstance(ensemble._mechanism.answer, Ball):
            return original(ensemble, queries, **given)
        named = raw(ensemble, {"queries": queries}) > 0
        named[~named.any(1)] = True
        return original(ensemble, queries, candidates=named)

    return ask


def one_noise(original: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """All queries of a round have one noise."""

    def add(source: Any, total: Tensor, std: float, release: int, name: str) -> Tensor:  # noqa: ANN401
        nothing = torch.zeros_like(total)
        return total + source.for_question("").add(nothing, std, release=0, name=name)

    def noised(ensemble: Ensemble, *given: Any) -> Tensor:  # noqa: ANN401
        source = ensemble._noise
        ensemble._noise = Around(source, add)
        found = original(ensemble, *given)
        ensemble._noise = source
        return found

    return noised


def of_no_query(original: Callable[..., Any]) -> Callable[..., Any]:
    """The query is no part of the question."""
    return lambda ensemble, given: [ensemble._question] * len(given["queries"])


def of_one_query(original: Callable[..., Any]) -> Callable[..., Any]:
    """A query is its whole question, whatever it is asked together with."""

    def asking(ensemble: Ensemble, given: Mapping[str, Tensor]) -> list[Any]:
        rows = range(len(given["queries"]))
        return [original(ensemble, {k: v[r : r + 1] for k, v in given.items()})[0] for r in rows]

    return asking


def unsaved(original: Callable[..., None]) -> Callable[..., None]:
    return lambda kept, answers: None


def asked_anew(original: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A resume begins with no answers."""
    return lambda kept: original(kept)[:0]


BUGS = (
    Bug(
        "a moved vote priced as 1",
        "a vote that moves leaves one class and enters another: sqrt 2",
        "ensemble", {HERE + "ensemble.Votes.diameter": constant(1.0)},
    ),
    Bug(
        "an answer priced as its norm",
        "an answer moves from one end of the ball to the other: 2 R",
        "ensemble", {HERE + "ensemble.Ball.diameter": of_the_radius},
    ),
    Bug(
        "a round of queries priced as one",
        "every query is a release of its own, however many are asked at once",
        "ensemble",
        {HERE + "ensemble.NoisyEnsemble._leaf": leaf(
            lambda m: GaussianLeaf(1.0, m.noise_multiplier, 1)
        )},
        LedgerError,
    ),
    Bug(
        "an ensemble priced as if it sampled",
        "an answer depends on all records of its shard at every query: nothing amplifies it",
        "ensemble",
        {HERE + "ensemble.NoisyEnsemble._leaf": leaf(
            lambda m: GaussianLeaf(1 / m.n_shards, m.noise_multiplier, m.n_queries)
        )},
    ),
    Bug(
        "noise on a mean that is taken for noise on a sum",
        "the noise of a sum divided by the number of shards, on a sum",
        "ensemble",
        {HERE + "ensemble.NoisyEnsemble.noise_std": lambda original: property(
            lambda m: m.noise_multiplier * m.answer.diameter / m.n_shards
        )},
    ),
    Bug(
        "shards by row number",
        "a record that is gone moves all later ones to other shards",
        "ensemble", {SLOTS: dealt(by_row)},
    ),
    Bug(
        "shards of a shuffled list",
        "the permutation of one record less is another one",
        "ensemble", {SLOTS: dealt(shuffled)},
    ),
    Bug(
        "shards of one size",
        "every border between two shards moves with one record",
        "ensemble", {SLOTS: of_equal_sizes},
    ),
    Bug(
        "a capacity that follows the records",
        "one record more changes the padding of all shards",
        "ensemble", {TRAINED: with_the_actual_number, KERNEL: with_the_actual_number,
                     SEEN: with_the_actual_number}, place="privacy.mechanisms.teachers.trained",
    ),
    Bug(
        "images less the mean of all records",
        "one record moves what every teacher learns from",
        "ensemble", {TRAINED: less_the_mean_of_all, KERNEL: less_the_mean_of_all,
                     SEEN: less_the_mean_of_all}, place="privacy.mechanisms.teachers.trained",
    ),
    Bug(
        "votes over those that voted",
        "a record in an empty shard changes the weight of all others",
        "ensemble", {ANSWERS: of_those_that_answer},
    ),
    Bug(
        "a teacher that starts from the one before",
        "a record in the first shard reaches all later ones",
        "ensemble", {HERE + "teachers.copy": lambda original: NoCopies},
    ),
    Bug(
        "one stream of random numbers for all teachers",
        "how many a teacher draws depends on its shard, and moves those of the next",
        "ensemble", {HERE + "teachers.isolated": in_company},
    ),
    Bug(
        "settings of the process that a teacher changed are kept",
        "a record decides how exactly the teachers of all later shards compute",
        "ensemble", {HERE + "isolation._unchanged": lambda original: contextlib.nullcontext},
    ),
    Bug(
        "an exception on an odd shard",
        "whether a run stops is an un-noised bit about one shard",
        "ensemble", {HERE + "teachers._trained": aloud},
    ),
    Bug(
        "scores for votes",
        "nothing bounds what a teacher says",
        "ensemble", {HERE + "teachers.vote": raw_scores},
    ),
    Bug(
        "answers that are not clipped",
        "nothing bounds how far an answer is from the centre",
        "ensemble", {HERE + "teachers.deviation": unclipped},
    ),
    Bug(
        "answers clipped number by number",
        "d numbers of at most R together are sqrt(d) R long",
        "ensemble", {HERE + "teachers.deviation": by_coordinate},
    ),
    Bug(
        "NaN and infinity not zeroed in answers",
        "one teacher makes the sum NaN, which everybody sees",
        "ensemble", {HERE + "teachers.deviation": keeping_what_is_no_number},
    ),
    Bug(
        "answers weighted by the margin of un-noised votes",
        "the weights are a function of the votes before the noise",
        "ensemble", {ENSEMBLE + "ask": by_their_margin},
    ),
    Bug(
        "candidates that the teachers choose",
        "the set of candidates is a function of the records without noise",
        "ensemble", {ENSEMBLE + "ask": among_the_likeliest},
    ),
    Bug(
        "more queries than are charged",
        "every answer beyond the price is a release that nobody pays for",
        "ensemble", {ENSEMBLE + "n_left": without_end},
    ),
    Bug(
        "one noise for a round of queries",
        "the difference of two answers has no noise",
        "ensemble", {ENSEMBLE + "_noised": one_noise},
    ),
    Bug(
        "a question without its query",
        "another query in the place of the first gets a second answer under one charge",
        "ensemble", {ENSEMBLE + "_asking": of_no_query},
    ),
    Bug(
        "a question without the rest of its batch",
        "a teacher that sees the others answers one query in two ways under one question",
        "ensemble", {ENSEMBLE + "_asking": of_one_query},
    ),
    Bug(
        "answers used before they are saved",
        "a run that is killed asks again what was already answered and used",
        "ensemble", {"dpgen.data.saved_answers.SavedAnswers.save": unsaved},
    ),
    Bug(
        "a resume that does not look for its answers",
        "a round that was answered is answered anew",
        "ensemble", {"dpgen.data.saved_answers.SavedAnswers.load": asked_anew},
    ),
)  # fmt: skip
