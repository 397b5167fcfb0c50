"""Other forms of a guarantee: each an upper bound, and none far from what is true."""

from __future__ import annotations

import math

import numpy as np
import pytest

from dpgen.privacy.accounting import accountant as accounting
from dpgen.privacy.accounting.accountant import (
    Adjacency,
    delta_of,
    epsilon_of,
    gaussian_delta,
    round_up,
)
from dpgen.privacy.accounting.events import GaussianLeaf, compose, leaves
from dpgen.privacy.accounting.forms import DELTA_FLOOR, mu_of, profile_of, units_of
from dpgen.privacy.accounting.relation import Relation
from dpgen.privacy.statements.statement import accounting_of
from tests.relations import ADD_REMOVE, REPLACE_ONE

DELTA = 1e-5
RELATIONS = (ADD_REMOVE, REPLACE_ONE)
SAMPLED = GaussianLeaf(0.1, 3.0, 30).event
MIXED = compose([GaussianLeaf(1.0, 6.0, 1).event, GaussianLeaf(0.1, 4.0, 30).event])


@pytest.mark.parametrize(("adjacency", "moved"), [("add_remove", 1), ("replace_one", 2)])
@pytest.mark.parametrize("m", [1, 3])
def test_mu_of_unsampled_releases_is_exact_and_holds_at_every_delta(
    adjacency: Adjacency, moved: int, m: int
) -> None:
    """Squares add up: sqrt(4 / 6**2 + 1 / 12**2)."""
    event = compose([GaussianLeaf(1.0, 6.0, 4).event, GaussianLeaf(1.0, 12.0, 1).event])
    mu, floor = mu_of(event, Relation(adjacency, m))
    assert mu == pytest.approx(moved * m * math.sqrt(17) / 12, rel=1e-12)
    assert floor == 0.0


@pytest.mark.parametrize("event", [SAMPLED, MIXED])
@pytest.mark.parametrize("relation", [*RELATIONS, Relation("add_remove", 3)])
def test_mu_of_a_sampled_run_bounds_its_curve_down_to_the_floor_and_is_no_larger_than_needed(
    event: object, relation: Relation
) -> None:
    mu, floor = mu_of(event, relation)  # type: ignore[arg-type]
    assert floor == DELTA_FLOOR
    curve, tight = accounting._curve(tuple(leaves(event)), relation, 1e-4), False  # type: ignore[arg-type]
    assert curve is not None
    last = curve.get_epsilon_for_delta(1e-12)
    for epsilon in np.linspace(0.0, last, 23):
        found = curve.get_delta_for_epsilon(float(epsilon))
        bound = gaussian_delta(float(epsilon), mu) if epsilon else math.erf(mu / math.sqrt(8))
        assert found <= max(bound, floor) * (1 + 1e-6)
        less = gaussian_delta(max(float(epsilon), 1e-9), 0.98 * mu)
        tight |= found > max(less, floor)
    assert tight


def test_the_floor_matters_for_sampled_runs() -> None:
    """Over all deltas a sampled run is only sqrt(T) / sigma-GDP: at rate 0.01, ten times more."""
    event = GaussianLeaf(0.01, 1.0, 100).event
    mu, _ = mu_of(event, ADD_REMOVE)
    assert mu < 0.3 * math.sqrt(100) / 1.0
    assert mu > 0.01 * math.sqrt(100 * math.expm1(1.0))  # the central limit, at deltas that matter


def test_mu_of_a_run_of_a_large_loss_is_near_that_of_its_noise() -> None:
    """Its curve begins at 1, give or take the rounding: no mu of ten thousand."""
    event = compose([GaussianLeaf(1.0, 0.06, 1).event, GaussianLeaf(0.5, 4.0, 40).event])
    mu, _ = mu_of(event, ADD_REMOVE)
    assert 1 / 0.06 <= mu <= 25.0


@pytest.mark.parametrize("event", [GaussianLeaf(1.0, 3.0, 1).event, SAMPLED])
@pytest.mark.parametrize("relation", [*RELATIONS, Relation("add_remove", 4)])
def test_the_profile_has_five_points_each_an_upper_bound(
    event: object, relation: Relation
) -> None:
    epsilon = round_up(epsilon_of(event, DELTA, relation))  # type: ignore[arg-type]
    profile = profile_of(event, epsilon, relation)  # type: ignore[arg-type]
    assert [e for e, _ in profile] == [epsilon * x for x in (0.25, 0.5, 1.0, 1.5, 2.0)]
    for at, delta in profile:
        exact = max(delta_of(event, at, relation), DELTA_FLOOR)  # type: ignore[arg-type]
        assert exact * (1 - 1e-9) <= delta <= exact * 1.1
    assert profile[2][1] <= DELTA * 1.03
    deltas = [delta for _, delta in profile]
    assert deltas == sorted(deltas, reverse=True)


def test_the_group_of_a_statement_is_the_price_of_the_same_run_for_larger_units() -> None:
    told = units_of(MIXED, DELTA, ADD_REMOVE)
    assert list(told) == ["2", "5", "10"]
    for m, epsilon in told.items():
        exact = epsilon_of(MIXED, DELTA, Relation("add_remove", int(m)))
        assert isinstance(epsilon, float) and exact * (1 - 1e-9) <= epsilon <= exact * 1.015
    other = units_of(MIXED, DELTA, Relation("add_remove", 5))
    assert list(other) == ["1", "2", "10"] and other["10"] == told["10"]
    assert other["1"] == round_up(epsilon_of(MIXED, DELTA, ADD_REMOVE))


def test_a_group_without_a_proof_or_a_bound_says_so() -> None:
    assert units_of(SAMPLED, DELTA, REPLACE_ONE) == {"2": None, "5": None, "10": None}
    exact = units_of(GaussianLeaf(1.0, 40.0, 1).event, DELTA, REPLACE_ONE)
    assert exact["5"] == round_up(
        epsilon_of(GaussianLeaf(1.0, 8.0, 1).event, DELTA, REPLACE_ONE)
    )
    assert units_of(GaussianLeaf(0.1, 0.19, 1).event, DELTA, ADD_REMOVE)["10"] == "infinity"


def test_nothing_costs_nothing_in_every_form() -> None:
    nothing = compose([])
    assert mu_of(nothing, ADD_REMOVE) == (0.0, 0.0)
    assert set(units_of(nothing, DELTA, ADD_REMOVE).values()) == {0.0}


def test_a_statement_of_a_person_says_so_in_every_number() -> None:
    person = accounting_of(MIXED, DELTA, Relation("add_remove", 5))
    record = accounting_of(MIXED, DELTA, ADD_REMOVE)["guarantee"]
    guarantee = person["guarantee"]
    assert guarantee["unit"] == "person" and guarantee["max_records_per_unit"] == 5
    assert guarantee["epsilon"] == pytest.approx(record["group"]["5"], rel=0.01)
    assert guarantee["mu_gdp"] > 4.9 * record["mu_gdp"]
    check = person["accounting"]["cross_check"]
    assert "classical bound for groups" in check["accountant"]
    assert check["epsilon"] >= guarantee["epsilon"]


def test_what_no_curve_bounds_has_no_mu() -> None:
    """So little noise on a sample that more than the floor is lost for good."""
    event = GaussianLeaf(0.5, 0.001, 1).event
    assert epsilon_of(event, DELTA_FLOOR, ADD_REMOVE) == math.inf
    assert mu_of(event, ADD_REMOVE) == (math.inf, DELTA_FLOOR)
