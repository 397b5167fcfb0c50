"""DPSD: neighbour replay of the whole fit, resuming, certificate, samples, what it refuses."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from dpgen import (
    DPSD,
    Budget,
    ClassifierSettings,
    DPSDSettings,
    PrivateDataset,
    RefinementSettings,
    SketchSettings,
    StudentSettings,
    VoteSettings,
)
from dpgen.auditing.replay import hurried
from dpgen.images.images import PublicFacts, to_float
from dpgen.methods.loading import load
from dpgen.methods.planned import planned_check
from dpgen.networks.fixed.gabor import GaborFeatures
from dpgen.privacy.accounting.calibration import gaussian_mu
from dpgen.privacy.ledger.chain import LedgerError
from dpgen.privacy.mechanisms.ensemble import NoisyEnsemble, Votes
from dpgen.privacy.mechanisms.noisy_ensemble import Ensemble
from dpgen.privacy.mechanisms.teachers import answers as _answers
from dpgen.privacy.mechanisms.teachers import vote
from dpgen.privacy.verification.verify import verify
from dpgen.runs.checkpoint import Checkpoints
from dpgen.runs.context import Hardware
from dpgen.stages import votes
from dpgen.stages.ensemble import Answered
from dpgen.stages.votes import RidgeTeacher
from dpgen.stages.votes_settings import DEVIATIONS, MARGIN, MODES
from tests.commands import dpgen
from tests.methods import test_replay as replay
from tests.methods.stopped import Stopped, assert_same_networks, stop_after

live = replay.live
STAGES = {"sketch 1", "sketch 2", "votes"}
FACTS = PublicFacts((1, 8, 8), ("a", "b", "c"), 30)
BUDGET = Budget(30.0, 1e-3)


def tiny(name: str = "label", **given: Any) -> DPSD:  # noqa: ANN401
    """Tiny DPSD of this mode: twelve shards, five queries in two rounds."""
    sketch = SketchSettings(
        n_steps=(2, 2), n_per_class=4, n_frequencies=12, n_hidden_frequencies=6, n_samples=60,
        classifier_steps=2,
    )  # fmt: skip
    settings = DPSDSettings(
        mode=name, sketch=sketch,
        votes=VoteSettings(n_shards=12, n_queries=5, n_rounds=2, n_drawn=2),
        refinement=RefinementSettings(n_steps=2, batch_size=6),
        student=StudentSettings(n_steps=3, batch_size=8),
    )  # fmt: skip
    return DPSD(budget=BUDGET, settings=settings)


@pytest.fixture
def untrained() -> Callable[[str], DPSD]:
    """What `live` fits."""
    return tiny


@pytest.fixture(autouse=True)
def few_features(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(votes, "features_for", partial(GaborFeatures, grid=2))


@pytest.fixture
def run(
    tmp_path: Path,
    dataset: Callable[..., PrivateDataset],
    records: Any,  # noqa: ANN401
) -> Path:
    tiny().fit(dataset(records), out=tmp_path / "run", seed=1)
    return tmp_path / "run"


@pytest.mark.parametrize("mode", MODES)
def test_an_added_record_moves_every_release_by_at_most_its_bound_and_shows_in_nothing_released(
    mode: str,
    live: Callable[..., replay.World],
    records: Any,  # noqa: ANN401
) -> None:
    without, checks = live(mode, records), {"checks": (replay.CHECKS, 2)}
    moved = replay.moved_by_added(live, mode, records, without, checks, STAGES)["checks"]
    assert {"student.safetensors", "model.safetensors"} <= without.files.keys()
    assert max(moved["votes"]) > (0.5 if mode == "label" else 0.2)
    if mode == "label":
        # From no vote, or from another class: a record moves one vote.
        assert {round(x, 3) for x in moved["votes"]} <= {0.0, 0.707, 1.0}
    assert not any("teacher" in name for name in without.files), "teachers are never stored"


@pytest.mark.parametrize(
    ("mode", "after"), [("label", "student 1"), ("data", "student 1"), ("label", "refinement")]
)
def test_a_run_that_was_stopped_asks_nothing_twice_and_comes_to_the_same_networks(
    mode: str,
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
        tiny(mode).fit(dataset(records), out=tmp_path / "run", seed=1)
    torch.manual_seed(5)  # nothing public is drawn from torch's own generator
    found = tiny(mode).fit(dataset(records), out=tmp_path / "run", seed=1)
    assert saved.count("votes") == saved.count("student 2") + 1 == 2, "one for each round"
    assert not any(check.failed for check in verify(tmp_path / "run"))
    monkeypatch.setenv("DPGEN_HOME", str(tmp_path / "other home"))
    oracle = tiny(mode).fit(dataset(records), out=tmp_path / "oracle", seed=1)
    assert_same_networks(oracle, found)


@pytest.mark.parametrize("change", ["more", "other"])
def test_saved_answers_that_nobody_gave_are_refused_also_when_they_are_all(
    change: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    dataset: Callable[..., PrivateDataset],
    records: Any,  # noqa: ANN401
) -> None:
    """Whoever repeats a round instead of asking one has executed less than the statement says."""
    monkeypatch.setenv("DPGEN_HOME", str(tmp_path / "home"))
    last = 1 if change == "more" else 2
    stop_after(monkeypatch, lambda names: names.count("votes") == last)
    with pytest.raises(Stopped):
        tiny().fit(dataset(records), out=tmp_path / "run", seed=1)
    path = tmp_path / "run/checkpoint/state/votes.safetensors"
    given = load_file(path)["answers"]
    assert len(given) == (3 if change == "more" else 5)
    saved = torch.cat([given, given])[:5] if change == "more" else given.flip(0)
    save_file({"answers": saved.contiguous()}, path, metadata={"numbers": '{"step":5}'})
    monkeypatch.setattr("dpgen.privacy.lineage.witness._ANSWERED", {})
    with pytest.raises(LedgerError, match="holds 5 answers, and 3 were|come to another answer"):
        tiny().fit(dataset(records), out=tmp_path / "run", seed=1)


def test_a_run_is_certified_loaded_drawn_from_and_measured(
    run: Path,
    tmp_path: Path,
    records: Any,  # noqa: ANN401
) -> None:
    assert not any(check.failed for check in verify(run))
    assert planned_check(run).held is True
    found = load(run)
    assert found.privacy["mechanism"]["id"] == "dpsd/label"
    assert [one["name"] for one in found.privacy["mechanism"]["theorems"]] == [
        "B2", "A2-V", "F3", "A3",
    ]  # fmt: skip
    how = found.privacy["implementation"]["stages"]["votes"]
    assert "one of 12 shards" in how["sampling"] and "one shard alone" in how["per_record"]
    assert found.sample(7, seed=3).pixels.shape == (7, 1, 8, 8)
    labels = np.array(records.labels)
    np.savez(tmp_path / "real.npz", images=records.pixels[..., None], labels=labels)
    told = tmp_path / "scores.json"
    result = dpgen(
        "evaluate", run, "--reference", tmp_path / "real.npz", "--split", "all", "--json", told,
        "-q",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    right = found.student.label(to_float(torch.from_numpy(records.pixels[:, None])))
    (scores,) = json.loads(told.read_text())["classifiers"].values()
    assert scores["accuracy"] == pytest.approx(float((right.numpy() == labels).mean()))


def test_queries_are_as_many_as_the_shards_allow_and_their_price_is_their_share() -> None:
    facts = replace(FACTS, n_records=60_000)
    budget = Budget(10.0, 1e-6)
    plan = DPSD(budget=budget).plan(facts)
    asked = plan.required("votes", NoisyEnsemble)
    assert (asked.n_shards, asked.n_queries, asked.n_records) == (245, 1000, 60_000)
    squares = {
        stage.label: stage.mechanism.n_releases / stage.mechanism.noise_multiplier**2
        for stage in plan.stages
    }
    assert squares["votes"] / sum(squares.values()) == pytest.approx(0.5, rel=1e-3)
    assert plan.epsilon(budget.delta) <= 10
    mu = gaussian_mu(Budget(1.0, 1e-6)) * math.sqrt(0.5)
    few = DPSD(budget=Budget(1.0, 1e-6)).plan(facts).required("votes", NoisyEnsemble)
    assert few.n_queries == math.floor((0.8 * 245 * mu / 5.1) ** 2)
    replaced = replace(facts, adjacency="replace_one")
    half = DPSD(budget=Budget(1.0, 1e-6)).plan(replaced).required("votes", NoisyEnsemble)
    assert half.n_queries == few.n_queries // 4
    short = DPSD(budget=budget, settings=hurried(DPSDSettings()))
    assert short.plan(facts) == plan


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
        DPSD(epsilon=2, settings=DPSDSettings(votes=VoteSettings(**given))).plan(facts)


def test_at_the_fewest_shards_nineteen_of_twenty_votes_survive_their_noise() -> None:
    """Ten classes, of which one has 0.82 K votes and the others the rest."""
    multiplier = 16.0
    n_shards = math.ceil(DEVIATIONS / MARGIN * multiplier)
    counts = torch.full((4000, 10), 0.02 * n_shards)
    counts[:, 0] = 0.82 * n_shards
    noise = torch.randn(counts.shape, generator=torch.Generator().manual_seed(0))
    right = (counts + math.sqrt(2) * multiplier * noise).argmax(1) == 0
    assert float(right.float().mean()) == pytest.approx(0.96, abs=0.015)


def test_corrections_of_two_classes_survive_their_noise_as_often_as_votes() -> None:
    """The student cannot tell two classes apart, 0.9 K teachers are for the first one."""
    multiplier, radius = 16.0, 0.5
    n_shards = math.ceil(DEVIATIONS / MARGIN * multiplier)
    apart = torch.tensor([radius, -radius]) / math.sqrt(2)
    noise = torch.randn(4000, 2, generator=torch.Generator().manual_seed(0))
    corrected = MARGIN * n_shards * apart + 2 * radius * multiplier * noise
    counts = n_shards * torch.tensor([0.9, 0.1]) + math.sqrt(2) * multiplier * noise
    right = [float((one[:, 0] > one[:, 1]).float().mean()) for one in (corrected, counts)]
    assert right[0] == pytest.approx(right[1], abs=1e-6) and right[0] > 0.98


def test_in_mode_data_an_answer_is_a_correction_of_the_student_within_its_radius(
    tmp_path: Path, dataset: Callable[..., PrivateDataset],
    records: Any, monkeypatch: pytest.MonkeyPatch,  # noqa: ANN401
) -> None:  # fmt: skip
    asked: list[tuple[Tensor, Tensor]] = []
    ask = Ensemble.ask

    def heard(self: Ensemble, queries: Tensor, **given: Any) -> Tensor:  # noqa: ANN401
        answers = list(_answers(self._mechanism, self._teachers, {"queries": queries, **given}, 1))
        there = [row for row, one in enumerate(self._teachers) if one is not None]
        asked.append((given["centre"], torch.stack(answers)[there]))
        return ask(self, queries, **given)

    monkeypatch.setattr(Ensemble, "ask", heard)
    found = tiny("data").fit(dataset(records), out=tmp_path / "run", seed=1)
    assert found.privacy["mechanism"]["id"] == "dpsd/data"
    assert not any(check.failed for check in verify(tmp_path / "run"))
    assert len(asked) == 2
    for centre, deviations in asked:
        assert torch.allclose(centre.sum(1), torch.ones(len(centre)).double(), atol=1e-6)
        lengths = deviations.norm(dim=2)
        assert lengths.max() <= 0.5 and (lengths > 0).any(1).all() and (lengths > 0.4).any()
        # Within the plane of probabilities: the numbers of a correction have the sum zero.
        assert torch.allclose(deviations.sum(2), torch.zeros(()).double(), atol=1e-6)


def test_a_finished_stage_gives_its_saved_answers_and_not_one_more(tmp_path: Path) -> None:
    states, mechanism = Checkpoints(tmp_path), NoisyEnsemble(Votes(3), 5, 4, 2.0, 20)
    answers = torch.randn(4, 3, generator=torch.Generator().manual_seed(0)).double()
    states.save("votes", {"answers": answers}, step=4)
    # Nothing is opened.
    data: Any = SimpleNamespace(is_finished=lambda *stage: stage == ("votes", mechanism))
    place: Any = SimpleNamespace(checkpoints=states)
    answered = Answered(data, mechanism, "votes", place, lambda: pytest.fail("it was opened"))
    parts = [answered.ask(torch.zeros(n, 1, 8, 8)) for n in (3, 1)]
    assert torch.equal(torch.cat(parts), answers)
    with pytest.raises(RuntimeError, match="has 4 saved answers, asked for 5"):
        answered.ask(torch.zeros(1, 1, 8, 8))


def test_settings_that_make_no_sense_are_refused() -> None:
    for settings, words in (
        ({"mode": "proven"}, "mode of dpsd must be 'label', 'data' or 'paper'"),
        ({"sketch": SketchSettings(kind="spectrum")}, "a spectrum has none"),
        ({"sketch": SketchSettings(classifier=ClassifierSettings(0.2))}, "take dpdfd"),
    ):
        with pytest.raises(ValueError, match=words):
            DPSDSettings(**settings)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="at least 2 classes"):
        DPSD(epsilon=10).plan(PublicFacts((1, 8, 8), ("a",), 900))
    for name, value in (
        ("share", 1.0), ("n_shards", 1), ("n_candidates", 1), ("ridge", 0.0), ("radius", 1.5),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=name):
            VoteSettings(**{name: value})


def test_a_teacher_that_cannot_be_trained_is_an_error_before_anything_is_charged(
    tmp_path: Path,
    dataset: Callable[..., PrivateDataset],
    records: Any,  # noqa: ANN401
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*given: Any) -> Any:  # noqa: ANN401
        raise AttributeError("a slip")

    data = dataset(records)
    monkeypatch.setattr(RidgeTeacher, "__call__", broken)
    with pytest.raises(AttributeError, match="a slip"):
        tiny().fit(data, out=tmp_path / "run", seed=1)
    assert not (tmp_path / "run").exists() and not list(tmp_path.rglob("*.jsonl"))


def test_a_teacher_of_a_shard_knows_what_it_was_shown_whatever_the_padding() -> None:
    fit = RidgeTeacher(GaborFeatures((1, 8, 8), grid=4), 3, 0.1)
    generator = torch.Generator().manual_seed(0)
    pixels, labels = torch.rand(9, 1, 8, 8, generator=generator), torch.arange(9) % 3
    valid = torch.arange(9) < 6
    scores = fit(pixels, labels, valid, 0)(pixels[:6])
    assert vote(scores).argmax(1).tolist() == labels[:6].tolist()
    other = pixels.clone()
    other[6:] = math.nan
    assert torch.equal(fit(other, labels.flip(0) * 0 + labels, valid, 0)(pixels[:6]), scores)
    alone = fit(pixels, labels + 0, torch.arange(9) == 4, 0)(pixels)
    assert alone.isfinite().all() and set(vote(alone).argmax(1).tolist()) == {1}


def test_a_plan_rehearses_every_loop_on_this_machine() -> None:
    generator = tiny()
    settings = replace(generator.settings, student=StudentSettings(n_steps=3000))
    longer = DPSD(budget=generator.budget, settings=settings)
    short, long = (one.rehearse(FACTS, Hardware("cpu")) for one in (generator, longer))
    assert 0 < short.seconds < long.seconds and short.n_parameters == long.n_parameters
