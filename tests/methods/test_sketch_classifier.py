"""The private classifier of a sketch: resumed at any step, released, certified, loaded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from dpgen.commands.evaluate import _released
from dpgen.data.private import PrivateDataset
from dpgen.images.images import PublicFacts
from dpgen.methods.loading import load
from dpgen.methods.planned import planned_check
from dpgen.networks.labeller import Labeller
from dpgen.privacy.accounting.accountant import Budget, epsilon_of, second_opinion
from dpgen.privacy.accounting.events import GaussianLeaf
from dpgen.privacy.accounting.relation import Relation
from dpgen.privacy.mechanisms.noise import KeyedNoise
from dpgen.privacy.statements.certificate import CertificateError
from dpgen.privacy.verification.verify import verify
from dpgen.runs.checkpoint import Checkpoints
from dpgen.stages.classifier_settings import LABEL, ClassifierSettings
from dpgen.stages.sketch_settings import SketchSettings
from tests.methods.stopped import Stopped, assert_same_networks
from tests.methods.test_sketch import tiny

N_STEPS = 4  # of `tiny`


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> dict[tuple[str, int], list[Tensor]]:
    """Every answer of the classifier's steps by plan and release, as often as it was given."""
    found: dict[tuple[str, int], list[Tensor]] = {}
    plain = KeyedNoise.add

    def add(noise: KeyedNoise, total: Tensor, std: float, *, release: int, name: str) -> Tensor:
        answer = plain(noise, total, std, release=release, name=name)
        if name == "weights":
            found.setdefault((noise._plan, release), []).append(answer.clone())
        return answer

    monkeypatch.setattr(KeyedNoise, "add", add)
    return found


@pytest.mark.parametrize("saved", [1, N_STEPS])
def test_a_run_stopped_at_a_step_goes_on_to_the_same_classifier_and_asks_nothing_twice(
    saved: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    dataset: Callable[..., PrivateDataset],
    records: Any,  # noqa: ANN401
    answers: dict[tuple[str, int], list[Tensor]],
) -> None:
    monkeypatch.setattr("dpgen.privacy.lineage.keys.new_key", lambda: b"k" * 32)
    monkeypatch.setattr(Checkpoints, "due", lambda states: True)
    write, seen = Checkpoints.save, list[int]()

    def save(states: Checkpoints, name: str, *rest: Any, **numbers: Any) -> None:  # noqa: ANN401
        if name == LABEL and not (tmp_path / "stopped").exists():
            if numbers["step"] == saved:  # the answer is known, and the state that holds it lost
                (tmp_path / "stopped").touch()
                raise Stopped
            seen.append(numbers["step"])
        write(states, name, *rest, **numbers)

    monkeypatch.setattr(Checkpoints, "save", save)
    monkeypatch.setenv("DPGEN_HOME", str(tmp_path / "home"))
    with pytest.raises(Stopped):
        tiny("classified").fit(dataset(records), out=tmp_path / "run", seed=1)
    torch.manual_seed(5)  # nothing public is seen by a step
    found = tiny("classified").fit(dataset(records), out=tmp_path / "run", seed=1)
    given = {release: len(times) for (_, release), times in answers.items()}
    assert given == {k: 2 if k == saved - 1 else 1 for k in range(N_STEPS)}
    for times in answers.values():
        assert all(torch.equal(times[0], again) for again in times)
    assert found.privacy["releases"][LABEL] == {"charged": N_STEPS, "executed": N_STEPS}
    assert not any(check.failed for check in verify(tmp_path / "run"))
    answers.clear()
    monkeypatch.setenv("DPGEN_HOME", str(tmp_path / "other home"))
    oracle = tiny("classified").fit(dataset(records), out=tmp_path / "oracle", seed=1)
    assert_same_networks(oracle, found)


def test_the_classifier_is_a_file_of_the_run_that_its_certificate_covers(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    dataset: Callable[..., PrivateDataset],
    records: Any,  # noqa: ANN401
) -> None:
    monkeypatch.setenv("DPGEN_HOME", str(tmp_path / "home"))
    run = tmp_path / "run"
    found = tiny("classified").fit(dataset(records), out=run, seed=1)
    assert "classifier.safetensors" in found.privacy["artifact"]["files"]
    assert found.privacy["mechanism"]["stages"][LABEL]["n_steps"] == N_STEPS
    assert planned_check(run).held is True
    again = load(run)
    x = torch.rand(5, 1, 8, 8) * 2 - 1
    assert isinstance(again.classifier, Labeller) and isinstance(found.classifier, Labeller)
    assert torch.equal(again.classifier(x), found.classifier(x))
    assert again.labeller is not None  # in grey it sends images back, too
    (judged,) = _released(run).values()
    assert isinstance(judged.network, Labeller)
    assert (judged.shape, judged.class_names) == ((1, 8, 8), ("a", "b", "c"))
    held = (run / "classifier.safetensors").read_bytes()
    (run / "classifier.safetensors").write_bytes(held[:-4] + b"\x00\x00\x00\x01")
    with pytest.raises(CertificateError, match="classifier.safetensors missing or changed"):
        load(run)


@pytest.mark.parametrize("adjacency", ["add_remove", "replace_one"])
def test_all_steps_together_cost_what_one_release_of_their_mu_costs(adjacency: str) -> None:
    facts = PublicFacts((1, 8, 8), ("a", "b"), 900, adjacency)  # type: ignore[arg-type]
    budget, relation = Budget(2.0, 1e-4), Relation(adjacency, 1)  # type: ignore[arg-type]
    plan = tiny("classified").plan(facts)
    steps = next(s.mechanism for s in plan.stages if s.label == LABEL)
    assert steps.n_releases == N_STEPS
    one = GaussianLeaf(1.0, steps.noise_multiplier / N_STEPS**0.5, 1).event
    for accountant in (epsilon_of, second_opinion):
        single, many = (accountant(e, budget.delta, relation) for e in (one, steps.event))
        assert many == pytest.approx(single, rel=1e-3)
    # The share is one of mu^2, and the noise of each step is that of its part of the share.
    sketched = [s.mechanism.noise_multiplier for s in plan.stages if s.label != LABEL]
    mu_squared = sum(1 / m**2 for m in sketched) + N_STEPS / steps.noise_multiplier**2
    assert N_STEPS / steps.noise_multiplier**2 == pytest.approx(0.3 * mu_squared, rel=1e-3)


def test_settings_that_make_no_sense_are_refused() -> None:
    for wrong in ({"share": 0.0}, {"share": 1.0}, {"n_steps": 1}, {"n_pictures": 5}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            ClassifierSettings(**wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="must leave some of the budget"):
        SketchSettings(labeller_share=0.5, classifier=ClassifierSettings(0.5))
    with pytest.raises(ValueError, match="left open"):
        _ = SketchSettings(classifier=ClassifierSettings()).shares
    with pytest.raises(ValueError, match="leave the classifier out"):
        tiny("classified").plan(PublicFacts((3, 5, 5), ("a", "b"), 900))
