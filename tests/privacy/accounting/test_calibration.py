"""From a budget to the noise: never over it, close below, or one line that says what is priced."""

from __future__ import annotations

import pytest

from dpgen.privacy.accounting import calibration
from dpgen.privacy.accounting.accountant import SMALLEST_DELTA, Adjacency, Budget, epsilon_of
from dpgen.privacy.accounting.calibration import calibrate, gaussian_mu
from dpgen.privacy.accounting.events import GaussianLeaf, compose
from dpgen.privacy.accounting.gaussian import gaussian_delta
from dpgen.privacy.accounting.relation import Relation
from dpgen.privacy.plan import split_budget
from tests.relations import ADD_REMOVE, REPLACE_ONE

DELTA = 1e-5
RELATIONS: tuple[Adjacency, ...] = ("add_remove", "replace_one")
MNIST = 4096 / 60000, 4394  # rate and steps of 300 epochs
PERSON = Relation("add_remove", 3)
SEVERAL = (ADD_REMOVE, REPLACE_ONE, PERSON)


@pytest.mark.parametrize(("epsilon", "published"), [(1.0, 16.93), (10.0, 2.381)])
def test_calibration_finds_the_published_multipliers(epsilon: float, published: float) -> None:
    found = calibrate(
        lambda x: GaussianLeaf(MNIST[0], x, MNIST[1]).event, Budget(epsilon, DELTA), ADD_REMOVE
    )
    assert found == pytest.approx(published, rel=0.01)


@pytest.mark.parametrize("adjacency", RELATIONS)
@pytest.mark.parametrize(
    ("rate", "steps", "epsilon"),
    [(1.0, 1, 0.05), (1.0, 1, 3.0), (0.2, 20, 0.05), (0.2, 20, 2.0), (0.01, 500, 0.5)],
)
def test_calibration_lands_on_the_safe_side_and_close(
    epsilon: float, adjacency: Adjacency, rate: float, steps: int
) -> None:
    budget = Budget(epsilon, DELTA)
    found = calibrate(lambda x: GaussianLeaf(rate, x, steps).event, budget, Relation(adjacency, 1))
    spent = epsilon_of(GaussianLeaf(rate, found, steps).event, DELTA, Relation(adjacency, 1))
    assert spent <= epsilon
    assert spent >= 0.99 * epsilon


def test_calibration_refuses_a_plan_whose_fixed_part_spends_the_budget() -> None:
    fixed = GaussianLeaf(1.0, 0.5, 1).event
    with pytest.raises(ValueError, match="already spend more"):
        calibrate(
            lambda x: compose([fixed, GaussianLeaf(0.1, x, 10).event]),
            Budget(1.0, DELTA),
            ADD_REMOVE,
        )


def split(
    budget: Budget, relation: Relation, rate: float, n_steps: int, shares: list[float]
) -> float:
    """What the split of a budget spends, as a part of it."""
    releases, sgd = split_budget(budget, relation, shares=shares, rate=rate, n_steps=n_steps)
    events = [GaussianLeaf(1.0, multiplier, 1).event for multiplier in releases]
    if sgd is not None:
        events.append(GaussianLeaf(rate, sgd, n_steps).event)
    return epsilon_of(compose(events), budget.delta, relation) / budget.epsilon


@pytest.mark.parametrize("relation", SEVERAL, ids=["add_remove", "replace_one", "person"])
@pytest.mark.parametrize("epsilon", [1e-6, 1e-3, 1e3, 1e6, 1e9])
@pytest.mark.parametrize("delta", [1e-5, 1e-30, 1e-300])
def test_releases_spend_every_budget_at_every_delta(
    epsilon: float, delta: float, relation: Relation
) -> None:
    part = split(Budget(epsilon, delta), relation, 1.0, 0, [0.7, 0.3])
    assert 0.999 < part <= 1 or (epsilon == 1e-6 and 0.99 < part <= 1)  # five digits of noise


@pytest.mark.parametrize(
    ("relation", "epsilon", "rate", "n_steps"),
    [
        (ADD_REMOVE, 1e-3, 0.1, 40),
        (REPLACE_ONE, 1e-3, 0.01, 500),
        (PERSON, 2e-3, 0.1, 10),
        (ADD_REMOVE, 1e3, 0.1, 40),
        (REPLACE_ONE, 1e3, 0.01, 2000),
        (PERSON, 200.0, 0.1, 10),
    ],
    ids=lambda value: "person" if value == PERSON else str(value),
)
def test_a_sampled_run_spends_the_smallest_and_the_largest_budget(
    relation: Relation, epsilon: float, rate: float, n_steps: int
) -> None:
    assert 0.995 < split(Budget(epsilon, DELTA), relation, rate, n_steps, [0.3]) <= 1


def test_a_sampled_run_spends_a_budget_at_the_smallest_delta() -> None:
    assert 0.99 < split(Budget(1.0, SMALLEST_DELTA), ADD_REMOVE, 0.1, 40, [0.5]) <= 1


@pytest.mark.parametrize("epsilon", [0.9e-3, 1.1e3, 1e6])
def test_a_budget_that_no_sampled_run_is_priced_for_is_refused_in_a_line(epsilon: float) -> None:
    for shares in ([], [0.5]):
        with pytest.raises(ValueError, match=r"^epsilon must lie in 0.001 \.\. 1000 where") as told:
            split(Budget(epsilon, DELTA), ADD_REMOVE, 0.1, 40, shares)
        assert "\n" not in str(told.value)


@pytest.mark.parametrize("delta", [1e-13, 1e-30])
def test_a_delta_that_no_sampled_run_is_priced_for_is_refused_in_a_line(delta: float) -> None:
    with pytest.raises(ValueError, match="^delta must be at least 1e-12 where a method.*pge$"):
        split(Budget(1.0, delta), ADD_REMOVE, 0.1, 40, [0.5])


@pytest.mark.parametrize("epsilon", [1e-7, 1e10])
def test_a_budget_beyond_all_is_refused_in_a_line(epsilon: float) -> None:
    with pytest.raises(ValueError, match=r"^epsilon must lie in 1e-06 \.\. 1e\+09 here, got"):
        split(Budget(epsilon, DELTA), ADD_REMOVE, 1.0, 0, [1.0])


def test_a_search_that_ends_too_low_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is found is priced by the accountant that prints before it is handed out."""
    found = calibration._root
    monkeypatch.setattr(calibration, "_root", lambda *given, **tol: found(*given, **tol) - 0.01)
    event, budget = lambda x: GaussianLeaf(0.2, x, 20).event, Budget(2.0, DELTA)
    multiplier = calibrate(event, budget, ADD_REMOVE)
    assert epsilon_of(event(multiplier / 1.01), DELTA, ADD_REMOVE) > budget.epsilon
    assert epsilon_of(event(multiplier), DELTA, ADD_REMOVE) <= budget.epsilon


def test_a_budget_that_a_plan_cannot_spend_is_refused_with_what_it_can() -> None:
    """One step whose record is drawn once in a million: nothing is lost, however little noise."""
    with pytest.raises(ValueError, match="^epsilon must be at most 0 for this plan, got 1: with"):
        calibrate(lambda x: GaussianLeaf(1e-6, x, 1).event, Budget(1.0, DELTA), ADD_REMOVE)


@pytest.mark.parametrize("epsilon", [0.2, 1.0, 10.0])
def test_mu_is_the_largest_that_stays_within_the_budget(epsilon: float) -> None:
    mu = gaussian_mu(Budget(epsilon, DELTA))
    assert gaussian_delta(epsilon, mu) <= DELTA
    assert gaussian_delta(epsilon, mu * (1 + 2e-6)) > DELTA
    assert mu == pytest.approx({0.2: 0.06133, 1.0: 0.26805, 10.0: 2.00044}[epsilon], abs=1e-5)
