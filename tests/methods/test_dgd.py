"""DGD: neighbour replay of the whole fit, resuming, certificate, samples, what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from dpgen import (
    DGD,
    Budget,
    ClassifierSettings,
    DGDSettings,
    ManifoldSettings,
    PrivateDataset,
    RefinementSettings,
    SketchSettings,
    StudentSettings,
    VoteSettings,
)
from dpgen.auditing.replay import hurried
from dpgen.images.images import PublicFacts
from dpgen.methods.loading import load
from dpgen.methods.planned import planned_check
from dpgen.networks.fixed.gabor import GaborFeatures
from dpgen.privacy.accounting.calibration import gaussian_mu
from dpgen.privacy.mechanisms.ensemble import NoisyEnsemble
from dpgen.privacy.verification.verify import verify
from dpgen.runs.context import Hardware
from dpgen.settings import from_dict
from dpgen.stages import classifier, votes
from tests.methods import test_replay as replay
from tests.methods.stopped import Stopped, assert_same_networks, stop_after

live = replay.live
STAGES = {"sketch 1", "sketch 2", "classifier", "votes"}
FACTS = PublicFacts((1, 8, 8), ("a", "b", "c"), 30)
BUDGET = Budget(60.0, 1e-3)
OFF = ManifoldSettings(tangent_weight=0.0, normal_weight=0.0, entropy_weight=0.0)


def tiny(name: str = "dgd", **given: Any) -> DGD:  # noqa: ANN401
    """Tiny DGD: twelve shards, five queries in two rounds."""
    settings = DGDSettings(
        sketch=SketchSettings(
            n_steps=(2, 2), n_per_class=4, n_frequencies=12, n_hidden_frequencies=6, n_samples=60,
            classifier_steps=2, classifier=ClassifierSettings(n_steps=4),
        ),
        votes=VoteSettings(n_shards=12, n_queries=5, n_rounds=2, n_drawn=2),
        refinement=RefinementSettings(n_steps=2, batch_size=6),
        manifold=ManifoldSettings(n_images=12, n_epochs=1, batch_size=6, n_latents=3, n_moved=3),
        student=StudentSettings(n_steps=3, batch_size=8),
    )  # fmt: skip
    return DGD(budget=BUDGET, settings=replace(settings, **given))


@pytest.fixture
def untrained() -> Callable[[str], DGD]:
    """What `live` fits."""
    return tiny


@pytest.fixture(autouse=True)
def few_features(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (classifier, votes):
        monkeypatch.setattr(module, "features_for", partial(GaborFeatures, grid=2))


def test_an_added_record_moves_every_release_by_at_most_its_bound_and_shows_in_nothing_released(
    live: Callable[..., replay.World],
    records: Any,  # noqa: ANN401
) -> None:
    """Generator, autoencoder and student are among what is released: with a raw teacher any of them
    would differ."""
    without, checks = live("dgd", records), {"checks": (replay.CHECKS, 2)}
    moved = replay.moved_by_added(live, "dgd", records, without, checks, STAGES)["checks"]
    released = {"student.safetensors", "model.safetensors", "classifier.safetensors"}
    assert released <= without.files.keys()
    assert "autoencoder" in [name for name, _, _ in without.checkpoints]
    # From no vote, or from another class: a record moves one vote.
    assert {round(x, 3) for x in moved["votes"]} <= {0.0, 0.707, 1.0} and max(moved["votes"]) > 0.5
    assert all(max(values) > 0.5 for values in moved.values()), moved


def test_a_replaced_record_moves_a_release_by_at_most_twice_the_bound(
    live: Callable[..., replay.World],
    records: Any,  # noqa: ANN401
) -> None:
    given: dict[str, Any] = {"adjacency": "replace_one", "canary": len(records.labels)}
    first = live("dgd", records.plus(replay.WHITE, 0), **given)
    other = live("dgd", records.plus(replay.CHECKS, 2), forced=first, **given)
    replay.assert_priced(first)
    replay.assert_released_alike(first, other)
    moved = replay.movements(first, other)
    assert set(moved) == STAGES
    assert all(max(values) <= 2.0 for values in moved.values()), moved
    assert max(moved["classifier"]) > 0.5, "records of another class look different to a teacher"


@pytest.mark.parametrize("after", ["autoencoder", "student 1"])
def test_a_run_that_was_stopped_asks_nothing_twice_and_comes_to_the_same_networks(
    after: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    dataset: Callable[..., PrivateDataset],
    records: Any,  # noqa: ANN401
) -> None:
    """One key for all, so that a run that nothing stopped is the oracle."""
    monkeypatch.setattr("dpgen.privacy.lineage.keys.new_key", lambda: b"k" * 32)
    monkeypatch.setenv("DPGEN_HOME", str(tmp_path / "home"))
    saved = stop_after(monkeypatch, lambda names: names[-1] == after and names.count(after) == 1)
    with pytest.raises(Stopped):
        tiny().fit(dataset(records), out=tmp_path / "run", seed=1)
    torch.manual_seed(5)  # nothing public is drawn from torch's own generator
    found = tiny().fit(dataset(records), out=tmp_path / "run", seed=1)
    assert saved.count("autoencoder") == saved.count("refinement") == saved.count("student 2") == 1
    assert saved.count("votes") == 2, "one for each round"
    assert not any(check.failed for check in verify(tmp_path / "run"))
    monkeypatch.setenv("DPGEN_HOME", str(tmp_path / "other home"))
    oracle = tiny().fit(dataset(records), out=tmp_path / "oracle", seed=1)
    assert_same_networks(oracle, found)


def test_a_run_is_certified_loaded_and_drawn_from_and_the_manifold_costs_nothing(
    tmp_path: Path,
    dataset: Callable[..., PrivateDataset],
    records: Any,  # noqa: ANN401
) -> None:
    run = tmp_path / "run"
    generator = tiny().fit(dataset(records), out=run, seed=1)
    assert not any(check.failed for check in verify(run))
    assert planned_check(run).held is True
    found = load(run)
    assert found.privacy["mechanism"]["id"] == "dgd/sealed"
    assert [one["name"] for one in found.privacy["mechanism"]["theorems"]] == [
        "B2", "A2-V", "F3", "A3",
    ]  # fmt: skip
    assert set(found.privacy["implementation"]["stages"]) == STAGES
    assert set(found.networks) == {"model", "student", "classifier"}
    assert not any("autoencoder" in path.name for path in run.iterdir())
    images = found.sample(7, seed=3)
    assert images.pixels.shape == (7, 1, 8, 8)
    logits = found.student(images.pixels)
    assert found.classify(images.pixels) == ["abc"[k] for k in logits.argmax(1)]
    assert tiny(manifold=OFF).plan(FACTS) == tiny().plan(FACTS) == generator.plan(FACTS)


def test_shares_are_of_mu_squared_and_queries_as_many_as_the_shards_allow() -> None:
    facts = replace(FACTS, n_records=60_000)
    budget = Budget(10.0, 1e-6)
    plan = DGD(budget=budget).plan(facts)
    squares = {
        stage.label: stage.mechanism.n_releases / stage.mechanism.noise_multiplier**2
        for stage in plan.stages
    }
    total = sum(squares.values())
    shares = {label: square / total for label, square in squares.items()}
    assert shares == pytest.approx(
        {"sketch 1": 0.18, "sketch 2": 0.12, "classifier": 0.3, "votes": 0.4}, rel=2e-3
    )
    assert plan.epsilon(budget.delta) <= 10
    few = DGD(budget=Budget(1.0, 1e-6)).plan(facts).required("votes", NoisyEnsemble)
    mu = gaussian_mu(Budget(1.0, 1e-6)) * 0.4**0.5
    assert (few.n_shards, few.n_queries) == (245, int((0.8 * 245 * mu / 5.1) ** 2))
    given = from_dict(DGDSettings, {"votes": {"n_shards": 300}})
    other = DGD(budget=budget, settings=given).plan(facts).required("votes", NoisyEnsemble)
    usual = plan.required("votes", NoisyEnsemble)
    assert (other.n_shards, other.n_queries) == (300, usual.n_queries)
    assert other.noise_multiplier == usual.noise_multiplier, "the share of dgd, not of dpsd"
    labelled = DGDSettings(sketch=SketchSettings(labeller_share=0.5))
    stages = DGD(budget=budget, settings=labelled).plan(facts).stages
    assert [one.label for one in stages] == ["sketch 1", "sketch 2", "label moments", "votes"]
    assert DGD(budget=budget, settings=hurried(DGDSettings())).plan(facts) == plan


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"n_queries": 2000}, "2000 queries at mu = .* need at least .* shards, .* got 245"),
        ({"n_shards": 3}, "got 3, which allow 0 queries"),
    ],
)
def test_too_few_shards_are_refused_with_the_numbers(given: dict[str, int], words: str) -> None:
    facts = replace(FACTS, n_records=60_000)
    with pytest.raises(ValueError, match=words):
        DGD(epsilon=2, settings=DGDSettings(votes=VoteSettings(**given))).plan(facts)


def test_settings_that_make_no_sense_are_refused() -> None:
    for settings, words in (
        ({"mode": "label"}, "mode of dgd must be 'sealed' or 'paper', got 'label'"),
        ({"sketch": SketchSettings(kind="spectrum")}, "a spectrum has none"),
        (
            {"sketch": SketchSettings(labeller_share=0.2, classifier=ClassifierSettings(0.2))},
            "not both",
        ),
        ({"votes": VoteSettings(radius=0.4)}, "of corrections"),
    ):
        with pytest.raises(ValueError, match=words):
            DGDSettings(**settings)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="at least 2 classes"):
        DGD(epsilon=10).plan(PublicFacts((1, 8, 8), ("a",), 900))


def test_a_plan_rehearses_the_autoencoder_and_the_moves_too() -> None:
    hardware = Hardware("cpu")
    without, usual = (tiny(**g).rehearse(FACTS, hardware) for g in ({"manifold": OFF}, {}))
    manifold = replace(tiny().settings.manifold, n_images=60_000)
    longer = tiny(manifold=manifold).rehearse(FACTS, hardware)
    assert 0 < without.seconds < longer.seconds and usual.seconds < longer.seconds
    assert without.n_parameters == longer.n_parameters
