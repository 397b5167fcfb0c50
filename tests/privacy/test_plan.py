from __future__ import annotations

import math
from typing import Any

import pytest

from dpgen.privacy.accounting.accountant import Adjacency, Budget, epsilon_of
from dpgen.privacy.accounting.calibration import gaussian_mu
from dpgen.privacy.accounting.events import GaussianLeaf, compose, leaves
from dpgen.privacy.accounting.relation import Relation
from dpgen.privacy.mechanisms.declared import NoisySGD, NoisySum
from dpgen.privacy.plan import Plan, SpentBudget, Stage, split_budget
from tests.relations import ADD_REMOVE

Kit = Any  # what conftest.py shares

BUDGET = Budget(1.0, 1e-5)


def spent(
    releases: list[float], sgd: float | None, rate: float, n_steps: int, adjacency: Adjacency
) -> float:
    events = [GaussianLeaf(1.0, multiplier, 1).event for multiplier in releases]
    if sgd is not None:
        events.append(GaussianLeaf(rate, sgd, n_steps).event)
    return epsilon_of(compose(events), BUDGET.delta, Relation(adjacency, 1))


@pytest.mark.parametrize("adjacency", ["add_remove", "replace_one"])
@pytest.mark.parametrize("shares", [[], [0.1], [0.35, 0.35], [0.5, 0.5], [1.0]])
def test_a_split_spends_the_budget_and_never_more(
    shares: list[float], adjacency: Adjacency
) -> None:
    relation = Relation(adjacency, 1)
    releases, sgd = split_budget(BUDGET, relation, shares=shares, rate=0.1, n_steps=20)
    total = spent(releases, sgd, 0.1, 20, adjacency)
    assert 0.99 * BUDGET.epsilon <= total <= BUDGET.epsilon
    assert (sgd is None) == (sum(shares) == 1)


@pytest.mark.parametrize(("adjacency", "sensitivity"), [("add_remove", 1.0), ("replace_one", 2.0)])
def test_every_release_gets_its_share_of_mu_squared(
    adjacency: Adjacency, sensitivity: float
) -> None:
    shares = [0.2, 0.05]
    releases, _ = split_budget(BUDGET, Relation(adjacency, 1), shares=shares, rate=0.1, n_steps=20)
    for share, multiplier in zip(shares, releases, strict=True):
        mu = sensitivity / multiplier
        assert mu <= gaussian_mu(BUDGET) * math.sqrt(share)
        assert mu == pytest.approx(gaussian_mu(BUDGET) * math.sqrt(share), rel=2e-4)


@pytest.mark.parametrize("shares", [[0.0], [-0.1], [0.6, 0.6], [math.nan]])
def test_shares_that_do_not_fit_are_refused(shares: list[float]) -> None:
    with pytest.raises(ValueError, match="shares must be"):
        split_budget(BUDGET, ADD_REMOVE, shares=shares, rate=0.1, n_steps=20)


def test_steps_are_needed_for_what_the_shares_leave_over() -> None:
    with pytest.raises(ValueError, match="n_steps must be"):
        split_budget(BUDGET, ADD_REMOVE, shares=[0.5], rate=0.1, n_steps=0)


def plan(kit: Kit, adjacency: Adjacency = "add_remove", **changes: float) -> Plan:  # noqa: ANN401
    numbers = {"rate": 0.1, "n_steps": 20, "noise_multiplier": 3.0, "n_records": 9} | changes
    stages = (
        Stage("means", NoisySum(kit.Echo(), 6.0)),
        Stage("spread", NoisySum(kit.Echo(bound=1.0), 6.0)),
        Stage("teacher", NoisySGD(**numbers)),  # type: ignore[arg-type]
    )
    return Plan(stages, Relation(adjacency, 1))


def test_the_event_of_a_plan_is_the_events_of_its_mechanisms_and_of_its_charges(kit: Kit) -> None:
    p = plan(kit)
    assert leaves(p.event) == [GaussianLeaf(1.0, 6.0, 2), GaussianLeaf(0.1, 3.0, 20)]
    assert leaves(compose(stage.charge.event for stage in p.stages)) == leaves(p.event)
    assert p.epsilon(1e-5) == epsilon_of(p.event, 1e-5, ADD_REMOVE)
    assert plan(kit, "replace_one").epsilon(1e-5) > 1.5 * p.epsilon(1e-5)


@pytest.mark.parametrize(
    "change",
    [
        {"rate": 0.2},
        {"n_steps": 21},
        {"noise_multiplier": 3.1},
        {"n_records": 10},
        {"clip_norm": 2.0},
    ],
)
def test_a_changed_number_changes_the_charge(change: dict[str, float], kit: Kit) -> None:
    before, after = plan(kit).stages[-1].charge, plan(kit, **change).stages[-1].charge
    assert before.plan != after.plan
    assert before.label == after.label


def test_a_changed_bound_changes_the_charge_though_not_the_price(kit: Kit) -> None:
    one, other = (Stage("means", NoisySum(kit.Echo(bound=b), 6.0)).charge for b in (1.0, 2.0))
    assert one.plan != other.plan
    assert leaves(one.event) == leaves(other.event)


def test_stages_are_found_by_name_and_names_differ(kit: Kit) -> None:
    p = plan(kit)
    assert p.mechanism("teacher", NoisySGD) is p.stages[-1].mechanism
    assert p.mechanism("student", NoisySum) is None
    assert p.required("teacher", NoisySGD) is p.stages[-1].mechanism
    with pytest.raises(TypeError, match="must have a stage 'student', and has none"):
        p.required("student", NoisySum)
    with pytest.raises(TypeError, match="'teacher' must be a NoisySum, got NoisySGD"):
        p.mechanism("teacher", NoisySum)
    with pytest.raises(ValueError, match="labels must differ"):
        Plan((p.stages[0], p.stages[0]), ADD_REMOVE)


def test_a_split_on_record_is_repeated_and_never_stretched_to_other_stages() -> None:
    shares = [0.1, 0.3]
    releases, sgd = split_budget(BUDGET, ADD_REMOVE, shares=shares, rate=0.1, n_steps=20)
    assert sgd is not None
    held = SpentBudget(BUDGET.epsilon, BUDGET.delta, (*releases, sgd))
    again = split_budget(held, ADD_REMOVE, shares=shares, rate=0.1, n_steps=20)
    assert again == (releases, sgd)
    with pytest.raises(ValueError, match="3 releases are planned and 2 were charged"):
        split_budget(held, ADD_REMOVE, shares=[0.1, 0.1, 0.2], rate=0.1, n_steps=20)
    with pytest.raises(ValueError):
        split_budget(held, ADD_REMOVE, shares=[0.1, 0.4], rate=0.1, n_steps=20)


def test_a_split_on_record_without_dp_sgd_is_repeated() -> None:
    releases, _ = split_budget(BUDGET, ADD_REMOVE, shares=[0.5, 0.5], rate=0.1, n_steps=0)
    held = SpentBudget(BUDGET.epsilon, BUDGET.delta, tuple(releases))
    again = split_budget(held, ADD_REMOVE, shares=[0.5, 0.5], rate=0.1, n_steps=0)
    assert again == (releases, None)
