"""The settings of the votes of given teachers: how many queries, and their price.

As many teachers are needed as shards (`dpgen.stages.votes_settings`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from dpgen.images.facts import PublicFacts
from dpgen.privacy.accounting.accountant import Budget
from dpgen.privacy.accounting.calibration import gaussian_mu
from dpgen.privacy.mechanisms.ensemble import FixedEnsemble, Votes
from dpgen.privacy.plan import Plan, Stage, split_budget
from dpgen.stages.votes_settings import DEVIATIONS, LABEL, MARGIN, MOST_QUERIES

USUAL_QUERIES = 100  # of which a refusal says how many teachers they take


@dataclass(frozen=True)
class AskedSettings:
    """The settings of the votes of given teachers.

    Args:
        n_queries: number of images that are voted on; unless given, as many as the budget allows
            with so many teachers, at most 1000, and at most as many as there are.
    """

    n_queries: int | None = None

    def __post_init__(self) -> None:
        if self.n_queries is not None and self.n_queries < 1:
            raise ValueError(f"n_queries of the votes must be at least 1, got {self.n_queries}")

    def affordable(self, facts: PublicFacts, n_images: int, budget: Budget) -> int:
        """Returns the number of queries: the given one, or the most that the teachers allow.

        Raises ValueError, with the numbers, if the noise hides what the teachers agree on.
        """
        k, mu = facts.n_records, gaussian_mu(budget)
        most = math.floor((MARGIN * k * mu / DEVIATIONS) ** 2)
        n = self.n_queries or min(most, MOST_QUERIES, n_images)
        if n > n_images or n_images < facts.n_classes:
            raise ValueError(
                f"{max(n, facts.n_classes)} queries need as many images, at least one per class, "
                f"got {n_images}: name more images, or lower votes.n_queries"
            )
        if n > most or n < facts.n_classes:
            wanted = max(n, facts.n_classes)
            fewest, usual = (
                math.ceil(DEVIATIONS * math.sqrt(q) / (MARGIN * mu))
                for q in (wanted, max(wanted, USUAL_QUERIES))
            )
            raise ValueError(
                f"{wanted} queries at epsilon = {budget.epsilon:g} (mu = {mu:.3g}) need at least "
                f"{fewest} teachers, or the noise hides what they agree on; got {k}, which allow "
                f"{most}, and at least one per class ({facts.n_classes}) is asked. "
                f"{max(wanted, USUAL_QUERIES)} queries need {usual}: find more silos, or "
                "raise epsilon"
            )
        return n

    def plan(self, facts: PublicFacts, n_images: int, budget: Budget) -> Plan:
        """Plans all queries about so many images, which are all that is charged."""
        n = self.affordable(facts, n_images, budget)
        (multiplier,), _ = split_budget(
            budget, facts.relation, shares=[1.0], rate=1.0, n_steps=0, repeats=[n]
        )
        mechanism = FixedEnsemble(Votes(facts.n_classes), facts.n_records, n, multiplier)
        return Plan((Stage(LABEL, mechanism),), facts.relation)
