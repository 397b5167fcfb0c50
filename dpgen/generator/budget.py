"""The budget of a generator: as it was requested, and settled for a data set."""

from __future__ import annotations

import copy
from typing import TypeVar

from dpgen.generator.fitted import Fitted
from dpgen.privacy.accounting.accountant import Budget

F = TypeVar("F", bound=Fitted)


def asked_budget(budget: Budget | None, epsilon: float | None, delta: float | None) -> Budget:
    """Makes the budget from a constructor's arguments: ``budget``, or ``epsilon`` with or without
    ``delta``.

    Raises ValueError where both are given, or neither.
    """
    if (budget is None) == (epsilon is None) or (budget is not None and delta is not None):
        raise ValueError(
            "give budget=Budget(epsilon, delta), or epsilon= with or without delta=, got "
            f"budget={budget}, epsilon={epsilon}, delta={delta}"
        )
    if budget is not None:
        return budget
    assert epsilon is not None
    return Budget(float(epsilon)) if delta is None else Budget(float(epsilon), delta)


def settle_budget(generator: Fitted, n_records: int) -> None:
    """Settles the budget of a generator for ``n_records`` records. A budget without a delta is
    settled again for the next data set, unless it was replaced by another.
    """
    budget = generator.budget
    if generator.asked is not None and budget is generator.asked[1]:
        budget = generator.asked[0]
    generator.budget = budget.settled(n_records)
    generator.asked = budget, generator.budget


def with_settled_budget(generator: F, n_records: int) -> F:
    """Returns a copy of the generator whose budget is settled; the generator is not changed."""
    settled = copy.copy(generator)
    settled.budget = generator.budget.settled(n_records)
    return settled
