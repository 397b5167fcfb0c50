"""The budget of a generator: as it is asked for, and settled for a data set."""

from __future__ import annotations

from dpgen.privacy.accounting.accountant import Budget


def asked_budget(budget: Budget | None, epsilon: float | None, delta: float | None) -> Budget:
    """The budget from a constructor's arguments: ``budget``, or ``epsilon`` with or without
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
