r"""The relabelling game: whether a student knows more of one record than a claim allows.

C data sets are played, one for each class k. All records but one are of no declared class; the one
that counts is the same image in all of them, and its label is k. Who learns from D_k can only learn
to say k: the teacher of D_k is that of D_0 with its classes relabelled, by k steps in a circle. A
student that agrees with its own teacher tells the data sets apart, and these differ in one record:
they are neighbours where records are replaced, and two steps apart where one is removed and one
added.

*What the claim allows.* Let a_k be the probability that the student of D_k answers k on a fixed
image, and a the mean over k. If any two of the data sets are (e, d)-indistinguishable, then
a <= (exp(e) + (C - 1) d) / (exp(e) + C - 1) (theorem P3 (d)). Here (e, d) is the claim (epsilon,
delta) itself where records are replaced, and by its definition used twice
(2 epsilon, (1 + exp(epsilon)) delta) where they are added or removed. A mean over images is as
good, as the bound is a constant; images of one run depend on each other, which plays no part in it.

*How it is measured.* A round is C runs with one public seed, one on each data set. Every run has
keys of its own, so that all n runs are independent; images within a run are not, and are never
counted as if they were: X_r in [0, 1] is the share of the images on which the student of run r
agrees. With m the mean of all X_r and A the mean of their expectations, Hoeffding (1963, Theorem 1)
gives, for m >= A,

    P[mean >= m] <= exp(-n kl(m, A)),   kl(m, A) = m ln(m / A) + (1 - m) ln((1 - m) / (1 - A))

*Proof.* For t > 0, exp(t x) <= 1 - x + x exp(t) on [0, 1], as it is convex. So E exp(t sum X_r) is
at most the product of 1 - A_r + A_r exp(t), by independence, which is at most
(1 - A + A exp(t))^n, by the inequality of arithmetic and geometric means. Markov's inequality and
the best t give the bound. QED. The smallest A with exp(-n kl(m, A)) >= alpha is thus a lower bound
of A with confidence 1 - alpha. It needs no runs of one law, so that seeds and classes may differ;
where all agree it is alpha^(1/n), which is what Clopper and Pearson give.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from scipy.optimize import brentq

from dpgen.auditing.stand_ins import N_RECORDS, StandIns, neighbours
from dpgen.data.private import PrivateDataset
from dpgen.images.images import PublicFacts, to_float

ALPHA = 0.01  # how often a claim that holds is accused, at most
ENOUGH, MOST_RUNS = 1.5, 60  # times the claim that runs which all agree would show; runs in all


class Taught(Protocol):
    """A generator that has not learned anything yet, and will have a student."""

    @property
    def student(self) -> Any: ...  # noqa: ANN401

    def fit(
        self, data: PrivateDataset, *, out: Path, seed: int, show: bool,
        hardware: Any,  # noqa: ANN401
    ) -> Any: ...  # noqa: ANN401  # fmt: skip


@dataclass(frozen=True)
class Relabelling:
    """The result of the game.

    agreement: mean share of the images on which students agree with the label of their record.
    low: the least that its expectation can be, with confidence 1 - `ALPHA`.
    allowed: the most that the claim allows.
    certified: epsilon of a record is at least this, with the same confidence.
    detectable: epsilon that would be certified if all runs agreed.
    claimed: the claimed epsilon.
    n_runs: number of runs.
    """

    agreement: float
    low: float
    allowed: float
    certified: float
    detectable: float
    claimed: float
    n_runs: int

    @property
    def passed(self) -> bool:
        return self.certified <= self.claimed

    @property
    def sentence(self) -> str:
        """Says what was seen."""
        return (
            f"students agree with the label of one record on {100 * self.agreement:.1f} % of "
            f"images, {100 * self.allowed:.1f} % allowed by the claim of epsilon = "
            f"{self.claimed:g}; over {self.n_runs} runs this certifies epsilon >= "
            f"{self.certified:.2f}"
        )


def allowed_agreement(
    epsilon: float, delta: float, n_classes: int, *, n_apart: int = 1
) -> float:
    """Computes the most that the mean agreement can be under (epsilon, delta)-DP, at most 1.

    Args:
        n_apart: 1 where the data sets are neighbours, 2 where they have a common neighbour.
    """
    others = n_classes - 1
    if n_apart * epsilon > 700:
        return 1.0
    odds = math.exp(n_apart * epsilon)
    each = delta if n_apart == 1 else (1 + math.exp(epsilon)) * delta
    return min(1.0, (odds + others * each) / (odds + others))


def certified_epsilon(
    agreement: float, delta: float, n_classes: int, *, n_apart: int = 1
) -> float:
    """Computes the smallest epsilon that allows this mean agreement at ``delta``, at least 0: for
    neighbours ln((C - 1)(a - delta) / (1 - a)), and for data sets that are two steps apart the
    logarithm of the root y of (1 - a) y^2 + (C - 1) delta y = (C - 1)(a - delta).
    """
    others, missing = n_classes - 1, 1 - agreement
    gain = others * (agreement - delta)
    if missing <= 0:
        return math.inf
    if gain <= 0:
        return 0.0
    if n_apart == 1:
        return max(0.0, math.log(gain / missing))
    slope = others * delta
    root = (math.sqrt(slope**2 + 4 * missing * gain) - slope) / (2 * missing)
    return max(0.0, math.log(root))


def mean_low(mean: float, n: int, alpha: float) -> float:
    """Returns the lower confidence bound of the mean expectation of ``n`` independent numbers in
    [0, 1] with this mean: the smallest A with n kl(mean, A) <= ln(1 / alpha).
    """
    if mean <= 0:
        return 0.0
    most = math.log(1 / alpha) / n
    if mean >= 1:
        return math.exp(-most)

    def divergence(a: float) -> float:
        return mean * math.log(mean / a) + (1 - mean) * math.log((1 - mean) / (1 - a))

    least = mean * math.exp(-(most + 1) / mean)  # where the first term alone is too much
    return float(brentq(lambda a: divergence(a) - most, least, mean))


def n_rounds(
    claimed: float, delta: float, n_classes: int, n_apart: int, alpha: float = ALPHA
) -> int:
    """Returns the fewest rounds that would show 1.5 times the claim if all runs agreed, within 60
    runs; at least one.
    """
    rounds = 1
    while (rounds + 1) * n_classes <= MOST_RUNS:
        low = mean_low(1.0, rounds * n_classes, alpha)
        if certified_epsilon(low, delta, n_classes, n_apart=n_apart) >= ENOUGH * claimed:
            break
        rounds += 1
    return rounds


def data_sets(facts: PublicFacts, seed: int) -> list[StandIns]:
    """Makes the data sets of the game, one for each class."""
    base = neighbours(facts, seed)[0]
    nobody = torch.full((N_RECORDS,), facts.n_classes)
    others = StandIns(base.pixels, nobody, facts.class_names)
    return [others.ending_in(base.pixels[0], k, replace=True) for k in range(facts.n_classes)]


def apart(facts: PublicFacts) -> int:
    """Returns how many neighbours apart two of these data sets are."""
    return 1 if facts.adjacency == "replace_one" else 2


def relabelling(
    make: Callable[[], Taught], facts: PublicFacts, claimed: float, delta: float, *, seed: int = 0,
    hardware: Any = None,  # noqa: ANN401
    advance: Callable[[], None] = lambda: None, rounds: int | None = None,
) -> Relabelling:  # fmt: skip
    """Plays the game.

    Args:
        make: makes a generator that has learned nothing yet, with the settings that are judged;
            its ``fit`` must be allowed to run.
        facts: facts of the audited run, of at least 2 classes.
        claimed, delta: the claim about one record, under the relation of the facts.
        seed: seed of stand-in records and of the runs' public randomness; each run has fresh keys.
        hardware: hardware that ``fit`` is to use.
        advance: called after each run.
        rounds: number of rounds; unless given, as `n_rounds` says.
    """
    c, n_apart = facts.n_classes, apart(facts)
    rounds = rounds or n_rounds(claimed, delta, c, n_apart)
    probes, found = to_float(neighbours(facts, seed)[0].pixels), []
    for number in range(rounds):
        for k, source in enumerate(data_sets(facts, seed)):
            generator = make()
            with tempfile.TemporaryDirectory() as place:
                generator.fit(
                    PrivateDataset(source, facts=facts), out=Path(place) / "run",
                    seed=seed + number, show=False, hardware=hardware,
                )  # fmt: skip
            found.append(float((generator.student.label(probes) == k).double().mean()))
            advance()
    n, mean = len(found), sum(found) / len(found)
    low = mean_low(mean, n, ALPHA)
    return Relabelling(
        mean, low, allowed_agreement(claimed, delta, c, n_apart=n_apart),
        certified_epsilon(low, delta, c, n_apart=n_apart),
        certified_epsilon(mean_low(1.0, n, ALPHA), delta, c, n_apart=n_apart), claimed, n,
    )  # fmt: skip
