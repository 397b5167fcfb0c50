"""DP-SAD as published: its prices, its clip, and the attack that the claimed price rules out."""

from __future__ import annotations

import functools
import math
from dataclasses import replace

import pytest
import torch
from scipy.stats import beta
from torch import Tensor

from dpgen.images.images import PublicFacts
from dpgen.privacy.accounting.accountant import Budget, epsilon_of, gaussian_delta
from dpgen.privacy.accounting.events import GaussianLeaf
from dpgen.privacy.statements.notice import Claim
from dpgen.published.dp_sad import claim, clip_rows, query_mu
from dpgen.published.dp_sad_settings import PaperSettings, resolve
from tests.relations import ADD_REMOVE

FACTS = PublicFacts((1, 8, 8), tuple("0123456789"), 6000, "add_remove", origin="stated")
SETTINGS = PaperSettings("noise", n_steps=500, batch=64)
BUDGET = Budget(1.0, 1e-5)


@functools.cache
def told_of(student_input: str) -> Claim:
    return claim(replace(SETTINGS, student_input=student_input), FACTS, BUDGET)


def test_the_claim_is_the_sampled_price_and_the_worst_case_the_whole_one() -> None:
    told = told_of("noise")
    sigma = told.settings["noise_multiplier"]
    # The design's number for B = 64, T = 500, N = 6000 and a claimed epsilon of 1.
    assert sigma == pytest.approx(1.191, abs=2e-3)
    sampled = GaussianLeaf(64 / 6000, sigma, 500).event
    assert 0.99 <= epsilon_of(sampled, 1e-5, ADD_REMOVE) <= told.claimed_epsilon <= 1.0
    assert told.worst_case.mu == pytest.approx(2 * math.sqrt(64 * 500) / sigma, rel=1e-4)
    assert told.worst_case.mu >= query_mu(SETTINGS, sigma)
    assert gaussian_delta(told.worst_case.epsilon, query_mu(SETTINGS, sigma)) <= 1e-5
    assert told.worst_case.epsilon > 40_000
    assert told.settings["rate"] == 64 / 6000 and told.settings["clip_norm"] == 0.1


def test_the_clip_norm_scales_the_noise_and_changes_no_price() -> None:
    one, other = told_of("noise"), claim(replace(SETTINGS, clip_norm=5.0), FACTS, BUDGET)
    assert one.worst_case == other.worst_case and one.plan != other.plan


def test_with_private_images_as_questions_no_epsilon_holds() -> None:
    told = told_of("real")
    assert math.isinf(told.worst_case.epsilon) and math.isinf(told.worst_case.mu)
    assert told.claimed_epsilon <= 1.0
    assert "Jacobian" in told.reason


def test_each_row_is_clipped_alone_and_what_is_not_finite_is_nothing() -> None:
    rows = torch.tensor([[3.0, 4.0], [0.3, 0.4], [math.inf, 0.0], [math.nan, 1.0], [0.0, 0.0]])
    clipped = clip_rows(rows.reshape(5, 1, 1, 2), 1.0)
    assert clipped.shape == (5, 1, 1, 2) and clipped.dtype == torch.float64
    flat = clipped.flatten(1)
    torch.testing.assert_close(flat[0], torch.tensor([0.6, 0.8]).double(), rtol=1e-4, atol=0)
    assert flat[0].norm() <= 1.0
    assert torch.equal(flat[1], rows[1].double())
    assert torch.equal(flat[2:], torch.zeros(3, 2).double())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"student_input": "both"}, "student_input must be real or noise, got 'both'"),
        ({"n_steps": 0}, "n_steps must be at least 1, got 0"),
        ({"teacher_steps": 0}, "teacher_steps must be at least 1"),
        ({"batch": 0}, "batch must be at least 1"),
        ({"clip_norm": 0.0}, "clip_norm must be a number greater than 0, got 0.0"),
        ({"learning_rate": math.inf}, "learning_rate must be a number greater than 0"),
        ({"ema_decay": 1.0}, "ema_decay must lie in"),
        ({"adversarial_weight": -1.0}, "adversarial_weight must be at least 0"),
        ({"sigma_min": 0.0}, "sigma_min"),
    ],
)
def test_settings_that_cannot_run_are_refused(change: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PaperSettings(**change)  # type: ignore[arg-type]


def test_settings_follow_the_facts() -> None:
    assert resolve(PaperSettings(), FACTS).preset == "tiny"
    assert resolve(PaperSettings(), replace(FACTS, shape=(1, 28, 28))).preset == "small"
    assert (PaperSettings().ladder > 0).all() and len(PaperSettings().ladder) == 500
    with pytest.raises(ValueError, match="paper.batch must lie in"):
        resolve(PaperSettings(batch=6001), FACTS)
    with pytest.raises(ValueError, match="preset must be one of"):
        resolve(PaperSettings(preset="huge"), FACTS)


def students(with_canary: bool, n_trials: int, std: float, seed: int) -> Tensor:
    """Where the published flow leaves the students of the canary's class, (trials,).

    Ideal teacher of one number per class: the mean of the class, zero where it is empty. Questions
    are free of data, every class alike; each output gradient is clipped to C = 1 and noised; steps
    of 0.1 on the mean, as many as the claim prices.
    """
    n_steps, batch, n_classes = SETTINGS.n_steps, SETTINGS.batch, 10
    teacher = torch.zeros(n_classes)
    if with_canary:
        teacher[9] = 1.0  # the class's only record
    generator = torch.Generator().manual_seed(seed)
    student = torch.zeros(n_trials, n_classes, dtype=torch.float64)
    labels = torch.arange(batch) % n_classes
    to_class = torch.nn.functional.one_hot(labels, n_classes).double()
    for _ in range(n_steps):
        gradients = 2 * (student[:, labels] - teacher[labels])
        clipped = clip_rows(gradients.reshape(-1, 1), 1.0).reshape(n_trials, batch)
        noise = torch.randn(n_trials, batch, generator=generator, dtype=torch.float64)
        student -= 0.1 * ((clipped + std * noise) @ to_class) / batch
    return student[:, 9]


def lower_bound(hits: int, false_alarms: int, n: int, delta: float) -> float:
    """Of epsilon at 95 %: both rates by Clopper and Pearson at 97.5 %."""
    low = 0.0 if hits == 0 else float(beta.ppf(0.025, hits, n - hits + 1))
    high = 1.0 if false_alarms == n else float(beta.ppf(0.975, false_alarms + 1, n - false_alarms))
    return math.log(max(low - delta, 1e-12) / high)


def attacked(std: float) -> tuple[int, int, float]:
    """Hits and false alarms among 150 held-out students each, and the bound; the threshold comes
    from 150 others.
    """
    first = [students(world, 150, std, seed=10 + world) for world in (False, True)]
    threshold = (first[0].mean() + first[1].mean()) / 2
    held_out = [students(world, 150, std, seed=20 + world) for world in (False, True)]
    false_alarms, hits = (int((values > threshold).sum()) for values in held_out)
    return hits, false_alarms, lower_bound(hits, false_alarms, 150, BUDGET.delta)


def test_the_claimed_epsilon_of_1_is_refuted_by_the_only_record_of_its_class() -> None:
    told = told_of("noise")
    hits, false_alarms, bound = attacked(told.settings["noise_multiplier"])
    assert (hits, false_alarms) == (150, 0)
    # As much as 150 trials can show; the claim is 1.
    assert bound > 3.5 > told.claimed_epsilon
    assert bound <= told.worst_case.epsilon


def test_noise_that_is_worth_an_epsilon_of_1_hides_the_same_record() -> None:
    """The attack is no artefact: at the worst case's own price, mu = 0.268, it sees nothing."""
    _, _, bound = attacked(2 * math.sqrt(SETTINGS.batch * SETTINGS.n_steps) / 0.268)
    assert bound <= 1.0
