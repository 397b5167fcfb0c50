"""Methods times budgets times seeds."""
