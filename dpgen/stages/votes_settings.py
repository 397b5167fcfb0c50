"""The settings of the votes: how many shards, how many queries, and their price.

Votes, and corrections in their place, ask for as many shards. K teachers, of which a share of 0.8
more is for the first of two classes than for the second, part their counts by 0.8 K, under noise of
2 m on the difference, m the noise multiplier: sqrt 2 for two counts, sqrt 2 for the diameter. A
correction of length R along the line between the two classes parts them by sqrt 2 R, which makes
0.8 sqrt 2 R K in all, under noise of sqrt 2 times 2 R m. Both ratios are 0.4 K / m.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Self

from dpgen.images.facts import PublicFacts
from dpgen.privacy.accounting.accountant import Budget
from dpgen.privacy.accounting.calibration import gaussian_mu
from dpgen.privacy.mechanisms.ensemble import Ball, NoisyEnsemble, Votes
from dpgen.privacy.mechanisms.silos import Silos
from dpgen.stages.classifier_settings import features_for

LABEL = "votes"  # name that all queries are charged by
MODES = "label", "data"
MOST_QUERIES = 1000
# Of the difference of two noised counts: with it the class of the most votes has the most after the
# noise in 95 % of cases among ten, and with a margin of 0.8 K votes K = 6.375 noise multipliers.
DEVIATIONS, MARGIN = 5.1, 0.8


@dataclass(frozen=True)
class VoteSettings:
    """The settings of the votes.

    Args:
        share: share of mu^2 of all queries together, in (0, 1); unless given, that of the method.
        n_shards: number of shards, each with a teacher; unless given, the root of the number of
            records, rounded.
        n_queries: number of drawn images that are voted on; unless given, as many as the budget
            allows with these shards, at most 1000.
        n_rounds: number of rounds in which they are asked: later ones are about images that the
            student is less sure of; unless given, as many as the method has.
        n_candidates: classes that may be voted for, those that the student finds likeliest; in the
            first round, in which there is no opinion yet, all may.
        n_drawn: images that are drawn for each that is asked about.
        radius: in mode "data", the longest correction of the student's probabilities by a teacher,
            l2, in (0, sqrt 2].
        ridge: strength of the penalty of a teacher, relative to the mean square of its features.
        silos: the silos that are the shards; they come with the data that are opened with silos,
            and are not set.
    """

    share: float | None = None
    n_shards: int | None = None
    n_queries: int | None = None
    n_rounds: int | None = None
    n_candidates: int = 3
    n_drawn: int = 10
    radius: float = 0.5
    ridge: float = 0.1
    silos: Silos | None = None

    def __post_init__(self) -> None:
        if self.share is not None and not 0 < self.share < 1:
            raise ValueError(f"share of the votes must lie in (0, 1), got {self.share}")
        for name, least in (
            ("n_shards", 2), ("n_queries", 1), ("n_rounds", 1), ("n_candidates", 2), ("n_drawn", 1),
        ):  # fmt: skip
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"{name} of the votes must be at least {least}, got {value}")
        if not 0 < self.radius <= math.sqrt(2.0):
            raise ValueError(
                f"radius of the votes must lie in (0, sqrt 2], sqrt 2 being the distance of two "
                f"classes, got {self.radius}"
            )
        if not 0 < self.ridge < math.inf:
            raise ValueError(f"ridge of the votes must be greater than 0, got {self.ridge}")

    def of(self, silos: Silos | None) -> Self:
        """Returns these settings for data with these silos, each of which is a shard. Raises
        ValueError for settings of another number of shards, or of other silos.
        """
        if self.silos not in (None, silos):
            raise ValueError(
                "votes.silos are those of the data, and these are others: open the data as they "
                "were (--silo, --silos, --max-records-per-silo), and set no votes.silos"
            )
        if silos is None:
            return self
        if self.n_shards not in (None, len(silos.names)):
            raise ValueError(
                f"votes.n_shards must be the number of silos, {len(silos.names)}, got "
                f"{self.n_shards}: drop it, or drop --silo for shards by a keyed hash"
            )
        return replace(self, silos=silos, n_shards=len(silos.names))

    def resolved(self, facts: PublicFacts, *, share: float, n_rounds: int) -> Self:
        """Returns these settings with nothing left open that does not depend on the budget; share
        and rounds are those of the method. Raises ValueError for images that have no features, or
        for fewer classes than one can vote on.
        """
        features_for(facts.shape)
        if facts.n_classes < 2:
            raise ValueError("votes need records of at least 2 classes, got 1: take pge")
        return replace(
            self,
            share=self.share or share,
            n_shards=self.n_shards or max(2, round(math.sqrt(facts.n_records))),
            n_rounds=self.n_rounds or n_rounds,
        )

    def affordable(self, facts: PublicFacts, budget: Budget) -> int:
        """Returns the number of queries: the given one, or the most that the shards allow.

        Raises ValueError, with the numbers, if the noise hides what the shards agree on.
        """
        assert self.n_shards is not None and self.share is not None
        moved = 2.0 if facts.relation.adjacency == "replace_one" else 1.0
        moved *= facts.relation.max_records_per_unit
        mu = gaussian_mu(budget) * math.sqrt(self.share) / moved
        most = math.floor((MARGIN * self.n_shards * mu / DEVIATIONS) ** 2)
        n = self.n_queries or min(most, MOST_QUERIES)
        if n > most or n < facts.n_classes:
            wanted = max(n, facts.n_classes)
            of_silos = "" if self.silos is None else ", one for each silo"
            fewest = math.ceil(DEVIATIONS * math.sqrt(wanted) / (MARGIN * mu))
            raise ValueError(
                f"{wanted} queries at mu = {mu:.3g} need at least {fewest} shards, or the noise "
                f"hides what they agree on; got {self.n_shards}{of_silos}, which allow "
                f"{most} queries, and at least one per class ({facts.n_classes}) is asked: "
                f"{'set votes.n_shards' if self.silos is None else 'drop --silo'}, lower "
                "votes.n_queries, raise votes.share or epsilon, or take dpdfd, whose teacher needs "
                "no shards"
            )
        return n

    def mechanism(
        self, mode: str, n_queries: int, noise_multiplier: float, facts: PublicFacts
    ) -> NoisyEnsemble:
        """Returns the ensemble that is charged: of votes, or in mode "data" of corrections."""
        assert self.n_shards is not None
        n = facts.n_classes
        answer = Ball((n,), self.radius) if mode == "data" else Votes(n)
        return NoisyEnsemble(
            answer, self.n_shards, n_queries, noise_multiplier, facts.n_records, self.silos
        )

    def hurried(self) -> Self:
        """Returns settings that cut short what is free, for the audit."""
        return replace(self, n_drawn=min(self.n_drawn, 2))
