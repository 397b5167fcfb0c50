"""PGE as published: what randomised response does to an index that knows nothing."""

from __future__ import annotations

import math

import numpy as np
import pytest

from dpgen.images.images import PublicFacts
from dpgen.privacy.accounting.accountant import Budget
from dpgen.published.pge import claim, respond
from dpgen.published.pge_settings import PaperSettings, resolve

FACTS = PublicFacts((1, 8, 8), ("a", "b"), 30, "add_remove", origin="stated")


@pytest.mark.parametrize("epsilon", [0.01, 1.0, 10.0])
def test_the_true_index_is_kept_as_often_as_k_ary_response_says(epsilon: float) -> None:
    n, k = 40_000, 5
    report = respond(np.full(n, 3), k, epsilon, np.random.default_rng(0))
    p = math.exp(epsilon) / (math.exp(epsilon) + k - 1)
    counts = np.bincount(report, minlength=k)
    assert len(counts) == k
    for index, count in enumerate(counts):
        expected = p if index == 3 else (1 - p) / (k - 1)
        assert abs(count - n * expected) <= 5 * math.sqrt(n * expected * (1 - expected)) + 1e-9


@pytest.mark.parametrize("epsilon", [0.01, 10.0])
def test_the_report_of_a_uniform_index_is_uniform_whatever_epsilon(epsilon: float) -> None:
    """Why the published claim fails: no epsilon changes the law that training sees."""
    n, k, rng = 40_000, 8, np.random.default_rng(1)
    counts = np.bincount(respond(rng.integers(0, k, n), k, epsilon, rng), minlength=k)
    assert (np.abs(counts - n / k) <= 5 * math.sqrt(n / k)).all()


def test_the_response_is_exact_at_the_ends() -> None:
    truth = np.arange(100) % 7
    rng = np.random.default_rng(2)
    assert (respond(truth, 7, 5000.0, rng) == truth).all(), "nothing overflows"
    assert ((respond(truth, 7, 1e-9, rng) >= 0) & (respond(truth, 7, 1e-9, rng) < 7)).all()


def test_the_claim_is_the_budget_and_the_worst_case_has_no_bound() -> None:
    told = claim(resolve(PaperSettings(), FACTS), FACTS, Budget(0.01, 1e-5))
    assert told.claimed_epsilon == 0.01 and math.isinf(told.worst_case.epsilon)
    assert told.settings["epsilon_of_response"] == 0.01 and told.settings["preset"] == "tiny"
    assert told.mechanism == "pge/paper"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_projections": 1}, "n_projections must be at least 2, got 1"),
        ({"n_steps": 0}, "n_steps must be at least 1"),
        ({"batch": 0}, "batch must be at least 1"),
        ({"learning_rate": 0.0}, "learning_rate must be a number greater than 0"),
        ({"ema_decay": -0.1}, "ema_decay must lie in"),
        ({"sigma_min": 0.0}, "sigma_min must be a number greater than 0"),
        ({"sigma_max": 0.1}, "sigma_max must be greater than sigma_min = 0.1, got 0.1"),
    ],
)
def test_settings_that_cannot_run_are_refused(change: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PaperSettings(**change)  # type: ignore[arg-type]
