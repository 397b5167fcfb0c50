"""What a plan promises to show is what was measured at such noise, and follows from it alone."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from dpgen.configurations.dpdm import DPDMSettings
from dpgen.configurations.pge import PGESettings
from dpgen.images.facts import PublicFacts
from dpgen.methods.expectation import FROM, expected
from dpgen.privacy.accounting.accountant import Budget
from dpgen.privacy.accounting.events import GaussianLeaf

DIGITS = PublicFacts((1, 8, 8), tuple("0123456789"), 1437)


def plan_of(*leaves: tuple[float, float, int]) -> Any:  # noqa: ANN401
    """A plan of stages by rate, noise multiplier and number of steps."""
    events = [GaussianLeaf(*leaf).event for leaf in leaves]
    stages = [SimpleNamespace(mechanism=SimpleNamespace(event=event)) for event in events]
    return SimpleNamespace(stages=stages)


@pytest.mark.parametrize(
    ("epsilon", "level"), [(0.2, "averages"), (1.0, "shapes"), (10.0, "details")]
)
@pytest.mark.parametrize(
    "settings", [PGESettings(mode="sketch"), DPDMSettings()], ids=["sketch", "dpdm"]
)
def test_the_digits_of_the_benchmark_are_what_was_measured(
    settings: PGESettings | DPDMSettings, epsilon: float, level: str
) -> None:
    """25 to 36 % accuracy, 82 to 91 %, 96 to 98 %, whatever the method."""
    assert expected(settings.plan(DIGITS, Budget(epsilon, 1e-4)), DIGITS).level == level


def test_the_weight_is_that_of_a_class_over_the_noise_on_an_image() -> None:
    facts = PublicFacts((1, 4, 4), ("a", "b"), 80)
    assert expected(plan_of((1.0, 5.0, 1)), facts).weight == pytest.approx(40 / 5 / 4)
    # Two releases at sqrt(2) times the noise are one; so are ten steps, each on a tenth of them.
    for leaves in ([(1.0, 5 * math.sqrt(2), 1)] * 2, [(0.1, 0.5 * math.sqrt(10), 10)]):
        assert expected(plan_of(*leaves), facts).weight == pytest.approx(2.0)
    smaller = replace(facts, shape=(1, 2, 2))
    assert expected(plan_of((1.0, 5.0, 1)), smaller).weight == pytest.approx(4.0)


@pytest.mark.parametrize("level", FROM)
def test_as_many_records_as_are_named_reach_the_next_level(level: str) -> None:
    plan, facts = plan_of((1.0, 3.0, 1)), PublicFacts((3, 16, 16), ("a", "b"), 100)
    found = expected(plan, facts)
    while found.level != level:
        assert found.records_for_more is not None
        assert f"begin at about {found.records_for_more:,} records a class" in found.text
        facts = replace(facts, n_records=round(2.1 * found.records_for_more))
        found = expected(plan, facts)
    assert found.weight / FROM[level] == pytest.approx(1.05, rel=0.05)


@pytest.mark.parametrize(("multiplier", "nothing"), [(99.0, False), (101.0, True)])
def test_nothing_is_learned_where_the_noise_exceeds_all_records(
    multiplier: float, nothing: bool
) -> None:
    facts = PublicFacts((1, 2, 2), ("a",), 100)
    found = expected(plan_of((1.0, multiplier, 1), (1.0, 200.0, 1)), facts)
    assert (found.level == "nothing") == nothing == ("nothing would be learned" in found.text)
