"""Bugs in what is charged, noted and printed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from decimal import ROUND_FLOOR, Context, Decimal
from typing import Any

from dp_accounting.dp_event import DpEvent
from torch import Tensor

from dpgen.privacy.accounting.events import GaussianLeaf, compose
from dpgen.privacy.accounting.relation import Relation
from dpgen.privacy.ledger.chain import LedgerError
from tests.mutations.bug import Around, Bug

EVENT = "dpgen.privacy.mechanisms.declared.NoisySGD.event"
CURVE = "dpgen.privacy.accounting.accountant._curve"
BEGIN = "dpgen.data.private.PrivateDataset.begin"


def priced(leaf: Callable[[Any], GaussianLeaf]) -> Callable[[property], property]:
    return lambda original: property(lambda mechanism: leaf(mechanism).event)


def at_half_the_rate(mechanism: Any) -> GaussianLeaf:  # noqa: ANN401
    return GaussianLeaf(mechanism.rate / 2, mechanism.noise_multiplier, mechanism.n_steps)


def in_epochs(mechanism: Any) -> GaussianLeaf:  # noqa: ANN401
    n_epochs = max(1, round(mechanism.n_steps * mechanism.rate))
    return GaussianLeaf(mechanism.rate, mechanism.noise_multiplier, n_epochs)


def priced_for(**changes: Any) -> Callable[..., Any]:  # noqa: ANN401
    """Prices under another relation than the one that is asked for."""

    def changed(original: Callable[..., Any]) -> Callable[..., Any]:
        def price(found: Any, relation: Relation, interval: float) -> Any:  # noqa: ANN401
            return original(found, replace(relation, **changes), interval)

        return price

    return changed


def for_nothing(original: Callable[..., DpEvent]) -> Callable[..., DpEvent]:
    return lambda lines: compose([])


def of_the_first(original: Callable[..., DpEvent]) -> Callable[..., DpEvent]:
    def event(lines: Sequence[Any]) -> DpEvent:
        return original([line for line in lines if line["kind"] == "charge"][:1])

    return event


def first_stage(original: Callable[..., None]) -> Callable[..., None]:
    def begin(data: Any, run: str, keys: Any, plan: Any) -> None:  # noqa: ANN401
        original(data, run, keys, replace(plan, stages=plan.stages[:1]))

    return begin


def looking_first(original: Callable[..., None]) -> Callable[..., None]:
    def begin(data: Any, *given: Any) -> None:  # noqa: ANN401
        data._source.read([0])
        original(data, *given)

    return begin


def averaged(original: Callable[..., Any]) -> Callable[..., Any]:
    def release(mechanism: Any, records: Any, noise: Any, **named: Any) -> Any:  # noqa: ANN401
        def second(source: Any, total: Tensor, std: float, t: int, name: str) -> Tensor:  # noqa: ANN401
            return source.add(total, std, release=t + 1, name=name)

        one = original(mechanism, records, noise, **named)
        two = original(mechanism, records, Around(noise, second), **named)
        return {name: (one[name] + two[name]) / 2 for name in one}

    return release


def unnoted(original: Callable[..., None]) -> Callable[..., None]:
    return lambda ledger, *given: None


def by_place(original: Callable[..., str]) -> Callable[..., str]:
    held: list[object] = []  # kept: where one has lain, another could come to lie

    def placed(data: Any) -> str:  # noqa: ANN401
        held.append(data._source)
        return f"{id(data._source):x}"

    return placed


def down(original: Callable[..., float]) -> Callable[..., float]:
    def rounded(epsilon: float, digits: int = 3) -> float:
        context = Context(prec=digits, rounding=ROUND_FLOOR)
        return float(context.create_decimal(Decimal(repr(epsilon))))

    return rounded


BUGS = (
    Bug(
        "price of half the sampling rate",
        "the accountant is fed another rate than the coins",
        "account", {EVENT: priced(at_half_the_rate)},
    ),
    Bug(
        "epochs are charged, steps are run",
        "most releases are not paid for",
        "account", {EVENT: priced(in_epochs)}, LedgerError,
    ),
    Bug(
        "neighbours that replace a record priced as neighbours that add one",
        "replacing moves a sum by twice the bound: twice the mu that is printed",
        "price", {CURVE: priced_for(adjacency="add_remove")},
    ),
    Bug(
        "a person's m records priced as one",
        "together they move a sum by m bounds",
        "price", {CURVE: priced_for(max_records_per_unit=1)},
    ),
    Bug(
        "only the first stage is charged",
        "the others spend what nobody knows of",
        "account", {BEGIN: first_stage}, LedgerError,
    ),
    Bug(
        "the certificate prices only the first stage",
        "epsilon is stated smaller than it is",
        "account", {"dpgen.privacy.statements.statement.charged_event": of_the_first},
    ),
    Bug(
        "epsilon is rounded down",
        "epsilon is stated smaller than it is",
        "account", {"dpgen.privacy.statements.statement.round_up": down},
    ),
    Bug(
        "records are read before they are paid for",
        "whoever stops in between has looked for nothing",
        "account", {BEGIN: looking_first},
    ),
    Bug(
        "a release is made twice and averaged, charged once",
        "half the variance that is paid for",
        "account", {"dpgen.privacy.mechanisms.declared.NoisySum.release": averaged},
        refusal=LedgerError,
    ),
    Bug(
        "releases are not noted in the ledger",
        "nobody can compare what ran with what was paid",
        "account", {"dpgen.privacy.ledger.privacy_ledger.PrivacyLedger.executed": unnoted},
    ),
    Bug(
        "earlier runs do not count",
        "what a data set has spent is the sum of all its runs",
        "account", {"dpgen.privacy.ledger.privacy_ledger.charged_event": for_nothing},
    ),
    Bug(
        "a data set is known by where it lies",
        "a copy of the records begins a ledger of its own",
        "account", {"dpgen.data.private.PrivateDataset._identity": by_place},
    ),
)  # fmt: skip
