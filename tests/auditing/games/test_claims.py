from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.special import ndtr

from dpgen.auditing.games.bounds import gaussian_epsilon
from dpgen.auditing.games.claims import (
    PROFILE_EPSILONS,
    Claim,
    GaussianBlowUp,
    ProfileBlowUp,
    claim_of,
    mechanism_claim,
)
from dpgen.privacy.accounting.accountant import Adjacency, delta_of, epsilon_of, gaussian_delta
from dpgen.privacy.accounting.events import GaussianLeaf, compose
from dpgen.privacy.accounting.relation import Relation
from dpgen.privacy.mechanisms.declared import NoisySGD
from tests.relations import ADD_REMOVE

DELTA = 1e-5
RATES = np.array([1e-4, 0.01, 0.2, 0.5, 0.9, 0.999])


@pytest.mark.parametrize(
    ("adjacency", "mu"), [("add_remove", math.sqrt(1 / 4 + 4 / 9)), ("replace_one", None)]
)
def test_gaussians_on_all_records_claim_their_exact_mu(
    adjacency: Adjacency, mu: float | None
) -> None:
    event = compose([GaussianLeaf(1.0, 2.0, 1).event, GaussianLeaf(1.0, 3.0, 4).event])
    claim = claim_of(event, DELTA, adjacency, "two releases")
    assert isinstance(claim.blow_up, GaussianBlowUp)
    assert claim.blow_up.mu == pytest.approx(mu or 2 * math.sqrt(1 / 4 + 4 / 9))
    relation = Relation(adjacency, 1)
    assert claim.epsilon == pytest.approx(epsilon_of(event, DELTA, relation), rel=2e-3)


def test_a_sampled_mechanism_claims_what_the_accountant_says() -> None:
    event = GaussianLeaf(0.2, 2.0, 2).event
    claim = claim_of(event, DELTA, "add_remove", "two steps")
    assert claim.epsilon == epsilon_of(event, DELTA, ADD_REMOVE)
    for epsilon in (0.0, 1.0):
        delta = delta_of(event, epsilon, ADD_REMOVE)
        allowed = np.minimum(delta + math.exp(epsilon) * RATES, 1)
        # The claim allows no more than each pair does, up to its coarser discretisation.
        assert (claim.blow_up(RATES) <= allowed * (1 + 5e-3)).all()
    assert (claim.blow_up(RATES) > RATES).all()


def test_a_sampled_mechanism_claims_no_less_than_the_best_test_of_one_step_achieves() -> None:
    rate, std = 0.2, 0.8
    claim = claim_of(GaussianLeaf(rate, std, 1).event, DELTA, "add_remove", "one step")
    thresholds = np.linspace(-2.0, 4.0, 13)
    false, sampled = ndtr(-thresholds / std), ndtr((1 - thresholds) / std)
    true = (1 - rate) * false + rate * sampled
    allowed = claim.blow_up(false)
    assert (allowed >= true * (1 - 1e-9)).all()
    # A threshold test is the best one, so it uses up what is allowed: the claim is tight, too. Not
    # so at high rates, where the claim has to hold for a record that is taken away as well.
    assert allowed[true < 0.5] == pytest.approx(true[true < 0.5], rel=1e-2)
    # The other way round the complement of the event is as much more probable.
    assert (claim.blow_up(1 - true) >= (1 - false) * (1 - 1e-9)).all()


@pytest.mark.parametrize("adjacency", ["add_remove", "replace_one"])
@pytest.mark.parametrize(("rate", "std"), [(0.2, 0.5), (0.9, 0.8)])
def test_a_sampled_step_claims_the_divergence_of_either_order_under_its_relation(
    adjacency: Adjacency, rate: float, std: float
) -> None:
    """By quadrature: with the record the mixture, without it, or with its opposite, the other."""
    claim = claim_of(GaussianLeaf(rate, std, 1).event, DELTA, adjacency, "one step")
    assert isinstance(claim.blow_up, ProfileBlowUp)
    x, width = np.linspace(-12.0, 13.0, 50001, retstep=True)

    def density(mean: float) -> np.ndarray:
        parts = [np.exp(-(((x - m) / std) ** 2) / 2) for m in (0.0, mean)]
        return ((1 - rate) * parts[0] + rate * parts[1]) / (std * math.sqrt(math.tau))

    one, other = density(1.0), density(0.0 if adjacency == "add_remove" else -1.0)
    pairs = zip(claim.blow_up.epsilons, claim.blow_up.deltas, strict=True)
    for epsilon, delta in list(pairs)[:60:10]:
        gains = [p - math.exp(epsilon) * q for p, q in ((one, other), (other, one))]
        both = [float(np.maximum(gain, 0.0).sum() * width) for gain in gains]
        assert delta == pytest.approx(max(both), rel=1e-4, abs=1e-9)


def profile(mu: float) -> ProfileBlowUp:
    deltas = np.array([gaussian_delta(epsilon, mu) for epsilon in PROFILE_EPSILONS])
    return ProfileBlowUp(PROFILE_EPSILONS, deltas)


@pytest.mark.parametrize("mu", [0.3, 1.0, 2.0])
def test_the_pairs_of_a_gaussian_make_its_curve_and_never_claim_more(mu: float) -> None:
    exact, pairs = GaussianBlowUp(mu), profile(mu)
    assert (pairs(RATES) >= exact(RATES) * (1 - 1e-12)).all()
    # Two tangents whose slopes differ by a factor e^step touch at rates that differ by a factor of
    # e^(z step / mu), z below 4; a concave curve lies above their chord.
    step = float(np.diff(PROFILE_EPSILONS)[0])
    off = step * math.expm1(4 * step / mu) / 4
    assert pairs(RATES) == pytest.approx(exact(RATES), rel=off)
    for rate in RATES:
        assert pairs.inverse(rate) <= exact.inverse(rate) * (1 + 1e-12)
        assert pairs.inverse(rate) == pytest.approx(exact.inverse(rate), rel=2 * off, abs=1e-6)


@pytest.mark.parametrize("blow_up", [GaussianBlowUp(0.7), profile(0.7)])
def test_the_inverse_undoes_and_complements_obey_the_same_curve(
    blow_up: GaussianBlowUp | ProfileBlowUp,
) -> None:
    for rate in (0.05, 0.4, 0.8):
        blown = float(blow_up(rate))
        assert blow_up.inverse(blown) == pytest.approx(rate)
        assert float(blow_up(1 - blown)) == pytest.approx(1 - rate)


def test_no_loss_is_no_claim_and_none_is_infinite() -> None:
    assert GaussianBlowUp(0.0)(RATES) == pytest.approx(RATES)
    with pytest.raises(ValueError, match="epsilon must be a finite number to be refuted, got inf"):
        Claim(math.inf, DELTA, "add_remove", GaussianBlowUp(1.0), "nothing")


def test_a_claim_about_some_steps_is_about_these_and_says_so() -> None:
    first = NoisySGD(1.0, 4, 2.0, 100)
    claim = mechanism_claim(first, DELTA, "add_remove", of=100)
    assert claim.epsilon == pytest.approx(gaussian_epsilon(1.0, DELTA))
    assert claim.scope == "4 of 100 steps at rate 1, noise multiplier 2"
    assert mechanism_claim(first, DELTA, "add_remove").scope.startswith("4 steps")
    assert "epsilon 4.38 at delta 1e-05" in claim.sentence
