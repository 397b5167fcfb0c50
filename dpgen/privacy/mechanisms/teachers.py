"""Teachers of disjoint shards: their training, and what each answers to a query.

A shard's answer is a function of that shard, of the batch of queries and of a public seed: every
shard has a copy of the `Fit` and of the queries of its own, random numbers that begin at its own
seed, and the settings that the process had before (`dpgen.privacy.mechanisms.isolation`, which says
what a `Fit` must not do). A teacher that raises, or whose answer is not what was declared, answers
zero: an error would be an un-noised bit about one shard. Errors that are not the records', and
teachers that do not repeat themselves, are found by `rehearse`, on made-up records.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from dpgen.privacy.mechanisms.clipping import clip_factors
from dpgen.privacy.mechanisms.contributions import Records
from dpgen.privacy.mechanisms.ensemble import AnyEnsemble, Ball, NoisyEnsemble, Votes
from dpgen.privacy.mechanisms.isolation import isolated
from dpgen.privacy.mechanisms.noise import NoiseSource
from dpgen.privacy.mechanisms.question import Question
from dpgen.privacy.mechanisms.sharding import Shard, read_shard, shard_slots

N_REHEARSED = 2  # queries of a rehearsal
TENSORS = (Tensor, nn.Parameter)  # what a teacher may answer with
Teacher = Callable[[Tensor], Tensor]


class Fit(Protocol):
    """Trains the teacher of one shard: a frozen dataclass of public numbers and released values
    that is also a function.
    """

    def __call__(self, pixels: Tensor, labels: Tensor, valid: Tensor, seed: int) -> Teacher:
        """Returns the teacher: a function of queries (B, C, H, W) that gives (B, ...), scores of
        the classes for `Votes`, points for `Ball`.

        Args:
            pixels: (capacity, C, H, W) float32 in [-1, 1].
            labels: (capacity,) int64.
            valid: (capacity,) bool; other rows are padding. At least one is valid.
            seed: public seed, a different one for every shard.
        """


def rehearse(
    mechanism: NoisyEnsemble, fit: Fit, shape: tuple[int, int, int], n_classes: int, seed: int
) -> Teacher:
    """Returns a teacher of made-up records that has answered made-up queries. Errors that are not
    the records' show here: it is to be called before a stage is charged.

    Args:
        shape: (C, H, W) of the images.
        n_classes: number of classes of the records.

    Raises:
        TypeError, ValueError: the teacher's answer is not what the mechanism declares, or ``fit``
            cannot be described.
        Exception: whatever ``fit`` and the teacher raise.
    """
    Question.of(fit=fit)
    generator, size = torch.Generator().manual_seed(seed), mechanism.capacity
    pixels, queries = (
        2 * torch.rand(n, *shape, generator=generator) - 1 for n in (size, N_REHEARSED)
    )
    shard = (pixels, torch.arange(size) % n_classes, torch.ones(size, dtype=torch.bool))
    with isolated(seed):
        teacher = copy.deepcopy(fit)(*shard, seed)
    require_answers(mechanism, teacher, queries, seed)
    return teacher


def require_answers(
    mechanism: AnyEnsemble, teacher: Teacher, queries: Tensor, seed: int
) -> None:
    """Raises what the teacher of a rehearsal raises for these queries, and TypeError or ValueError
    when its answers are not what the mechanism declares.
    """
    with isolated(seed):
        answer = teacher(queries.clone())
    with isolated(seed):
        again = teacher(queries.clone())
    if type(answer) not in TENSORS:
        raise TypeError(f"a teacher must answer with a tensor, got {type(answer).__name__}")
    wanted, finite = (len(queries), *mechanism.answer.shape), bool(answer.isfinite().all())
    if tuple(answer.shape) != wanted or not finite:
        raise ValueError(
            f"a teacher of made-up records must answer {len(queries)} queries with finite numbers "
            f"of shape {wanted}, got shape {tuple(answer.shape)}"
            f"{'' if finite else ', not all of them finite'}: correct the function that trains it"
        )
    if not torch.equal(answer, again):
        raise ValueError(
            "a teacher must give the same queries the same answers, and that of made-up records "
            "gave others the second time: let it keep nothing of what it was asked"
        )


def trained(
    mechanism: NoisyEnsemble, records: Records, noise: NoiseSource, fit: Fit, seed: int
) -> list[Teacher | None]:
    """Trains the teacher of every shard; None for one that is empty, or whose training failed."""
    found: list[Teacher | None] = []
    for shard, slots in enumerate(shard_slots(mechanism, records, noise)):
        teacher = None
        if len(slots):
            teacher = _trained(fit, read_shard(mechanism, records, slots), seed_of(seed, shard))
        found.append(teacher)
    return found


def _trained(fit: Fit, shard: Shard, seed: int) -> Teacher | None:
    with _dropped(), isolated(seed):
        # Of its own: a shard must not find what another one has left in it.
        return copy.deepcopy(fit)(*shard, seed)
    return None


def answers(
    mechanism: AnyEnsemble,
    teachers: Sequence[Teacher | None],
    given: Mapping[str, Tensor],
    seed: int,
) -> Iterator[Tensor]:
    """Yields the answers of every shard or slot, (B, ...) float64, each in the declared set.

    THIS IS NOT PRIVATE: only the noised sum over all of them is.

    Args:
        given: ``queries`` (B, C, H, W), and ``centre`` or ``candidates`` if there are any.
    """
    for shard, teacher in enumerate(teachers):
        yield _answer(mechanism, teacher, given, seed_of(seed, shard))


def _answer(
    mechanism: AnyEnsemble, teacher: Teacher | None, given: Mapping[str, Tensor], seed: int
) -> Tensor:
    declared = mechanism.answer
    nothing = torch.zeros(len(given["queries"]), *declared.shape, dtype=torch.float64)
    if teacher is None:
        return nothing
    with _dropped(), isolated(seed):
        answer = teacher(given["queries"].clone())
        # A class of its own may mean something else by the clip or the vote.
        said = answer.detach().double().cpu() if type(answer) in TENSORS else nothing[:0]
        if said.shape == nothing.shape:
            if isinstance(declared, Votes):
                return vote(said, given.get("candidates"))
            return deviation(said, declared, given.get("centre"))
    return nothing


def vote(scores: Tensor, candidates: Tensor | None = None) -> Tensor:
    """Returns one-hot votes, (B, n_classes) float64, for the class of the highest score among the
    candidates; zero where a score is not finite, and where several candidates have the highest: a
    teacher that knows none of them, as in a silo without these classes, would vote for the first.
    """
    able = scores.isfinite().all(1, keepdim=True)
    scores = torch.where(able, scores, 0.0)
    if candidates is not None:
        scores = scores.masked_fill(~candidates, -torch.inf)
    votes = torch.nn.functional.one_hot(scores.argmax(1), scores.shape[1])
    single = (scores == scores.amax(1, keepdim=True)).sum(1, keepdim=True) == 1
    return votes.double() * (able & single)


def deviation(points: Tensor, ball: Ball, centre: Tensor | None = None) -> Tensor:
    """Returns the deviations of points (B, ...) from the centre, each scaled down to the radius;
    zero where one is not finite.
    """
    away = points if centre is None else points - centre.double()
    flat = away.reshape(len(away), -1)
    factors = clip_factors(flat.norm(dim=1), ball.radius)[:, None]
    # Zero times infinity is NaN: such a deviation is dropped, not scaled.
    return (factors * torch.where(factors > 0, flat, 0.0)).reshape(away.shape)


def seed_of(seed: int, shard: int) -> int:
    """Returns the public seed of one shard."""
    return int(np.random.SeedSequence((seed, shard)).generate_state(1)[0])


@contextlib.contextmanager
def _dropped() -> Iterator[None]:
    """Ends the block at whatever it raises, without a word; an interrupt from outside ends the run.
    """
    try:
        yield
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: S110  that a shard failed is a bit about it
        pass
