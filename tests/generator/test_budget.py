"""A budget without a delta is settled for the records as on the command line, and so written."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from dpgen import DPDM, PGE, Budget, PGESettings, open_images
from dpgen.generator.budget import asked_budget
from dpgen.images.facts import PublicFacts
from dpgen.methods import METHODS, find
from dpgen.privacy.accounting.accountant import default_delta, epsilon_of
from dpgen.privacy.accounting.events import GaussianLeaf
from dpgen.privacy.accounting.relation import Relation
from dpgen.stages.sketch_settings import SketchSettings
from dpgen.training.refit_settings import RefitSettings
from tests.commands import dpgen

QUICK = PGESettings(
    mode="sketch",
    sketch=SketchSettings(
        rounds=(1.0,), n_steps=(1,), n_per_class=2, n_frequencies=8, n_hidden_frequencies=8,
        n_samples=40, classifier_steps=1,
    ),
    score=RefitSettings(n_samples=40, n_steps=1, batch_size=4),
)  # fmt: skip
TYPED = [
    "--set=mode=sketch", "--set=sketch.rounds=[1.0]", "--set=sketch.n_steps=[1]",
    "--set=sketch.n_per_class=2", "--set=sketch.n_frequencies=8",
    "--set=sketch.n_hidden_frequencies=8", "--set=sketch.n_samples=40",
    "--set=sketch.classifier_steps=1", "--set=score.n_samples=40", "--set=score.n_steps=1",
    "--set=score.batch_size=4",
]  # fmt: skip


def facts(n_records: int) -> PublicFacts:
    return PublicFacts((1, 8, 8), ("a", "b"), n_records)


def test_an_open_budget_is_no_number_and_prices_nothing() -> None:
    budget = Budget(1)
    assert budget.is_open and not Budget(1, 1e-5).is_open
    assert str(budget) == "Budget(epsilon=1, delta=by the number of records)"
    with pytest.raises(TypeError):
        epsilon_of(GaussianLeaf(1.0, 1.0, 1).event, budget.delta, Relation("add_remove", 1))
    with pytest.raises(TypeError):
        json.dumps(budget.delta)
    with pytest.raises(TypeError):
        Budget(1, None)  # type: ignore[arg-type]


@pytest.mark.parametrize("n_records", [2, 1437, 10_000, 60_000, 10**7])
def test_an_open_budget_is_settled_as_for_records(n_records: int) -> None:
    assert Budget(3).settled(n_records) == Budget.for_records(3.0, None, n_records)
    assert Budget(3).settled(n_records).delta == default_delta(n_records)


def test_a_budget_with_a_delta_stays_and_is_still_checked() -> None:
    budget = Budget(3, 1e-4)
    assert budget.settled(1000) is budget
    with pytest.raises(ValueError, match="delta must lie below 1 / n_records"):
        budget.settled(10_000)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_takes_epsilon_alone_or_with_delta_or_a_budget(method: str) -> None:
    make = find(method)
    assert make(epsilon=3).budget.is_open
    assert make(epsilon=3, delta=1e-6).budget == make(budget=Budget(3.0, 1e-6)).budget
    plan = make(epsilon=3).plan(facts(60_000))
    settled = Budget.for_records(3.0, None, 60_000)
    assert plan == make(budget=settled).plan(facts(60_000))
    assert plan.epsilon(settled.delta) <= 3


def test_a_budget_and_an_epsilon_or_neither_are_refused() -> None:
    for budget, epsilon, delta in (
        (None, None, None), (Budget(1), 1.0, None), (Budget(1), None, 1e-5), (None, None, 1e-5),
    ):  # fmt: skip
        with pytest.raises(ValueError, match="give budget=Budget"):
            asked_budget(budget, epsilon, delta)


def test_a_plan_leaves_the_budget_open_for_the_data() -> None:
    generator = DPDM(epsilon=1)
    generator.plan(facts(100_000))
    assert generator.budget.is_open


def test_fit_settles_delta_writes_it_and_charges_what_the_command_line_charges(
    tmp_path: Path,
) -> None:
    generator = PGE(epsilon=3, settings=QUICK).fit(
        open_images("digits"), out=tmp_path / "python", seed=1
    )
    typed = dpgen(
        "train", "pge", "--data", "digits", "--epsilon", 3, *TYPED, "--seed", 1, "--out",
        tmp_path / "typed", "--device", "cpu", "-q",
    )  # fmt: skip
    assert typed.exit_code == 0, typed.output
    ours, theirs = ((tmp_path / name / "config.json").read_bytes() for name in ("python", "typed"))
    assert ours == theirs
    assert json.loads(ours)["budget"] == {"epsilon": 3.0, "delta": 1e-5}
    assert generator.budget == Budget(3.0, 1e-5)
    assert generator.privacy["guarantee"]["delta"] == 1e-5


def test_fit_settles_the_delta_anew_for_each_data_set(tmp_path: Path) -> None:
    generator = PGE(epsilon=3, settings=QUICK)
    few = replace(open_images("digits").facts, n_records=20_000, origin="stated")
    generator.fit(open_images("digits", facts=few), out=tmp_path / "a")
    assert generator.budget.delta == default_delta(20_000) == 5e-6
    generator.fit(open_images("digits"), out=tmp_path / "b")
    assert generator.budget.delta == 1e-5


def test_an_open_limit_of_a_data_set_is_settled_for_its_records() -> None:
    assert open_images("digits", limit=Budget(8)).limit == Budget(8.0, 1e-5)
