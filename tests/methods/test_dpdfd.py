"""DPDFD: neighbour replay of the whole fit, resuming, certificate, samples, the student."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dpgen import (
    DPDFD,
    PGE,
    Budget,
    ClassifierSettings,
    DPDFDSettings,
    PGESettings,
    PrivateDataset,
    RefinementSettings,
    SketchSettings,
    StudentSettings,
)
from dpgen.auditing.replay import hurried
from dpgen.images.images import PublicFacts, to_float
from dpgen.methods.loading import load
from dpgen.methods.planned import planned_check
from dpgen.networks.fixed.gabor import GaborFeatures
from dpgen.networks.proposer import Proposer
from dpgen.networks.student import Student
from dpgen.privacy.statements import statement
from dpgen.privacy.statements.certificate import CertificateError
from dpgen.privacy.verification.verify import verify
from dpgen.runs.context import Hardware
from dpgen.stages import classifier, sketch_plan
from dpgen.stages.spectrum_settings import SpectrumSettings
from dpgen.synthetic.join import join
from dpgen.synthetic.part import Share
from dpgen.synthetic.synthesise import synthesise
from dpgen.training import data_free
from dpgen.training.imitation_settings import ImitationSettings
from tests.commands import dpgen
from tests.methods import test_replay as replay
from tests.methods.stopped import Stopped, assert_same_networks, stop_after

live = replay.live
pytestmark = pytest.mark.filterwarnings("ignore:vaccine_weight has no effect")
STAGES = {
    "classifier": {"sketch 1", "sketch 2", "classifier"},
    "labeller": {"sketch 1", "sketch 2", "label moments"},
    "moments": {"spectrum centre", "spectrum scale", "spectrum moments", "classifier"},
}
IMITATION = ImitationSettings(n_pictures=30, n_steps=2, n_per_class=4, n_frequencies=12)
FACTS = PublicFacts((1, 8, 8), ("a", "b", "c"), 30)


def tiny(name: str = "classifier", **given: Any) -> DPDFD:  # noqa: ANN401
    """Tiny DPDFD by its teacher, or by the prior that is no sketch; every loss has a weight."""
    teacher: dict[str, Any] = {"labeller_share": 0.3}
    if name != "labeller":
        teacher = {"classifier": ClassifierSettings(share=0.3, n_steps=4)}
    own: dict[str, Any] = {}
    if name == "moments":
        spectrum = SpectrumSettings(bands=3, own_spread=True)
        sketch = SketchSettings(n_samples=60, spectrum=spectrum, augment="warp", **teacher)
        own["imitation"] = IMITATION
    else:
        sketch = SketchSettings(
            n_steps=(2, 2), n_per_class=4, n_frequencies=12, n_hidden_frequencies=6, n_samples=60,
            classifier_steps=2, **teacher,
        )  # fmt: skip
    refinement = RefinementSettings(
        n_steps=2, batch_size=6, moments_weight=1.0, adversarial_weight=0.1, balance_weight=0.1,
        activation_weight=0.1, vaccine_weight=0.1,
    )  # fmt: skip
    settings = DPDFDSettings(
        sketch=sketch, refinement=refinement,
        student=StudentSettings(n_steps=3, batch_size=8, retrospect=True), **own,
    )  # fmt: skip
    return DPDFD(budget=Budget(3.0, 1e-3), settings=settings)


@pytest.fixture
def untrained() -> Callable[[str], DPDFD]:
    """What `live` fits, by its teacher."""
    return tiny


@pytest.fixture(autouse=True)
def few_features(monkeypatch: pytest.MonkeyPatch) -> None:
    """A twelfth of the teacher's features, whose axes take longer than the rest of a fit, and few
    images by which its copies are chosen.
    """
    monkeypatch.setattr(data_free, "N_COMPARED", 30)
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


@pytest.mark.parametrize(
    "name", ["classifier", "moments", pytest.param("labeller", marks=pytest.mark.slow)]
)
def test_an_added_record_moves_every_release_by_at_most_its_bound_and_shows_in_nothing_released(
    name: str,
    live: Callable[..., replay.World],
    records: Any,  # noqa: ANN401
) -> None:
    # Checks have no low frequencies, which are all that moments ask for.
    record = (replay.WHITE, 0) if name == "moments" else (replay.CHECKS, 2)
    without, one = live(name, records), {"one": record}
    moved = replay.moved_by_added(live, name, records, without, one, STAGES[name])["one"]
    assert {"student.safetensors", "model.safetensors"} <= without.files.keys()
    # What the moments of a spectrum reach hangs on the released scale: tests/stages has the worst.
    moved.pop("spectrum moments", None)
    assert all(0.5 < max(values) for values in moved.values()), moved


@pytest.mark.parametrize(
    ("name", "after"),
    [
        pytest.param("classifier", "classifier", marks=pytest.mark.slow),
        ("classifier", "refinement"),
        ("moments", "imitation"),
    ],
)
def test_a_run_stopped_after_a_checkpoint_goes_on_to_the_same_networks_and_pays_once(
    name: str,
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
        tiny(name).fit(dataset(records), out=tmp_path / "run", seed=1)
    torch.manual_seed(5)  # nothing public is drawn from torch's own generator
    found = tiny(name).fit(dataset(records), out=tmp_path / "run", seed=1)
    free = {"refinement", "student"} | ({"imitation"} if name == "moments" else set())
    assert all(saved.count(one) == 1 for one in free)
    assert not any(check.failed for check in verify(tmp_path / "run"))
    monkeypatch.setenv("DPGEN_HOME", str(tmp_path / "other home"))
    oracle = tiny(name).fit(dataset(records), out=tmp_path / "oracle", seed=1)
    assert_same_networks(oracle, found)


def test_a_run_is_certified_loaded_and_drawn_from_and_its_student_names_classes(run: Path) -> None:
    assert not any(check.failed for check in verify(run))
    assert planned_check(run).held is True
    found = load(run)
    files = found.privacy["artifact"]["files"]
    assert {"model.safetensors", "student.safetensors", "classifier.safetensors"} <= set(files)
    assert found.privacy["mechanism"]["id"] == "dpdfd/sealed"
    assert isinstance(found.networks["model"], Proposer) and isinstance(found.student, Student)
    images = found.sample(7, seed=3)
    assert images.pixels.shape == (7, 1, 8, 8)
    assert torch.equal(found.sample(40, seed=3).pixels[:7], images.pixels)
    logits = found.student(images.pixels)
    assert found.classify(images.pixels) == ["abc"[k] for k in logits.argmax(1)]
    assert torch.allclose(found.student.probabilities(images.pixels), logits.softmax(1))


def test_a_student_that_was_changed_is_neither_loaded_nor_verified(run: Path) -> None:
    held = (run / "student.safetensors").read_bytes()
    (run / "student.safetensors").write_bytes(held[:-4] + b"\x00\x00\x00\x01")
    assert any(check.failed for check in verify(run))
    with pytest.raises(CertificateError, match="student.safetensors missing or changed"):
        load(run)


def test_images_that_were_drawn_again_are_counted_in_a_set_and_in_its_joined_parts(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statement, "now", lambda: "2026-01-01T00:00:00+00:00")
    whole = synthesise(run, 40, tmp_path / "whole", layout="npz", seed=3)
    counts = whole["synthetic_dataset"]["redraws"]
    assert not any(check.failed for check in verify(tmp_path / "whole"))
    parts = [tmp_path / str(i) for i in (1, 2)]
    for i, part in enumerate(parts, start=1):
        synthesise(run, 40, part, layout="npz", seed=3, share=Share(i, 2))
    assert join(parts, tmp_path / "joined") == whole
    # Every image beyond the labeller's liking was drawn eight times more, and no other.
    generator, labels = load(run), torch.arange(40) % 3
    rejected = generator.classifier.label(generator.sample(40, seed=3).pixels) != labels
    assert counts["rejected"] == int(rejected.sum())
    assert counts["draws"] >= 8 * counts["rejected"] and counts["images"] >= counts["rejected"]
    assert counts["images"] > 0, "a teacher of four steps agrees with everything"
    page = (tmp_path / "whole" / "RELEASE.md").read_text()
    assert f"{counts['images']} of 40 were, {counts['draws']} times in all" in page


def test_evaluate_takes_a_run_and_measures_its_student_and_teacher(
    run: Path,
    tmp_path: Path,
    records: Any,  # noqa: ANN401
) -> None:
    labels = np.array(records.labels)
    np.savez(tmp_path / "real.npz", images=records.pixels[..., None], labels=labels)
    told = tmp_path / "scores.json"
    result = dpgen(
        "evaluate", run, "--reference", tmp_path / "real.npz", "--split", "all", "--json", told,
        "-q",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    found = json.loads(told.read_text())
    student, teacher = (found["classifiers"][f"{run}: {name}"] for name in ("student", "teacher"))
    assert found["sets"] == {} and found["real"] is None
    right = load(run).student.label(to_float(torch.from_numpy(records.pixels[:, None])))
    assert student["accuracy"] == pytest.approx(float((right.numpy() == labels).mean()))
    assert 0 <= student["agreement"] <= 1 and teacher["agreement"] is None
    assert 0 <= student["calibration_error"] <= 1 and len(student["per_class"]) == 3
    assert "agrees with its teacher" in result.stdout
    refused = dpgen(
        "evaluate", run, "--reference", "digits", "--preview", tmp_path / "p.png", "-q"
    )
    assert refused.exit_code == 2 and "--preview shows synthetic images" in refused.stderr


def test_what_is_free_is_cut_short_for_an_audit_and_the_plan_stays() -> None:
    generator = tiny()
    short = DPDFD(budget=generator.budget, settings=hurried(DPDFDSettings()))
    assert short.plan(FACTS) == DPDFD(budget=generator.budget).plan(FACTS)
    assert short.settings.student.n_steps == short.settings.refinement.n_steps == 2


@pytest.mark.parametrize("given", [None, ClassifierSettings(n_steps=20)], ids=["", "steps"])
def test_shares_of_the_teacher_and_the_sketch_are_those_of_mu_squared(
    given: ClassifierSettings | None,
) -> None:
    settings = DPDFDSettings(sketch=SketchSettings(classifier=given))
    plan = DPDFD(budget=Budget(3.0, 1e-3), settings=settings).plan(FACTS)
    squares = {
        stage.label: stage.mechanism.n_releases / stage.mechanism.noise_multiplier**2
        for stage in plan.stages
    }
    total = sum(squares.values())
    assert squares["classifier"] / total == pytest.approx(0.5, rel=1e-3)
    assert squares["sketch 1"] / total == pytest.approx(0.3, rel=1e-3)
    with pytest.raises(ValueError, match="must leave some of the budget"):
        SketchSettings(labeller_share=0.5, classifier=ClassifierSettings(0.5))


@pytest.mark.parametrize(
    "facts",
    [FACTS, PublicFacts((3, 16, 16), tuple("abcdefghij"), 2000, adjacency="replace_one")],
    ids=["few grey ones", "colour"],
)
def test_moments_cost_what_their_releases_and_the_teacher_cost_alone(facts: PublicFacts) -> None:
    """The price of pge, whose stages are the same, is the oracle; the decoder is free."""
    budget = Budget(3.0, 1e-5)
    plan = DPDFD(budget=budget, settings=DPDFDSettings(prior="moments")).plan(facts)
    sketch = SketchSettings(kind="spectrum", classifier=ClassifierSettings(share=0.5))
    assert plan == PGE(budget=budget, settings=PGESettings(mode="sketch", sketch=sketch)).plan(
        facts
    )
    assert {stage.label for stage in plan.stages} == STAGES["moments"]
    more = ImitationSettings(n_pictures=50_000, n_steps=9000, n_frequencies=9000)
    longer = DPDFDSettings(prior="moments", imitation=more)
    assert DPDFD(budget=budget, settings=longer).plan(facts) == plan


@pytest.mark.parametrize(
    "given",
    [
        {"prior": "moments"}, {"imitation": ImitationSettings()},
        {"sketch": SketchSettings(kind="spectrum")},
        {"sketch": SketchSettings(spectrum=SpectrumSettings())},
    ],
)  # fmt: skip
def test_settings_of_moments_ask_for_them_and_what_was_resolved_stays(given: Any) -> None:  # noqa: ANN401
    found = DPDFDSettings(**given).resolved(FACTS)
    assert (found.prior, found.sketch.kind) == ("moments", "spectrum")
    assert found.imitation == ImitationSettings() and found.resolved(FACTS) == found
    usual = DPDFDSettings().resolved(FACTS)
    assert (usual.prior, usual.sketch.kind, usual.imitation) == ("sketch", "decoder", None)
    assert usual.resolved(FACTS) == usual


def test_a_plan_of_moments_is_made_by_the_command(tmp_path: Path) -> None:
    (tmp_path / "facts.toml").write_text(
        'shape = [3, 16, 16]\nclass_names = ["a", "b"]\nn_records = 4000\n'
    )
    told = dpgen(
        "plan", "dpdfd", "--facts", tmp_path / "facts.toml", "--epsilon", "3",
        "--set", "prior=moments", "--set", "sketch.spectrum.bands=6", "--json",
    )  # fmt: skip
    assert told.exit_code == 0, told.stderr
    assert {one["label"] for one in json.loads(told.stdout)["stages"]} == STAGES["moments"]


def test_settings_that_make_no_sense_are_refused() -> None:
    for settings, words in (
        ({"mode": "proven"}, "mode of dpdfd must be 'sealed' or 'paper'"),
        ({"mode": "paper", "student": StudentSettings(width=8)}, "student.* are settings of mode"),
        ({"prior": "none"}, "prior must be one of sketch, moments, got 'none'"),
        (
            {"prior": "sketch", "sketch": SketchSettings(kind="spectrum")},
            "are settings of prior moments: set prior=moments, or drop them",
        ),
        ({"prior": "sketch", "imitation": IMITATION}, "are settings of prior moments"),
        (
            {"prior": "moments", "sketch": SketchSettings(kind="decoder")},
            "prior moments is a spectrum, got sketch.kind decoder",
        ),
        ({"mode": "paper", "prior": "moments"}, "prior are settings of mode sealed"),
        (
            {"sketch": SketchSettings(labeller_share=0.2, classifier=ClassifierSettings(0.2))},
            "not both",
        ),
    ):
        with pytest.raises(ValueError, match=words):
            DPDFDSettings(**settings)  # type: ignore[arg-type]
    for name in ("n_pictures", "n_steps", "n_per_class", "n_frequencies"):
        with pytest.raises(ValueError, match=f"{name} of the imitation must be at least"):
            ImitationSettings(**{name: 0})
    for given, words in (
        ({"learning_rate": 0.0}, "learning_rate must be a number greater than 0"),
        ({"bandwidths": (0.2, -1.0)}, "bandwidths must be positive numbers"),
    ):
        with pytest.raises(ValueError, match=words):
            ImitationSettings(**given)  # type: ignore[arg-type]
    few = DPDFDSettings(imitation=ImitationSettings(n_pictures=5))
    with pytest.raises(ValueError, match="imitation.n_pictures must be at least 2 for each of 3"):
        few.resolved(FACTS)
    decoded = DPDFDSettings(prior="moments", sketch=SketchSettings(n_steps=(5, 5)))
    with pytest.raises(ValueError, match="sketch.n_steps is a setting of the decoder"):
        decoded.resolved(FACTS)
    with pytest.raises(ValueError, match="at least 2 classes"):
        DPDFD(epsilon=1).plan(PublicFacts((1, 8, 8), ("a",), 900))


@pytest.mark.parametrize("name", ["classifier", "moments"])
def test_a_plan_rehearses_every_loop_on_this_machine(name: str) -> None:
    generator = tiny(name)
    longer: dict[str, Any] = {"student": StudentSettings(n_steps=3000)}
    if name == "moments":
        longer = {"imitation": replace(IMITATION, n_steps=3000)}
    settings = replace(generator.settings, **longer)
    other = DPDFD(budget=generator.budget, settings=settings)
    short, long = (one.rehearse(FACTS, Hardware("cpu")) for one in (generator, other))
    assert 0 < short.seconds < long.seconds and short.n_parameters == long.n_parameters
