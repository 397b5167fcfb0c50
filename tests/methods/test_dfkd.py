"""DFKD: neighbour replay of the whole fit, resuming, certificate, and labels changed at random."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from dpgen import (
    DFKD,
    Budget,
    ClassifierSettings,
    DFKDSettings,
    LabelSettings,
    PrivateDataset,
    PupilSettings,
    RefinementSettings,
    SketchSettings,
)
from dpgen.auditing.replay import hurried
from dpgen.images.images import PublicFacts
from dpgen.methods.loading import load
from dpgen.methods.planned import planned_check
from dpgen.networks.fixed.gabor import GaborFeatures
from dpgen.networks.proposer import Proposer
from dpgen.networks.student import Student
from dpgen.privacy.statements.certificate import sha256_file, statement_bytes
from dpgen.privacy.statements.randomised_labels import KEY, SENTENCE
from dpgen.privacy.verification.verify import verify
from dpgen.runs.context import Hardware
from dpgen.stages import classifier, sketch_plan
from dpgen.storage.canonical import digest
from dpgen.synthetic.synthesise import synthesise
from tests.methods import test_replay as replay
from tests.methods.stopped import Stopped, assert_same_networks, stop_after

live = replay.live
STAGES = {"sketch 1", "sketch 2", "classifier"}
FACTS = PublicFacts((1, 8, 8), ("a", "b", "c"), 30)


def tiny(name: str = "randomised") -> DFKD:
    """Tiny DFKD, whose labels are changed at random or not."""
    sketch = SketchSettings(
        n_steps=(2, 2), n_per_class=4, n_frequencies=12, n_hidden_frequencies=6, n_samples=60,
        classifier_steps=2, classifier=ClassifierSettings(share=0.3, n_steps=4),
    )  # fmt: skip
    settings = DFKDSettings(
        sketch=sketch,
        refinement=RefinementSettings(n_steps=2, batch_size=6),
        labels=LabelSettings(n_images=24, randomise=1.0 if name == "randomised" else None),
        student=PupilSettings(n_steps=3, batch_size=8),
    )
    return DFKD(budget=Budget(3.0, 1e-3), settings=settings)


@pytest.fixture
def untrained() -> Callable[[str], DFKD]:
    """What `live` fits."""
    return tiny


@pytest.fixture(autouse=True)
def few_features(monkeypatch: pytest.MonkeyPatch) -> None:
    """A twelfth of the teacher's features, whose axes take longer than the rest of a fit."""
    for module, name in ((classifier, "features_for"), (sketch_plan, "GaborFeatures")):
        monkeypatch.setattr(module, name, partial(GaborFeatures, grid=2))


@pytest.fixture
def run(
    tmp_path: Path,
    dataset: Callable[..., PrivateDataset],
    records: Any,  # noqa: ANN401
) -> Path:
    tiny().fit(dataset(records), out=tmp_path / "run", seed=1)
    return tmp_path / "run"


def test_an_added_record_moves_every_release_by_at_most_its_bound_and_shows_in_nothing_released(
    live: Callable[..., replay.World],
    records: Any,  # noqa: ANN401
) -> None:
    without, checks = live("randomised", records), {"checks": (replay.CHECKS, 2)}
    moved = replay.moved_by_added(live, "randomised", records, without, checks, STAGES)["checks"]
    assert {"student.safetensors", "model.safetensors"} <= without.files.keys()
    assert all(0.5 < max(values) for values in moved.values()), moved


def test_a_run_stopped_after_the_refinement_goes_on_to_the_same_networks_and_pays_once(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    dataset: Callable[..., PrivateDataset],
    records: Any,  # noqa: ANN401
) -> None:
    """One key for all, so that a run that nothing stopped is the oracle."""
    monkeypatch.setattr("dpgen.privacy.lineage.keys.new_key", lambda: b"k" * 32)
    monkeypatch.setenv("DPGEN_HOME", str(tmp_path / "home"))
    saved = stop_after(monkeypatch, lambda names: names.count("refinement") == len(names[-1:]) == 1
                       and names[-1] == "refinement")  # fmt: skip
    with pytest.raises(Stopped):
        tiny().fit(dataset(records), out=tmp_path / "run", seed=1)
    torch.manual_seed(5)  # nothing public is drawn from torch's own generator
    found = tiny().fit(dataset(records), out=tmp_path / "run", seed=1)
    assert saved.count("refinement") == saved.count("student") == 1
    assert not any(check.failed for check in verify(tmp_path / "run"))
    monkeypatch.setenv("DPGEN_HOME", str(tmp_path / "other home"))
    oracle = tiny().fit(dataset(records), out=tmp_path / "oracle", seed=1)
    assert_same_networks(oracle, found)


def test_a_run_and_its_set_say_that_the_guarantee_does_not_rest_on_changed_labels(
    run: Path, tmp_path: Path
) -> None:
    assert not any(check.failed for check in verify(run))
    assert planned_check(run).held is True
    found = load(run)
    assert {"model.safetensors", "student.safetensors", "classifier.safetensors"} <= set(
        found.privacy["artifact"]["files"]
    )
    assert found.privacy["mechanism"]["id"] == "dfkd/sealed"
    assert [one["name"] for one in found.privacy["mechanism"]["theorems"]] == ["B2", "F3", "A3"]
    assert isinstance(found.networks["model"], Proposer) and isinstance(found.student, Student)
    assert found.privacy[KEY] == SENTENCE and SENTENCE in found.document.sentences
    # The parameter of the response is nowhere near the guarantee.
    assert found.settings.labels.randomise == 1.0 and not any(c.isdigit() for c in SENTENCE)
    synthesise(run, 6, tmp_path / "set", layout="npz", seed=3)
    assert not any(check.failed for check in verify(tmp_path / "set"))
    assert "no part of the guarantee rests on it" in (tmp_path / "set" / "RELEASE.md").read_text()


def test_a_certificate_that_keeps_silent_about_changed_labels_or_praises_them_fails(
    run: Path,
) -> None:
    """The hashes of statement and files are right, so that only what they say is wrong."""
    statement = json.loads((run / "privacy.json").read_text())

    def failed(change: dict[str, Any]) -> set[str]:
        body = {k: v for k, v in {**statement, **change}.items() if k != "sha256" and v is not None}
        (run / "privacy.json").write_bytes(statement_bytes({**body, "sha256": digest(body)}))
        return {check.name for check in verify(run) if check.failed}

    assert failed({}) == set()
    assert failed({KEY: None}) == {"configuration"}
    assert failed({KEY: "Labels are private at epsilon 1."}) == {"randomised labels"}
    assert sha256_file(run / "config.json") == statement["artifact"]["files"]["config.json"]


def test_labels_as_the_teacher_gives_them_are_not_mentioned_and_are_its_own(
    tmp_path: Path,
    records: Any,  # noqa: ANN401
    dataset: Callable[..., PrivateDataset],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[torch.Tensor] = []
    monkeypatch.setattr(
        "dpgen.training.labelled.learn", lambda s, images, labels, *_, **__: seen.extend(
            [images, labels]
        )
    )  # fmt: skip
    found = tiny("plain").fit(dataset(records), out=tmp_path / "run", seed=1)
    assert KEY not in found.privacy
    images, labels = seen
    assert len(images) == 24 and torch.equal(labels, found.classifier.label(images))


def test_what_is_free_is_cut_short_for_an_audit_and_the_plan_stays() -> None:
    generator = tiny()
    short = DFKD(budget=generator.budget, settings=hurried(DFKDSettings()))
    assert short.plan(FACTS) == DFKD(budget=generator.budget).plan(FACTS)
    assert short.settings.student.n_steps == short.settings.refinement.n_steps == 2
    assert short.settings.labels.n_images == 8


def test_the_teacher_has_half_of_mu_squared() -> None:
    plan = DFKD(budget=Budget(3.0, 1e-3)).plan(FACTS)
    squares = {
        stage.label: stage.mechanism.n_releases / stage.mechanism.noise_multiplier**2
        for stage in plan.stages
    }
    assert squares["classifier"] / sum(squares.values()) == pytest.approx(0.5, rel=1e-3)


def test_settings_that_make_no_sense_are_refused() -> None:
    for settings, words in (
        ({"mode": "proven"}, "mode of dfkd must be"),
        ({"sketch": SketchSettings(kind="spectrum")}, "a spectrum has none"),
        (
            {"sketch": SketchSettings(labeller_share=0.2, classifier=ClassifierSettings(0.2))},
            "not both",
        ),
        ({"refinement": RefinementSettings(adversarial_weight=0.1)}, "frozen before there is"),
    ):
        with pytest.raises(ValueError, match=words):
            DFKDSettings(**settings)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="at least 2 classes"):
        DFKD(epsilon=1).plan(PublicFacts((1, 8, 8), ("a",), 900))


def test_a_plan_rehearses_every_loop_on_this_machine() -> None:
    generator = tiny("plain")

    def seconds(student: PupilSettings, randomise: float | None) -> float:
        labels = replace(generator.settings.labels, randomise=randomise)
        settings = replace(generator.settings, student=student, labels=labels)
        return DFKD(budget=generator.budget, settings=settings).rehearse(
            FACTS, Hardware("cpu")
        ).seconds  # fmt: skip

    long = PupilSettings(n_steps=4000, batch_size=8)
    assert 0 < seconds(generator.settings.student, None) < seconds(long, None) < seconds(long, 1.0)
