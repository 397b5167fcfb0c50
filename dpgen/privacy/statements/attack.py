"""What an attacker can gain at most from all that a statement covers, as numbers and in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from dpgen.privacy.accounting.events import event_from_json
from dpgen.privacy.accounting.relation import Relation
from dpgen.privacy.accounting.trade_off import right_guesses, true_positive_rate
from dpgen.privacy.statements.statement import stated_relation

__all__ = ["RATES", "Attack", "attack_of", "attack_sentences", "percent"]

RATES = (0.001, 0.01)  # false positives, at which an attacker's true ones are told


@dataclass(frozen=True)
class Attack:
    """What an attacker gains at most, who knows all but one unit of the records.

    Args:
        right: share of right guesses at even odds.
        found: by share of false positives, that of true ones.
    """

    right: float
    found: Mapping[float, float]


def attack_of(statement: Mapping[str, Any]) -> Attack:
    """Returns what an attacker gains at most from all that was released: computed from the events
    of the statement, each rate an upper bound.
    """
    relation = stated_relation(statement["guarantee"])
    counted = statement["accounting"]
    # Data sets of a mixture that share no record: an attacker gains from one of them.
    each = [one["events"] for one in counted.get("data_sets", [counted])]
    events = [event_from_json(rows) for rows in each]
    return Attack(
        max(right_guesses(event, relation) for event in events),
        {r: max(true_positive_rate(e, relation, r) for e in events) for r in RATES},
    )


def attack_sentences(statement: Mapping[str, Any]) -> list[str]:
    """Says what epsilon means: what an attacker can gain, at most."""
    attack = attack_of(statement)
    relation = stated_relation(statement["guarantee"])
    who, told = _question(relation)
    found = " and ".join(
        f"{percent(share)} of the true cases at {percent(rate)} false alarms"
        for rate, share in attack.found.items()
    )
    return [
        f"An attacker who knows every other {_known(relation)} and sees all that this guarantee "
        f"covers, now or later, and who has to say {who}, is right at most "
        f"{percent(attack.right)} of the time when both are as likely. A coin is right 50% of the "
        "time.",
        f"An attacker who seldom wants to be wrong finds at most {found}. By guessing alone they "
        f"would find as many as they raise false alarms. A false alarm is {told}.",
    ]


def _question(relation: Relation) -> tuple[str, str]:
    if relation.is_of_teachers:
        return (
            f"which of two {_those(relation)} was in one of the slots",
            "to say the one when it was the other",
        )
    if relation.adjacency == "replace_one":
        return (
            f"which of two {_those(relation)} was in the data",
            "to say the one when it was the other",
        )
    return (
        f"whether one {_those(relation, one=True)} was in the data",
        "to say that it was when it was not",
    )


def _known(relation: Relation) -> str:
    return "teacher" if relation.is_of_teachers else "record"


def _those(relation: Relation, *, one: bool = False) -> str:
    if relation.is_of_teachers:
        return "teacher" if one else "teachers"
    if relation.max_records_per_unit == 1:
        return "record" if one else "records"
    return "person" if one else "people"


def percent(share: float) -> str:
    """Writes a share as it was rounded: 0.00123 is 0.123%.

    >>> percent(0.00123), percent(0.5), percent(1.0), percent(0.1)
    ('0.123%', '50%', '100%', '10%')
    """
    value = Decimal(repr(share)) * 100
    return f"{value.normalize():f}%"
