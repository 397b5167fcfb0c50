"""Units of several records: prices of a person, against library, quadrature and textbook."""

from __future__ import annotations

import math

import numpy as np
import pytest
from dp_accounting import NeighboringRelation, dp_event
from dp_accounting.pld import PLDAccountant
from scipy.stats import binom, norm

from dpgen.privacy.accounting.accountant import Budget, delta_of, epsilon_of
from dpgen.privacy.accounting.calibration import calibrate
from dpgen.privacy.accounting.events import GaussianLeaf, UnsupportedEvent, compose
from dpgen.privacy.accounting.opinion import second_opinion
from dpgen.privacy.accounting.relation import Adjacency, Relation
from dpgen.privacy.accounting.units import _log_binomial, _Step, sampled_unit
from dpgen.privacy.plan import split_budget
from tests.relations import ADD_REMOVE

DELTA = 1e-5
MNIST = 4096 / 60000, 4394  # rate and steps of 300 epochs


def person(m: int) -> Relation:
    return Relation("add_remove", m)


@pytest.mark.parametrize(
    ("sigma", "m", "published"),
    [(17.0, 2, 2.15), (17.0, 5, 6.14), (17.0, 10, 14.3),
     (2.38, 2, 24.4), (2.38, 5, 91.8), (2.38, 10, 284)],
)  # fmt: skip
def test_the_price_of_a_person_is_the_reference_value(
    sigma: float, m: int, published: float
) -> None:
    """Records at epsilon 1 and 10; the same delta; not m times epsilon."""
    event = GaussianLeaf(MNIST[0], sigma, MNIST[1]).event
    assert epsilon_of(event, DELTA, person(m)) == pytest.approx(published, rel=4e-3)


@pytest.mark.parametrize("sigma", [0.5, 1.0, 9.0])
@pytest.mark.parametrize("rate", [0.003, 0.3, 0.97])
@pytest.mark.parametrize("m", [1, 2, 7])
def test_a_step_has_the_curve_of_the_library(sigma: float, rate: float, m: int) -> None:
    """MixtureOfGaussiansDpEvent, whose inversion is off by 1e-6 at most."""
    weights = list(binom.pmf(range(m + 1), m, rate))
    theirs = PLDAccountant(NeighboringRelation.ADD_OR_REMOVE_ONE, 5e-2)
    theirs.compose(dp_event.MixtureOfGaussiansDpEvent(sigma, list(range(m + 1)), weights))
    ours = sampled_unit(sigma, rate, m, 5e-2)
    for epsilon in (0.0, 0.01, 0.3, 1.0, 3.0):
        exact = theirs.get_delta(epsilon)
        assert ours.get_delta_for_epsilon(epsilon) == pytest.approx(exact, rel=1e-8, abs=1e-13)


@pytest.mark.parametrize("m", [2, 6])
@pytest.mark.parametrize(("sigma", "rate"), [(0.6, 0.02), (1.5, 0.4)])
def test_a_step_costs_the_integral_over_its_pair(m: int, sigma: float, rate: float) -> None:
    """delta(eps) = sup over directions of the integral of (p - e^eps q)^+, by quadrature."""
    x = np.linspace(-14, 14 + m, 200_001)
    weights = binom.pmf(range(m + 1), m, rate)
    with_unit = sum(w * norm.pdf(x, k, sigma) for k, w in enumerate(weights))
    without = norm.pdf(x, 0, sigma)
    step = sampled_unit(sigma, rate, m, 1e-3)
    for epsilon in (0.05, 0.8, 2.0):
        exact = max(
            float(np.trapezoid(np.maximum(p - math.exp(epsilon) * q, 0), x))
            for p, q in ((with_unit, without), (without, with_unit))
        )
        found = step.get_delta_for_epsilon(epsilon)
        assert exact * (1 - 1e-6) <= found <= exact * (1 + 1e-3) + 1e-12
    # The direction that is the smaller one counts, too: steps compose in each by itself.
    for pmf, p, q in ((step._pmf_remove, with_unit, without), (step._pmf_add, without, with_unit)):
        for epsilon in (-1.0, -0.1, 0.02):
            exact = float(np.trapezoid(np.maximum(p - math.exp(epsilon) * q, 0), x))
            assert pmf.get_delta_for_epsilon(epsilon) == pytest.approx(exact, rel=1e-3)


def test_no_unit_costs_more_than_the_pair_that_is_priced() -> None:
    """Kahane's inequality, by Monte Carlo: gradients in any directions, in both directions."""
    rng, m, rate, sigma, n = np.random.default_rng(0), 4, 0.5, 1.2, 200_000
    subsets = (np.arange(2**m)[:, None] >> np.arange(m)) & 1
    step = sampled_unit(sigma, rate, m, 1e-3)
    weights = rate ** subsets.sum(1) * (1 - rate) ** (m - subsets.sum(1))
    for directions in (rng.normal(size=(m, 3)), np.eye(m), np.array([[1], [1], [-1], [0.2]])):
        norms = np.linalg.norm(directions, axis=1, keepdims=True)
        moved = subsets @ (directions / np.maximum(norms, 1))
        y = sigma * rng.standard_normal((n, moved.shape[1]))
        exponents = (y @ moved.T - (moved**2).sum(1) / 2) / sigma**2
        ratio = np.exp(exponents) @ weights  # dP/dQ under Q
        for epsilon in (0.0, 0.5, 1.5):
            found = step.get_delta_for_epsilon(epsilon)
            for terms in (ratio - math.exp(epsilon), 1 - math.exp(epsilon) * ratio):
                lost = np.maximum(terms, 0)
                assert lost.mean() <= found + 5 * lost.std() / math.sqrt(n)


@pytest.mark.parametrize(("m", "rate", "sigma", "steps", "epsilon"), [(3, 0.1, 2.0, 20, 2.0)])
def test_delta_of_a_person_agrees_with_a_run_of_the_mechanism(
    m: int, rate: float, sigma: float, steps: int, epsilon: float
) -> None:
    n, rng = 200_000, np.random.default_rng(5)
    loss, k = np.zeros(n), np.arange(m + 1)
    weights = binom.pmf(k, m, rate)
    for _ in range(steps):
        x = sigma * rng.standard_normal(n) + rng.binomial(m, rate, n)
        loss += np.log(np.exp((np.outer(x, k) - k**2 / 2) / sigma**2) @ weights)
    terms = np.maximum(0, -np.expm1(epsilon - loss))
    found = delta_of(GaussianLeaf(rate, sigma, steps).event, epsilon, person(m))
    assert abs(terms.mean() - found) < 5 * terms.std() / math.sqrt(n)


def test_a_person_with_one_record_is_a_record() -> None:
    event = compose([GaussianLeaf(1.0, 6.0, 2).event, GaussianLeaf(0.1, 4.0, 30).event])
    assert epsilon_of(event, DELTA, person(1)) == epsilon_of(event, DELTA, ADD_REMOVE)
    by_units = sampled_unit(4.0, 0.1, 1, 1e-3).self_compose(30).get_epsilon_for_delta(DELTA)
    library = PLDAccountant(NeighboringRelation.ADD_OR_REMOVE_ONE, 1e-3)
    library.compose(GaussianLeaf(0.1, 4.0, 30).event)
    assert by_units == pytest.approx(library.get_epsilon(DELTA), rel=1e-9)


@pytest.mark.parametrize("adjacency", ["add_remove", "replace_one"])
def test_unsampled_sums_move_by_as_many_bounds_as_a_person_has_records(
    adjacency: Adjacency,
) -> None:
    record, person = Relation(adjacency, 1), Relation(adjacency, 5)
    event, fifth = GaussianLeaf(1.0, 40.0, 3).event, GaussianLeaf(1.0, 8.0, 3).event
    assert epsilon_of(event, DELTA, person) == epsilon_of(fifth, DELTA, record)
    assert second_opinion(event, DELTA, person) == second_opinion(fifth, DELTA, record)


def test_full_participation_is_the_limit_of_sampling() -> None:
    sampled = epsilon_of(GaussianLeaf(1 - 1e-9, 12.0, 5).event, DELTA, person(4))
    assert sampled == pytest.approx(
        epsilon_of(GaussianLeaf(1.0, 12.0, 5).event, DELTA, person(4)), rel=2e-3
    )


def test_more_records_cost_more_and_more_than_their_number() -> None:
    event = compose([GaussianLeaf(1.0, 30.0, 1).event, GaussianLeaf(0.1, 6.0, 40).event])
    prices = [epsilon_of(event, DELTA, person(m)) for m in (1, 2, 3, 6)]
    assert all(a < b for a, b in zip(prices, prices[1:], strict=False))
    assert prices[1] > 2 * prices[0] and prices[3] > 6 * prices[0]


@pytest.mark.parametrize("m", [2, 5])
def test_the_classical_bound_is_never_the_smaller_one(m: int) -> None:
    for event in (
        GaussianLeaf(0.1, 6.0, 40).event,
        GaussianLeaf(0.3, 20.0, 9).event,
        compose([GaussianLeaf(1.0, 60.0, 1).event, GaussianLeaf(0.02, 2.0, 100).event]),
    ):
        other, exact = second_opinion(event, DELTA, person(m)), epsilon_of(event, DELTA, person(m))
        assert other is not None
        assert exact <= other < 3 * exact


def test_the_classical_bound_is_that_of_the_textbook() -> None:
    """Its d is within delta, and a thousandth of a larger one is not: the sum is 1 + e^x + .."""
    event, m = GaussianLeaf(0.1, 6.0, 40).event, 3
    total = second_opinion(event, DELTA, person(m))
    assert total is not None
    x = total / m
    series = sum(math.exp(i * x) for i in range(m))
    one = second_opinion(event, DELTA / series, ADD_REMOVE)
    assert one == pytest.approx(x, rel=1e-3) and one is not None and one <= x * (1 + 1e-9)


def test_sampling_for_a_person_under_replace_one_is_refused_whoever_asks() -> None:
    event, relation = GaussianLeaf(0.1, 6.0, 40).event, Relation("replace_one", 2)
    with pytest.raises(UnsupportedEvent, match="must be 1 under replace_one.*got 2"):
        epsilon_of(event, DELTA, relation)
    with pytest.raises(UnsupportedEvent, match="no proof"):
        delta_of(event, 1.0, relation)
    with pytest.raises(UnsupportedEvent, match="no proof"):
        calibrate(lambda x: GaussianLeaf(0.1, x, 40).event, Budget(1.0, DELTA), relation)
    assert second_opinion(event, DELTA, relation) is None


@pytest.mark.parametrize("m", [2, 8])
def test_a_budget_holds_for_a_whole_person(m: int) -> None:
    budget, event = Budget(2.0, DELTA), lambda x: GaussianLeaf(0.2, x, 20).event
    found = calibrate(event, budget, person(m))
    assert 0.99 * 2.0 <= epsilon_of(event(found), DELTA, person(m)) <= 2.0
    assert found > 0.8 * m * calibrate(event, budget, ADD_REMOVE)


@pytest.mark.parametrize("shares", [[1.0], [0.3, 0.2]])
def test_a_split_spends_the_budget_of_a_person(shares: list[float]) -> None:
    budget = Budget(1.0, DELTA)
    releases, sgd = split_budget(budget, person(4), shares=shares, rate=0.1, n_steps=20)
    events = [GaussianLeaf(1.0, multiplier, 1).event for multiplier in releases]
    if sgd is not None:
        events.append(GaussianLeaf(0.1, sgd, 20).event)
    assert 0.99 <= epsilon_of(compose(events), DELTA, person(4)) <= 1.0


def test_noise_that_a_person_drowns_costs_infinity_in_no_time() -> None:
    assert epsilon_of(GaussianLeaf(0.01, 0.19, 1).event, DELTA, person(10)) == math.inf
    mixed = compose([GaussianLeaf(1.0, 0.5, 10**9).event, GaussianLeaf(0.1, 2.0, 1).event])
    assert epsilon_of(mixed, DELTA, ADD_REMOVE) == math.inf
    assert epsilon_of(GaussianLeaf(0.5, 1.0, 10**9).event, DELTA, ADD_REMOVE) == math.inf
    assert delta_of(GaussianLeaf(0.5, 1.0, 10**9).event, 1.0, ADD_REMOVE) == 1.0


@pytest.mark.parametrize(("m", "rate", "last"), [(1000, 1e-6, 8), (40, 0.5, 40), (300, 1e-3, 21)])
def test_what_no_sample_holds_widens_no_curve_and_is_counted_as_infinite_loss(
    m: int, rate: float, last: int
) -> None:
    """Between 1e-32 and the mass of one record more lies the end; where all fit, it is m."""
    step = _Step(0.05 * m, _log_binomial(m, rate))
    assert step.last == last
    assert binom.sf(last, m, rate) < 1e-32 <= binom.sf(last - 1, m, rate)


def test_a_unit_of_many_records_has_the_price_of_the_whole_mixture() -> None:
    """Cut below 30 of 60, against the library, which cuts nowhere."""
    m, rate, sigma = 60, 1e-2, 4.0
    ours = sampled_unit(sigma, rate, m, 5e-2)
    weights = list(binom.pmf(range(m + 1), m, rate))
    theirs = PLDAccountant(NeighboringRelation.ADD_OR_REMOVE_ONE, 5e-2)
    theirs.compose(dp_event.MixtureOfGaussiansDpEvent(sigma, list(range(m + 1)), weights))
    assert _Step(sigma, _log_binomial(m, rate)).last < 30
    for epsilon in (0.0, 0.3, 3.0):
        exact = theirs.get_delta(epsilon)
        assert ours.get_delta_for_epsilon(epsilon) == pytest.approx(exact, rel=1e-8, abs=1e-13)


@pytest.mark.parametrize("m", [0, 1001, 10**9])
def test_a_unit_that_no_machine_can_price_is_refused_in_no_time(m: int) -> None:
    with pytest.raises(ValueError, match=f"must lie in 1..1000 .*got {m}: "):
        sampled_unit(1e9, 0.1, m, 1e-3)


def test_a_whole_number_is_a_noise_multiplier_like_any_other() -> None:
    whole, same = sampled_unit(3, 0.3, 4, 1e-2), sampled_unit(3.0, 0.3, 4, 1e-2)
    assert whole.get_epsilon_for_delta(DELTA) == same.get_epsilon_for_delta(DELTA)
    assert whole.get_delta_for_epsilon(0.1) == same.get_delta_for_epsilon(0.1) > 0.01


@pytest.mark.parametrize(
    ("adjacency", "m", "phrase"),
    [
        ("add_remove", 1, "adding or removing one record"),
        ("add_remove", 5, "adding or removing up to 5 records of one person"),
        ("replace_one", 1, "replacing one record"),
        ("replace_one", 3, "replacing up to 3 records of one person"),
    ],
)
def test_a_relation_says_what_it_is(adjacency: str, m: int, phrase: str) -> None:
    relation = Relation(adjacency, m)  # type: ignore[arg-type]
    assert relation.phrase == phrase
    assert relation.unit == ("record" if m == 1 else "person")


@pytest.mark.parametrize(
    ("adjacency", "m"),
    [("add", 1), ("add_remove", 0), ("add_remove", True), ("add_remove", 2.0), ("replace_one", -1)],
)
def test_what_is_no_relation_is_refused(adjacency: str, m: object) -> None:
    with pytest.raises(ValueError, match=r"adjacency must be|max_records_per_unit must be"):
        Relation(adjacency, m)  # type: ignore[arg-type]
