from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from dp_accounting import NeighboringRelation, dp_event
from dp_accounting.dp_event import DpEvent
from dp_accounting.pld import PLDAccountant
from scipy.optimize import brentq
from scipy.stats import norm

from dpgen.privacy.accounting import accountant as accounting
from dpgen.privacy.accounting.accountant import (
    Adjacency,
    Budget,
    accountant_of,
    default_delta,
    delta_of,
    epsilon_of,
    round_up,
    second_opinion,
)
from dpgen.privacy.accounting.calibration import calibrate
from dpgen.privacy.accounting.events import (
    GaussianLeaf,
    UnsupportedEvent,
    compose,
    event_from_json,
    event_to_json,
    leaves,
)
from dpgen.privacy.accounting.gaussian import largest_mu
from dpgen.privacy.accounting.relation import Relation
from tests.relations import ADD_REMOVE, REPLACE_ONE

DELTA = 1e-5
RELATIONS: tuple[Adjacency, ...] = ("add_remove", "replace_one")
MNIST = 4096 / 60000, 4394  # rate and steps of 300 epochs


def exact_epsilon(mu: float, delta: float = DELTA) -> float:
    """Epsilon of the un-sampled Gaussian, from the normal distribution function itself."""

    def excess(epsilon: float) -> float:
        tail = norm.cdf(-epsilon / mu + mu / 2)
        return float(tail - math.exp(epsilon) * norm.cdf(-epsilon / mu - mu / 2) - delta)

    return float(brentq(excess, 0, 100, xtol=1e-13))


def events() -> dict[str, DpEvent]:
    return {
        "gaussian": GaussianLeaf(1.0, 3.0, 1).event,
        "repeated gaussian": GaussianLeaf(1.0, 12.0, 9).event,
        "sampled": GaussianLeaf(0.1, 1.5, 1).event,
        "repeated sampled": GaussianLeaf(0.1, 3.0, 30).event,
        "mixed": compose([GaussianLeaf(1.0, 6.0, 1).event, GaussianLeaf(0.1, 4.0, 30).event]),
    }


@pytest.mark.parametrize(
    ("multiplier", "reference"),
    [(74.1, 0.1993), (17.0, 0.9949), (4.12, 4.994), (2.38, 10.0014), (2.381, 9.9958)],
)
def test_epsilon_has_the_reference_values_of_a_long_dp_sgd_run(
    multiplier: float, reference: float
) -> None:
    """References at interval 1e-4; refining goes below them by 0.3 % at most, and never above."""
    epsilon = epsilon_of(GaussianLeaf(MNIST[0], multiplier, MNIST[1]).event, DELTA, ADD_REMOVE)
    assert reference * (1 - 3e-3) <= epsilon <= reference + 1e-4


def test_epsilon_has_the_reference_values_of_both_relations() -> None:
    event = GaussianLeaf(0.0683, 11.4462, 2000).event
    assert epsilon_of(event, DELTA, ADD_REMOVE) == pytest.approx(1.0005, abs=2e-4)
    assert epsilon_of(event, DELTA, REPLACE_ONE) == pytest.approx(2.143, abs=1e-3)


@pytest.mark.parametrize(("adjacency", "sensitivity"), [("add_remove", 1.0), ("replace_one", 2.0)])
@pytest.mark.parametrize(("multiplier", "steps"), [(0.8, 1), (2.0, 1), (15.81, 1000), (40.0, 7)])
def test_unsampled_releases_cost_the_closed_form(
    adjacency: Adjacency, sensitivity: float, multiplier: float, steps: int
) -> None:
    """F2 and F3: mu adds up in squares, and replacing a record moves a sum by twice its bound."""
    mu = sensitivity * math.sqrt(steps) / multiplier
    epsilon = epsilon_of(GaussianLeaf(1.0, multiplier, steps).event, DELTA, Relation(adjacency, 1))
    assert exact_epsilon(mu) - 1e-9 <= epsilon <= exact_epsilon(mu) * (1 + 1e-9)


def test_releases_of_different_noise_cost_the_closed_form_together() -> None:
    event = compose([GaussianLeaf(1.0, s, n).event for s, n in ((3.0, 2), (7.0, 5), (0.9, 1))])
    mu = math.sqrt(2 / 9 + 5 / 49 + 1 / 0.81)
    epsilon = epsilon_of(event, DELTA, Relation("add_remove", 2))
    assert epsilon == pytest.approx(exact_epsilon(2 * mu), rel=1e-9)


@pytest.mark.parametrize("adjacency", RELATIONS)
@pytest.mark.parametrize("name", ["sampled", "repeated sampled", "mixed", "two rates"])
def test_a_sampled_run_has_the_price_of_the_library(name: str, adjacency: Adjacency) -> None:
    """Tighter by a hair at most, where it composes two Gaussians that are one here."""
    event = compose(
        [events()["mixed"], GaussianLeaf(1.0, 9.0, 3).event, GaussianLeaf(0.3, 9.0, 5).event]
    ) if name == "two rates" else events()[name]  # fmt: skip
    library = PLDAccountant(
        NeighboringRelation.ADD_OR_REMOVE_ONE
        if adjacency == "add_remove" else NeighboringRelation.REPLACE_ONE, 1e-4,
    )  # fmt: skip
    library.compose(event)
    exact = library.get_epsilon(DELTA)
    found = epsilon_of(event, DELTA, Relation(adjacency, 1))
    assert exact * (1 - 1e-4) <= found <= exact * (1 + 1e-3)


def test_a_number_says_what_computed_it() -> None:
    found = events()
    assert accountant_of(found["gaussian"]) == accounting.CLOSED_FORM
    assert accountant_of(found["mixed"]) == accountant_of(found["sampled"]) == accounting.ACCOUNTANT


def test_a_sampled_run_has_no_epsilon_below_the_smallest_delta() -> None:
    event = events()["mixed"]
    smallest = accounting.SMALLEST_DELTA
    assert math.isfinite(epsilon_of(event, smallest, ADD_REMOVE))
    assert epsilon_of(event, 0.99 * smallest, ADD_REMOVE) == math.inf


@pytest.mark.parametrize("adjacency", RELATIONS)
@pytest.mark.parametrize("epsilon", [0.002, 0.05])
def test_a_sampled_run_is_priced_near_its_limit_of_many_steps(
    epsilon: float, adjacency: Adjacency
) -> None:
    """Many small losses add up to a Gaussian with mu = q sqrt(T) / sigma, twice that under
    replacement (Bu, Dong, Long and Su 2020). Their grid is finer than the first ones.
    """
    q, steps = 0.02, 20_000
    mu = largest_mu(epsilon, DELTA)
    sigma = q * math.sqrt(steps) * (1.0 if adjacency == "add_remove" else 2.0) / mu
    found = epsilon_of(GaussianLeaf(q, sigma, steps).event, DELTA, Relation(adjacency, 1))
    assert 0.999 * epsilon <= found <= 1.01 * epsilon


@pytest.mark.parametrize("rate", [0.03, 0.4])
@pytest.mark.parametrize("adjacency", RELATIONS)
def test_one_sampled_step_costs_the_integral_over_the_dominating_pair(
    rate: float, adjacency: Adjacency
) -> None:
    """delta(eps) = sup over directions of E_P[(1 - e^(eps - loss))^+], by quadrature."""
    sigma, epsilon = 0.9, 0.7
    x = np.linspace(-14, 15, 2_000_001)
    with_record = (1 - rate) * norm.pdf(x, 0, sigma) + rate * norm.pdf(x, 1, sigma)
    without = norm.pdf(x, 0, sigma)
    if adjacency == "replace_one":
        without = (1 - rate) * norm.pdf(x, 0, sigma) + rate * norm.pdf(x, -1, sigma)
    exact = max(
        float(np.trapezoid(np.maximum(p - math.exp(epsilon) * q, 0), x))
        for p, q in ((with_record, without), (without, with_record))
    )
    found = delta_of(GaussianLeaf(rate, sigma, 1).event, epsilon, Relation(adjacency, 1))
    assert exact * (1 - 1e-6) <= found <= exact * (1 + 1e-3)


@pytest.mark.parametrize(
    ("rate", "sigma", "steps", "epsilon"),
    [(0.1, 1.0, 20, 2.0), (0.05, 0.8, 50, 3.0), (0.01, 0.7, 200, 2.0)],
)
def test_delta_agrees_with_a_monte_carlo_run_of_the_mechanism(
    rate: float, sigma: float, steps: int, epsilon: float
) -> None:
    n = 100_000
    rng = np.random.default_rng(5)
    loss = np.zeros(n)
    for _ in range(steps):
        hit = rng.random(n, dtype=np.float32) < rate
        x = sigma * rng.standard_normal(n, dtype=np.float32) + hit
        loss += np.log1p(rate * np.expm1((2 * x - 1) / (2 * sigma**2)))
    terms = np.maximum(0, -np.expm1(epsilon - loss))
    error = terms.std() / math.sqrt(n)
    found = delta_of(GaussianLeaf(rate, sigma, steps).event, epsilon, ADD_REMOVE)
    assert abs(terms.mean() - found) < 5 * error


@pytest.mark.parametrize("name", list(events()))
def test_repeating_an_event_costs_what_composing_copies_of_it_costs(name: str) -> None:
    event = events()[name]
    repeated = epsilon_of(dp_event.SelfComposedDpEvent(event, 3), DELTA, ADD_REMOVE)
    copies = epsilon_of(dp_event.ComposedDpEvent([event] * 3), DELTA, ADD_REMOVE)
    once = epsilon_of(event, DELTA, ADD_REMOVE)
    assert repeated == copies
    assert repeated > 1.2 * once


@pytest.mark.parametrize("name", list(events()))
def test_replacing_a_record_costs_more_than_adding_one(name: str) -> None:
    event = events()[name]
    add = epsilon_of(event, DELTA, ADD_REMOVE)
    assert epsilon_of(event, DELTA, REPLACE_ONE) > 1.1 * add


@pytest.mark.parametrize("name", list(events()))
def test_the_renyi_bound_of_another_library_is_never_below(name: str) -> None:
    event = events()[name]
    other = second_opinion(event, DELTA, ADD_REMOVE)
    epsilon = epsilon_of(event, DELTA, ADD_REMOVE)
    assert other is not None
    assert epsilon - 1e-6 <= other <= 2 * epsilon


def test_the_second_accountant_knows_replace_one_for_unsampled_releases_only() -> None:
    event = GaussianLeaf(1.0, 6.0, 4).event
    half = GaussianLeaf(1.0, 3.0, 4).event
    assert second_opinion(event, DELTA, REPLACE_ONE) == second_opinion(half, DELTA, ADD_REMOVE)
    assert second_opinion(GaussianLeaf(0.1, 2.0, 4).event, DELTA, REPLACE_ONE) is None


def test_epsilon_rises_with_rate_and_steps_and_falls_with_noise() -> None:
    def epsilon(rate: float, sigma: float, steps: int) -> float:
        return epsilon_of(GaussianLeaf(rate, sigma, steps).event, DELTA, ADD_REMOVE)

    base = epsilon(0.1, 3.0, 30)
    assert epsilon(0.2, 3.0, 30) > base
    assert epsilon(0.1, 3.0, 60) > base
    assert epsilon(0.1, 2.8, 30) > base


def test_epsilon_and_delta_answer_each_other() -> None:
    event = events()["mixed"]
    epsilon = epsilon_of(event, DELTA, ADD_REMOVE)
    assert delta_of(event, epsilon, ADD_REMOVE) == pytest.approx(DELTA, rel=0.02)


def test_a_smaller_delta_costs_a_larger_epsilon() -> None:
    event = events()["mixed"]
    assert epsilon_of(event, 1e-7, ADD_REMOVE) > 1.1 * epsilon_of(event, DELTA, ADD_REMOVE)


def test_nothing_costs_nothing_and_almost_no_noise_costs_infinity() -> None:
    assert epsilon_of(compose([]), DELTA, ADD_REMOVE) == 0
    assert delta_of(compose([]), 1.0, ADD_REMOVE) == 0
    tiny = GaussianLeaf(0.5, 0.01, 1).event
    assert epsilon_of(tiny, DELTA, ADD_REMOVE) == math.inf
    assert delta_of(tiny, 1.0, ADD_REMOVE) == 1


def test_an_event_is_read_back_as_it_was_written() -> None:
    event = events()["mixed"]
    assert leaves(event_from_json(event_to_json(event))) == leaves(event)


@pytest.mark.parametrize(
    "change",
    [
        {"type": "gaussian"},
        {"rate": 1.5},
        {"rate": 0.0},
        {"rate": True},
        {"noise_multiplier": 0.0},
        {"noise_multiplier": math.inf},
        {"noise_multiplier": "2"},
        {"steps": 0},
        {"steps": 2.0},
        {"steps": True},
        {"count": 3},
    ],
)
def test_an_event_that_means_nothing_is_refused(change: dict[str, object]) -> None:
    row = event_to_json(GaussianLeaf(0.1, 2.0, 30).event)[0] | change
    with pytest.raises(ValueError, match=r"must|keys|unknown"):
        event_from_json([row])


@pytest.mark.parametrize("rows", [None, {}, "gaussian", 3])
def test_events_that_are_no_list_are_refused(rows: Any) -> None:  # noqa: ANN401
    with pytest.raises(UnsupportedEvent, match="events must be a list, got"):
        event_from_json(rows)


def test_doing_nothing_costs_nothing_and_any_other_event_is_refused() -> None:
    assert leaves(dp_event.NoOpDpEvent()) == []
    assert epsilon_of(dp_event.NoOpDpEvent(), 1e-5, ADD_REMOVE) == 0.0
    with pytest.raises(UnsupportedEvent, match="no proof in this package covers"):
        leaves(dp_event.LaplaceDpEvent(1.0))


@pytest.mark.parametrize(
    "event",
    [
        dp_event.LaplaceDpEvent(1.0),
        dp_event.NonPrivateDpEvent(),
        dp_event.PoissonSampledDpEvent(0.1, dp_event.LaplaceDpEvent(1.0)),
        dp_event.SampledWithoutReplacementDpEvent(10, 2, dp_event.GaussianDpEvent(1.0)),
        dp_event.TruncatedSubsampledGaussianDpEvent(100, 0.1, 20, 1.0),
    ],
)
def test_an_event_without_a_proof_is_refused_by_name(event: DpEvent) -> None:
    with pytest.raises(UnsupportedEvent, match="no proof"):
        epsilon_of(event, DELTA, ADD_REMOVE)


def test_an_unknown_relation_is_refused() -> None:
    with pytest.raises(ValueError, match="adjacency must be one of"):
        Relation("zero_out", 1)  # type: ignore[arg-type]


def test_rounding_up_never_goes_below_and_never_far() -> None:
    rng = np.random.default_rng(3)
    for value in [*np.exp(rng.uniform(-12, 6, 2000)).tolist(), 1.0, 9.99, 9.995, 0.1, 1e-5]:
        for digits in (3, 5):
            assert value <= round_up(value, digits) <= value * (1 + 10.0 ** (1 - digits))
    assert round_up(9.991) == 10.0
    assert round_up(1.0000000127) == 1.01
    assert round_up(math.inf) == math.inf


def test_a_delta_that_could_publish_a_record_is_refused() -> None:
    Budget(1.0, 0.9e-3).check_records(1000)
    for delta in (1e-3, 1e-2):
        with pytest.raises(ValueError, match="delta must lie below 1 / n_records"):
            Budget(1.0, delta).check_records(1000)
    for n_records in (1, 100, 10**7):
        Budget(1.0, default_delta(n_records)).check_records(n_records)


def test_a_budget_for_records_has_the_stated_delta_or_the_default() -> None:
    assert Budget.for_records(2.0, 1e-4, 1000) == Budget(2.0, 1e-4)
    assert Budget.for_records(2.0, None, 100) == Budget(2.0, 1e-5)
    assert Budget.for_records(2.0, None, 10**6) == Budget(2.0, 1e-7)
    with pytest.raises(ValueError, match="delta must lie below 1 / n_records = 0.001, got 0.001"):
        Budget.for_records(2.0, 1e-3, 1000)
    with pytest.raises(ValueError, match="epsilon must be"):
        Budget.for_records(0.0, None, 1000)


@pytest.mark.parametrize(
    ("epsilon", "delta"),
    [
        (0, 1e-5), (-1, 1e-5), (math.nan, 1e-5), (math.inf, 1e-5), (1, 0), (1, 1), (10**400, 1e-5),
        ("1", 1e-5), (True, 1e-5), (1, "1e-5"), (1, math.nan),
    ],
)  # fmt: skip
def test_a_budget_that_is_none_is_refused(epsilon: float, delta: float) -> None:
    with pytest.raises(ValueError, match=r"epsilon must|delta must"):
        Budget(epsilon, delta)


@pytest.mark.parametrize("delta", [math.nan, -1e-9, 1.5])
@pytest.mark.parametrize("rate", [0.1, 1.0])
def test_a_delta_that_is_none_is_never_priced(delta: float, rate: float) -> None:
    with pytest.raises(ValueError, match=r"delta must lie in \[0, 1\]"):
        epsilon_of(GaussianLeaf(rate, 1.0, 1).event, delta, ADD_REMOVE)


def test_the_epsilon_that_is_printed_is_within_a_fifth_of_a_percent_of_the_finest() -> None:
    event = GaussianLeaf(0.01, 23.18, 20000).event
    tried = epsilon_of(event, DELTA, ADD_REMOVE)
    finest = accounting.coarse_epsilon(event, DELTA, ADD_REMOVE, 1e-5)
    assert finest - 1e-12 <= tried <= finest * (1 + 2e-3)
    assert tried == pytest.approx(0.1990, rel=5e-3)


def test_a_price_is_computed_once_and_remembered_for_its_own_question_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked, real = [], accounting._losses

    def counted(*question: Any) -> Any:  # noqa: ANN401
        asked.append(question)
        return real(*question)

    monkeypatch.setattr(accounting, "_losses", counted)
    event, budget = GaussianLeaf(0.123, 4.5, 7).event, Budget(0.5, 1e-5)

    def calibrated() -> float:
        return calibrate(lambda x: GaussianLeaf(0.123, x, 7).event, budget, ADD_REMOVE)

    first = epsilon_of(event, 1e-5, ADD_REMOVE), calibrated()
    n_asked = len(asked)
    assert n_asked > 2
    same = GaussianLeaf(0.123, 4.5, 7).event  # equal, not identical
    assert (epsilon_of(same, 1e-5, ADD_REMOVE), calibrated()) == first
    assert len(asked) == n_asked
    others = [
        epsilon_of(event, 1e-6, ADD_REMOVE),
        epsilon_of(event, 1e-5, REPLACE_ONE),
        epsilon_of(event, 1e-5, Relation("add_remove", 2)),
        epsilon_of(GaussianLeaf(0.123, 4.5, 8).event, 1e-5, ADD_REMOVE),
        epsilon_of(GaussianLeaf(0.124, 4.5, 7).event, 1e-5, ADD_REMOVE),
        epsilon_of(GaussianLeaf(0.123, 4.4, 7).event, 1e-5, ADD_REMOVE),
    ]
    assert min(others) > first[0] and len(set(others)) == len(others)
