"""Data-free distillation as published: claims, worst cases, what is noised, and settings."""

from __future__ import annotations

import itertools
import math
from statistics import NormalDist
from typing import Any

import pytest
import torch
from torch import Tensor

from dpgen.auditing.games.bounds import gaussian_epsilon
from dpgen.images.images import PublicFacts
from dpgen.networks.student import ClassifierConfig, Student
from dpgen.privacy.accounting.accountant import Budget
from dpgen.privacy.mechanisms.clipping import MARGIN
from dpgen.privacy.mechanisms.noise import KeyedNoise, new_key
from dpgen.published.data_free import Loop, clipped, normalised
from dpgen.published.data_free_claims import claim
from dpgen.published.data_free_settings import FLOWS, PaperSettings, resolve
from dpgen.training.randomised_response import law

FACTS = PublicFacts((1, 8, 8), ("a", "b", "c"), 30)
BUDGET = Budget(1.0, 1e-5)


def told_of(flow: str, **own: Any) -> Any:  # noqa: ANN401
    settings = resolve(PaperSettings(flow=flow, **own), FLOWS[flow].method, FACTS)
    return claim(settings, BUDGET)


@pytest.mark.parametrize("flow", ["gradient", "data"])
def test_noise_is_worth_less_than_claimed_by_the_root_of_the_images_of_a_step(flow: str) -> None:
    told = told_of(flow, n_steps=25, batch=64)
    sigma = told.settings["noise_multiplier"]
    assert told.claimed_epsilon == 1.0
    # One answer of a step, moved by twice its bound: 2 sqrt(T) / sigma. All of them: times 8.
    claimed_mu = 2 * math.sqrt(25) / sigma
    assert gaussian_epsilon(claimed_mu, 1e-5) == pytest.approx(1.0, rel=1e-3)
    assert told.worst_case.mu == pytest.approx(8 * claimed_mu, rel=1e-4)
    assert told.worst_case.epsilon == pytest.approx(
        gaussian_epsilon(8 * claimed_mu, 1e-5), rel=2e-3
    )
    assert told.mechanism == f"{FLOWS[flow].method}/paper" and told.reference == "theorem P3"


def test_votes_are_priced_as_they_are_and_what_is_voted_on_by_nothing() -> None:
    told = told_of("votes", n_steps=5, batch=20)
    mu = math.sqrt(100) / told.settings["noise_multiplier"]
    assert gaussian_epsilon(mu, 1e-5) == pytest.approx(1.0, rel=1e-3)
    assert told.claimed_epsilon == 1.0 and math.isinf(told.worst_case.epsilon)
    assert told.mechanism == "dgd/paper" and "generator was trained" in told.reason


def test_the_class_of_the_most_votes_after_the_noise_is_the_label() -> None:
    """Every image is a release, and noise is that of two votes' distance, times the multiplier."""
    settings = resolve(PaperSettings(n_steps=2, batch=2, n_shards=4), "dgd", FACTS)
    heard: list[tuple[int, float]] = []

    class Heard(KeyedNoise):
        def add(self, total: Tensor, std: float, *, release: int, name: str) -> Tensor:
            heard.append((release, std))
            return total + 10 * torch.eye(len(total))[release % 3].double()

    voters = [lambda x, k=k: torch.eye(3)[[k, 0]] for k in (1, 1, 2, 1)]
    loop = Loop(
        settings, FACTS, Student(ClassifierConfig((1, 8, 8), 3, 8)), Heard(bytes(32), "plan"), 3.0,
        generator=torch.Generator().manual_seed(0), seed=0, show=False, voters=voters,
    )  # type: ignore[arg-type]  # fmt: skip
    votes = loop._votes(torch.zeros(2, 1, 8, 8))
    assert votes.tolist() == [[0, 3, 1], [4, 0, 0]]
    assert loop._counted(votes, 1).tolist() == [2, 0]
    assert heard == [(2, 3.0 * math.sqrt(2)), (3, 3.0 * math.sqrt(2))]


def test_labels_add_up_and_where_records_choose_their_sets_nothing_bounds_them() -> None:
    told = told_of("label", n_steps=3, batch=4)
    assert (told.claimed_epsilon, told.worst_case.epsilon) == (1.0, 12.0)
    one = told_of("label", n_steps=1, batch=1).worst_case
    # A response of that parameter lies above the curve of N(mu, 1), and meets it at one point.
    keep = math.e / (math.e + 1)
    assert one.mu == pytest.approx(2 * NormalDist().inv_cdf(keep), rel=1e-4)
    assert told.worst_case.mu == pytest.approx(math.sqrt(12) * one.mu, rel=1e-4)
    for unbounded in (told_of("label", candidates="teacher"), told_of("frozen")):
        assert math.isinf(unbounded.worst_case.epsilon) and math.isinf(unbounded.worst_case.mu)


def test_all_labels_together_differ_by_as_much_as_the_worst_case_says() -> None:
    """P3 (b) by listing all outcomes of two labels: one teacher says 0, the other 1."""
    laws = law(torch.tensor([0, 1]), torch.ones(2, 3), 1.0)
    ratios = [
        float((laws[0, i] * laws[0, j] / (laws[1, i] * laws[1, j])).log())
        for i, j in itertools.product(range(3), repeat=2)
    ]
    assert max(ratios) == pytest.approx(2.0, abs=1e-12)


class Silent(KeyedNoise):
    """Keeps what is asked, and adds nothing."""

    def __init__(self) -> None:
        super().__init__(new_key(), "")
        self.asked: list[tuple[str, Tensor, float]] = []

    def add(self, total: Tensor, std: float, *, release: int, name: str) -> Tensor:
        self.asked.append((name, total.clone(), std))
        return total.double()


def _loop(flow: str, noise: KeyedNoise, **own: Any) -> tuple[Loop, Student]:  # noqa: ANN401
    settings = resolve(
        PaperSettings(flow=flow, batch=6, width=8, **own), FLOWS[flow].method, FACTS
    )
    torch.manual_seed(4)
    teacher = Student(ClassifierConfig(FACTS.shape, 3, 8)).requires_grad_(False)
    generator = torch.Generator().manual_seed(1)
    own_seed: dict[str, Any] = {"generator": generator, "seed": 0, "show": False}
    return Loop(settings, FACTS, teacher, noise, 2.0, **own_seed), teacher


@pytest.mark.parametrize(("flow", "bound"), [("gradient", 1.0), ("data", 0.5)])
def test_every_answer_lies_in_its_ball_and_is_noised_by_the_multiplier(
    flow: str, bound: float
) -> None:
    noise = Silent()
    loop, _ = _loop(flow, noise)
    loop.step(0)
    ((name, total, std),) = noise.asked
    assert name == "answers" and total.shape == (6, 3) and std == 2.0 * bound
    norms = total.norm(dim=1)
    assert bool((norms <= bound).all())
    if flow == "gradient":
        assert bool((norms > 0.99).all())


def test_the_chain_rule_carries_the_noised_gradient_and_nothing_else_of_the_teacher() -> None:
    """The student's gradient is J' u / B, by an oracle that never sees the teacher."""
    noise = Silent()
    loop, _ = _loop("gradient", noise)
    images = loop._drawn()[0].detach()
    answers = torch.randn(6, 3, generator=torch.Generator().manual_seed(2))
    logits = loop.student(images)
    loop._loss(logits, answers, 0).backward()
    ((_, u, _),) = noise.asked
    found = loop.student.network.head.weight.grad
    features = loop.student.features(images)
    assert found is not None
    assert torch.allclose(found, u.float().T @ features.detach() / 6, atol=1e-6)


def test_coins_of_a_response_are_secret_and_the_law_is_the_response() -> None:
    loop, _ = _loop("label", KeyedNoise(b"k" * 32, "p"))
    answers = torch.eye(3)[torch.zeros(6).long()] * 20
    logits = torch.zeros(6, 3)
    drawn = torch.cat([loop._responses(logits, answers, step) for step in range(400)])
    kept = float((drawn == 0).double().mean())
    wanted = math.exp(2) / (math.exp(2) + 2)
    assert abs(kept - wanted) < 4.5 * math.sqrt(wanted * (1 - wanted) / 2400)
    other, _ = _loop("label", KeyedNoise(b"j" * 32, "p"))
    again, _ = _loop("label", KeyedNoise(b"k" * 32, "p"))
    first = drawn[:60]
    for one, same in ((again, True), (other, False)):
        repeated = torch.cat([one._responses(logits, answers, step) for step in range(10)])
        assert torch.equal(repeated, first) is same


def test_a_frozen_generator_follows_the_teacher_and_then_stays() -> None:
    loop, teacher = _loop("frozen", Silent(), generator_steps=40)
    generator = loop._generator

    def agreement() -> float:
        y = torch.arange(60) % 3
        z = torch.randn(60, generator.config.n_latents, generator=torch.Generator().manual_seed(5))
        return float((teacher(generator(z, y)).argmax(1) == y).double().mean())

    before = agreement()
    loop.freeze()
    assert agreement() > max(before, 0.5)
    held = [p.clone() for p in generator.parameters()]
    loop.step(0)
    assert all(torch.equal(a, b) for a, b in zip(held, generator.parameters(), strict=True))


def test_rows_that_are_not_finite_become_zero() -> None:
    odd = torch.tensor([[math.nan, 1.0], [math.inf, 0.0], [3.0, 4.0], [0.0, 0.0]])
    for found, length in ((normalised(odd), 1.0), (clipped(odd, 0.5), 0.5)):
        assert torch.equal(found[[0, 1, 3]], torch.zeros(3, 2).double())
        assert float(found[2].norm()) == pytest.approx(length / MARGIN, rel=1e-7)


@pytest.mark.parametrize(
    ("method", "given", "message"),
    [
        ("dpdfd", {"flow": "label"}, "paper.flow of dpdfd must be gradient, got 'label'"),
        ("dpsd", {"flow": "gradient"}, "paper.flow of dpsd must be label or data"),
        ("dpdfd", {"candidates": "teacher"}, "paper.candidates is for flows that change labels"),
        ("dfkd", {"n_shards": 5}, "paper.n_shards is for flow votes, got flow frozen: drop it"),
        ("dgd", {"candidates": "teacher"}, "paper.candidates is for flows that change labels"),
        ("dpsd", {"generator_steps": 9}, "paper.generator_steps is for a generator that is frozen"),
    ],
)
def test_settings_of_another_flow_are_refused(
    method: str, given: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        resolve(PaperSettings(**given), method, FACTS)


def test_settings_that_cannot_run_are_refused() -> None:
    for given, words in (
        ({"flow": "both"}, "flow must be one of gradient, label, data, frozen, votes, got 'both'"),
        ({"candidates": "nobody"}, "candidates must be student or teacher"),
        ({"n_steps": 0}, "n_steps must be at least 1"),
        ({"generator_steps": 0}, "generator_steps must be at least 1"),
        ({"width": 12}, "width must be a positive multiple of 8"),
    ):
        with pytest.raises(ValueError, match=words):
            PaperSettings(**given)  # type: ignore[arg-type]
    assert resolve(PaperSettings(), "dfkd", FACTS).generator_steps == 200
