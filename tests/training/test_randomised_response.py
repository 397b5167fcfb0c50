"""Selective randomised response: its law by enumeration, its ratio, and what is drawn from it."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import pytest
import torch

from dpgen.training.randomised_response import candidates, keep_probability, law, respond

N = 4
PRIORS = (
    (0.25, 0.25, 0.25, 0.25), (0.7, 0.1, 0.1, 0.1), (0.4, 0.35, 0.15, 0.1), (0.0, 0.5, 0.5, 0.0),
    (1.0, 0.0, 0.0, 0.0),
)  # fmt: skip


def _by_hand(label: int, prior: tuple[float, ...], odds: Fraction) -> tuple[set[int], list]:
    """The set, and the law by listing what can happen, in fractions; e^eps0 is ``odds``."""
    masses = [Fraction(mass) for mass in prior]
    order = sorted(range(N), key=lambda c: (-masses[c], c))
    worth = {k: odds / (odds + k - 1) * sum(masses[c] for c in order[:k]) for k in range(1, N + 1)}
    best = min(k for k in worth if worth[k] == max(worth.values()))
    among, found = order[:best], [Fraction(0)] * N
    kept = odds / (odds + best - 1)
    if label not in among:
        for c in among:
            found[c] += Fraction(1, best)
        return set(among), found
    found[label] += kept
    others = [c for c in among if c != label]
    for c in others:
        found[c] += (1 - kept) / len(others)
    return set(among), found


@pytest.mark.parametrize("odds", [2, 3, 20])
@pytest.mark.parametrize("prior", PRIORS)
def test_the_law_is_what_listing_every_outcome_gives(prior: tuple[float, ...], odds: int) -> None:
    masses, epsilon = torch.tensor([prior] * N), math.log(odds)
    found, among = law(torch.arange(N), masses, epsilon), candidates(masses, epsilon)
    for label in range(N):
        # float32 holds the prior; what is compared is the law of exactly these numbers.
        held = tuple(masses[label].tolist())
        wanted_set, wanted = _by_hand(label, held, Fraction(odds))
        assert set(among[label].nonzero()[:, 0].tolist()) == wanted_set, (prior, label)
        assert found[label].tolist() == pytest.approx([float(x) for x in wanted], rel=1e-12)
        assert sum(wanted) == 1


@pytest.mark.parametrize("epsilon", [0.1, 1.0, 3.0, 800.0])
def test_no_two_labels_give_a_class_with_a_ratio_above_the_parameter(epsilon: float) -> None:
    """As long as the set is the same for both; and the bound is met where it has two classes."""
    for prior in PRIORS:
        masses = torch.tensor([prior] * N)
        rows = law(torch.arange(N), masses, epsilon)
        size = int(candidates(masses, epsilon)[0].sum())
        worst = 0.0
        for one, other in itertools.permutations(rows, 2):
            possible = one > 0
            assert bool((other[possible] > 0).all()) or epsilon > 700  # e^-800 is no float
            ratios = one[possible].log() - other[possible].log()
            worst = max(worst, float(ratios.max()))
        if epsilon < 700:
            assert worst <= epsilon * (1 + 1e-9)
            assert worst == pytest.approx(epsilon if size > 1 else 0.0, abs=1e-9)


def test_a_set_that_depends_on_the_label_breaks_the_ratio() -> None:
    """The reason why the prior may be anything but the teacher's opinion of this image."""
    own = 0.97 * torch.eye(N) + 0.01
    rows = law(torch.arange(N), own, 1.0)
    assert torch.equal(rows, torch.eye(N, dtype=torch.float64))  # every label comes out as it is


def test_without_an_opinion_it_is_the_usual_response_among_all_classes() -> None:
    rows = law(torch.arange(N), torch.ones(N, N), 1.0)
    kept = math.e / (math.e + N - 1)
    assert torch.allclose(rows.diagonal(), torch.full((N,), kept).double(), rtol=1e-12)
    assert torch.allclose(rows.sum(1), torch.ones(N).double(), rtol=1e-12)
    assert float(keep_probability(torch.tensor([1]), 1.0)) == 1.0


def test_labels_are_drawn_from_the_law() -> None:
    n, generator = 40_000, torch.Generator().manual_seed(0)
    for label in (0, 3):  # in the set, and outside
        masses = torch.tensor([[0.45, 0.35, 0.2, 0.0]])
        expected = law(torch.tensor([label]), masses, 1.0)[0]
        labels = torch.full((n,), label)
        drawn = respond(labels, masses.expand(n, N), 1.0, generator).bincount(minlength=N)
        assert bool((drawn[expected == 0] == 0).all())
        deviations = (drawn - n * expected).abs() / (n * expected).sqrt().clamp_min(1)
        assert float(deviations.max()) < 4.5
    assert len(respond(labels[:0], masses[:0], 1.0, generator)) == 0
