"""Prints plans and ledgers on the command line: as text and as dictionaries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dpgen.commands.estimate import estimate
from dpgen.data.identity import home, known_ledgers
from dpgen.generator.interface import PrivateGenerator
from dpgen.images.images import PublicFacts
from dpgen.privacy.accounting.accountant import Budget, round_up
from dpgen.privacy.accounting.events import event_to_json
from dpgen.privacy.ledger.charges import n_runs
from dpgen.privacy.ledger.known_ledgers import KnownLedger
from dpgen.privacy.ledger.marks import n_shared
from dpgen.privacy.ledger.privacy_ledger import PrivacyLedger
from dpgen.privacy.statements.notice import Claim, sentences
from dpgen.runs.context import Hardware, Rehearsal

LONG = 3600.0  # seconds of training, from which on a plan names the way without a GPU


@dataclass(frozen=True)
class PlanReport:
    """The price of a run and what it would take."""

    method: str
    budget: Budget
    facts: PublicFacts
    epsilon: float
    stages: tuple[dict[str, Any], ...]
    rehearsal: Rehearsal
    settings: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def _drowned(self) -> bool:
        """Whether in every stage one coordinate of the noise exceeds the sum of all records.

        A release of noise multiplier z sums r n records, each at most the bound C long, under noise
        of standard deviation z C; k such releases average it to z / sqrt(k).
        """
        leaves = [leaf for stage in self.stages for leaf in stage["events"]]
        return bool(leaves) and all(
            leaf["noise_multiplier"] > self.facts.n_records * leaf["rate"] * leaf["steps"] ** 0.5
            for leaf in leaves
        )

    def text(self) -> str:
        f = self.facts
        lines = [
            f"{self.method} on {f.n_records} records of "
            f"{f.shape[0]}x{f.shape[1]}x{f.shape[2]} in {f.n_classes} classes",
            f"spends epsilon = {self.epsilon:g} of {self.budget.epsilon:g} at "
            f"delta = {self.budget.delta:g} "
            f"({f.relation.phrase}); nothing was charged",
            "",
            f"{'stage':14}{'releases':>9}{'rate':>9}{'noise / bound':>15}",
        ]
        for stage in self.stages:
            for leaf in stage["events"]:
                lines.append(
                    f"{stage['label']:14}{leaf['steps']:>9}{leaf['rate']:>9.4g}"
                    f"{leaf['noise_multiplier']:>15.5g}"
                )
        if self._drowned:
            lines += [
                "",
                "the noise of every stage is greater than all records together can weigh, and "
                "nothing would be learned: take a greater epsilon or delta",
            ]
        r = self.rehearsal
        lines += [
            "",
            estimate(r),
        ]
        if r.device == "CPU" and r.seconds > LONG and not self.method.endswith("/sketch"):
            lines.append("there is no GPU here: pge --set mode=sketch takes minutes on a CPU")
        return "\n".join(lines)


@dataclass(frozen=True)
class ClaimReport:
    """The claim of a mode without a guarantee, and what is true of it."""

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
    """The plan of a generator whose settings are resolved; reads nothing private."""
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
        stages,
        generator.rehearse(facts, hardware),
        asdict(generator.settings),
    )


def ledger_table(path: Path | None, raised: float | None) -> str:
    """Prints two lines per data set: spent, limit, runs, facts; how many images the installation
    would recognise, and which other data sets have some of them.
    """
    if raised is not None:
        if path is None:
            raise ValueError("--raise needs --ledger FILE: which data set's limit?")
        ledger = PrivacyLedger(path)
        ledger.raise_limit(Budget(raised, ledger.limit.delta))
    known = known_ledgers()
    everyone = known.all()
    shown = everyone if path is None else [known.glance(path)]
    if not shown:
        return f"no data set has been charged here yet ({home() / 'ledgers'})"
    rows = [f"{'data set':18}{'spent':>8}{'limit':>8}{'delta':>9}{'runs':>6}  records, shape"]
    for one in shown:
        if known.glance(one.path).dataset != one.dataset:
            rows.append(f"{one.dataset:18}is not there: {one.path}")
        else:
            rows.append(_row(one.path))
        rows.append(f"{'':18}{_marked(one, everyone)}")
    return "\n".join(rows)


def _row(path: Path) -> str:
    ledger = PrivacyLedger(path)
    lines, limit = ledger.lines(), ledger.limit
    facts = PublicFacts.from_dict(ledger.facts)
    return (
        f"{ledger.dataset:18}{round_up(ledger.spent()):>8g}{limit.epsilon:>8g}"
        f"{limit.delta:>9g}{n_runs(lines):>6}  "
        f"{facts.n_records}, {facts.shape}  {path}"
    )


def _marked(one: KnownLedger, everyone: Sequence[KnownLedger]) -> str:
    """Says what is known of the records of a ledger."""
    if one.missing:
        return "marks of its records are lost: no run begins here before they are restored"
    if one.marks is None:
        return (
            "no marks of its records here: data that share some are not recognised before a run "
            "on this very data set, which may be refused, has made them"
        )
    marks = one.marks.all
    told = [f"{len(marks)} different images marked"]
    for other in everyone:
        if other.marks is not None and other.dataset != one.dataset:
            shared = n_shared(marks, other.marks.all)
            if shared:
                told.append(f"{shared} of them also in {other.dataset}")
    return ", ".join(told)
