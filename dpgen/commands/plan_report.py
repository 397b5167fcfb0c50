"""Prints plans and ledgers on the command line: as text and as dictionaries."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from dpgen.commands.estimate import estimate
from dpgen.generator.interface import PrivateGenerator
from dpgen.images.images import PublicFacts
from dpgen.methods.expectation import Expectation, expected
from dpgen.privacy.accounting.accountant import Budget, epsilon_of, round_up
from dpgen.privacy.accounting.events import event_to_json
from dpgen.privacy.accounting.relation import Relation
from dpgen.privacy.statements.notice import Claim, sentences
from dpgen.runs.context import Hardware, Rehearsal

LONG = 3600.0  # seconds of training above which a plan names the way without a GPU


@dataclass(frozen=True)
class PlanReport:
    """The price of a run, and the time and memory that it would take.

    Args:
        epsilon: epsilon of the protected unit, a record or a person.
        record_epsilon: epsilon of a single record at the same noise.
    """

    method: str
    budget: Budget
    facts: PublicFacts
    epsilon: float
    record_epsilon: float
    stages: tuple[dict[str, Any], ...]
    rehearsal: Rehearsal
    settings: dict[str, Any]
    expectation: Expectation

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def text(self) -> str:
        f, width = self.facts, max(14, *(len(stage["label"]) for stage in self.stages))
        lines = [
            f"{self.method} on {f.n_records} records of "
            f"{f.shape[0]}x{f.shape[1]}x{f.shape[2]} in {f.n_classes} classes",
            f"spends epsilon = {self.epsilon:g} of {self.budget.epsilon:g} at "
            f"delta = {self.budget.delta:g} "
            f"({f.relation.phrase}); nothing was charged",
            *self._units(),
            "",
            f"{'stage':{width}}{'releases':>9}{'rate':>9}{'noise / bound':>15}",
        ]
        for stage in self.stages:
            for leaf in stage["events"]:
                lines.append(
                    f"{stage['label']:{width}}{leaf['steps']:>9}{leaf['rate']:>9.4g}"
                    f"{leaf['noise_multiplier']:>15.5g}"
                )
        r = self.rehearsal
        lines += ["", self.expectation.text, "", estimate(r)]
        if r.device == "CPU" and r.seconds > LONG and not self.method.endswith("/sketch"):
            lines.append("there is no GPU here: pge --set mode=sketch takes minutes on a CPU")
        return "\n".join(lines)


    def _units(self) -> list[str]:
        """Describes the price of a record and of a person, and that of clipping by person."""
        m = self.facts.max_records_per_unit
        if m == 1:
            return []
        return [
            f"of one record epsilon = {self.record_epsilon:g}, of a person with {m} records "
            f"{self.epsilon:g} (group price; the bound is {self.facts.unit_bound})",
            "methods clip single records; one that drew people and clipped the sum of a person's "
            f"records would cost {self.record_epsilon:g} at this rate and noise: none does yet; "
            "with one record of each person (--max-records-per-unit 1) a person costs as much",
        ]


@dataclass(frozen=True)
class ClaimReport:
    """The claim of a mode without a guarantee, and its true price."""

    claim: Claim
    facts: PublicFacts

    def to_dict(self) -> dict[str, Any]:
        return {"certified": False, **self.claim.to_dict(), "facts": self.facts.to_dict()}

    def text(self) -> str:
        lines = sentences(self.claim.to_dict())
        return "\n".join([*lines, "nothing was charged; train needs --allow-unverified"])


def plan_report(
    generator: PrivateGenerator, facts: PublicFacts, hardware: Hardware
) -> PlanReport | ClaimReport:
    """Makes the plan of a generator whose settings are resolved; reads nothing private."""
    plan = generator.promise(facts)
    if isinstance(plan, Claim):
        return ClaimReport(plan, facts)
    stages = tuple(
        {"label": s.label, "events": event_to_json(s.mechanism.event), **s.mechanism.settings}
        for s in plan.stages
    )
    return PlanReport(
        generator.mechanism_id,
        generator.budget,
        facts,
        round_up(plan.epsilon(generator.budget.delta)),
        round_up(epsilon_of(plan.event, generator.budget.delta, Relation(facts.adjacency, 1))),
        stages,
        generator.rehearse(facts, hardware),
        asdict(generator.settings),
        expected(plan, facts),
    )
