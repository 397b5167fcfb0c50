"""A run folder that was copied before its DP-SGD stage, and continued twice: with another
micro-batch, another loss in an edited `run.json`, another precision. Both once got one noise."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState
from torch import Tensor

from dpgen.data.private import PrivateDataset
from dpgen.privacy.ledger.chain import LedgerError, parse_lines
from dpgen.privacy.lineage.answers import Answers
from dpgen.privacy.lineage.descent import Descent
from dpgen.privacy.lineage.memory import Overtaken
from dpgen.privacy.lineage.witness import StageWitness
from dpgen.privacy.mechanisms.noise import KeyedNoise
from dpgen.privacy.verification.verify import verify
from dpgen.runs.context import Hardware
from dpgen.stages import denoising, warm_start
from dpgen.storage.canonical import canonical


@dataclass(frozen=True)
class Way:
    """How a copy is continued, and what a refusal says of it."""

    said: str
    n_draws: int = 2
    precision: str = "no"
    micro_batch: int = 16


WAYS = {
    "micro-batch": Way("micro_batch was 16, now it is 5", micro_batch=5),
    "edited run.json": Way("objective.levels.n_draws was 2, now it is 1", n_draws=1),
    "precision": Way("objective.precision was 'no', now it is 'bf16'", precision="bf16"),
}
AS_BEGUN = Way("")


class Killed(BaseException):
    """The machine went down."""


@pytest.fixture(autouse=True)
def precisions() -> Iterator[None]:
    """`accelerate` keeps one precision for the whole process."""
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture
def fit(
    untrained: Callable[..., Any], dataset: Callable[..., PrivateDataset], records: Any  # noqa: ANN401
) -> Callable[..., Any]:
    """`fit` of tiny DPDM, two private steps, into a folder."""

    def run(folder: Path, way: Way = AS_BEGUN) -> Any:  # noqa: ANN401
        path = folder / "checkpoint" / "run.json"
        if path.exists() and way.n_draws != 2:
            held = json.loads(path.read_text())
            held["configuration"]["settings"]["teacher"]["n_draws"] = way.n_draws
            path.write_text(canonical(held))
        AcceleratorState._reset_state(reset_partial_state=True)
        hardware = Hardware("cpu", way.precision, way.micro_batch)
        method = untrained("dpdm", n_steps=2, n_draws=way.n_draws)
        return method.fit(dataset(records), out=folder, seed=1, hardware=hardware)

    return run


def killed_before_the_teacher(fit: Callable[..., Any], folder: Path) -> None:
    def die(*_: Any, **__: Any) -> None:  # noqa: ANN401
        raise Killed

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr(denoising, "train_teacher", die)
        fit(folder)


def ledger_of(home: Path) -> list[dict[str, Any]]:
    (path,) = (home / "ledgers").glob("*.jsonl")
    return parse_lines(path.read_text(), "ledger")


@pytest.mark.parametrize("name", WAYS)
def test_a_copied_run_folder_goes_on_once(
    name: str, fit: Callable[..., Any], tmp_path: Path, home: Path
) -> None:
    killed_before_the_teacher(fit, tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    fit(tmp_path / "a")
    lines = ledger_of(home)
    with pytest.raises(Overtaken, match="Continue in that folder, or start a new run folder"):
        fit(tmp_path / "b", WAYS[name])
    assert ledger_of(home) == lines
    assert not (tmp_path / "b" / "privacy.json").exists()
    assert (tmp_path / "b" / "checkpoint" / "keys").exists(), "what is refused is not deleted"
    assert not any(check.failed for check in verify(tmp_path / "a"))
    kinds = [line["kind"] for line in lines]
    assert [kinds.count(k) for k in ("charge", "asked", "finished", "lineage")] == [3, 3, 3, 2]


@pytest.mark.parametrize("name", WAYS)
def test_a_run_that_was_killed_in_its_stage_is_resumed_as_it_was_begun(
    name: str, fit: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(StageWitness, "answering", dying_at("teacher", 1))
        fit(tmp_path / "run")
    path = tmp_path / "run" / "checkpoint" / "run.json"
    begun = path.read_text()
    with pytest.raises(LedgerError, match=WAYS[name].said):
        fit(tmp_path / "run", WAYS[name])
    path.write_text(begun)
    assert fit(tmp_path / "run").privacy["releases"]["teacher"] == {"charged": 2, "executed": 2}


def dying_at(label: str, release: int) -> Callable[..., None]:
    """The machine goes down when the question of a release is noted and its answer is not made."""
    answering = StageWitness.answering

    def dying(witness: StageWitness, question: Any, number: int) -> None:  # noqa: ANN401
        answering(witness, question, number)
        if (witness._charge.label, number) == (label, release):
            raise Killed

    return dying


@pytest.mark.parametrize(
    ("label", "made"), [("class spread", "class_means"), ("teacher", "class_covariances")]
)
def test_what_a_stage_starts_from_was_written_down_and_is_not_made_up_again(
    label: str, made: str, fit: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On another machine a solver rounds otherwise: no honest run is refused for that."""
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(StageWitness, "answering", dying_at(label, 0))
        fit(tmp_path / "run")
    real = getattr(warm_start, made)

    def rounded(*given: Any) -> Any:  # noqa: ANN401
        found = real(*given)
        first = found[0] if isinstance(found, tuple) else found
        first *= 1 + 2**-50
        return found

    monkeypatch.setattr(warm_start, made, rounded)
    assert not any(check.failed for check in verify(fit(tmp_path / "run").folder))


@pytest.mark.parametrize("name", WAYS)
def test_two_answers_that_nothing_held_back_have_independent_noise(
    name: str, fit: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every check of the ledger switched off: what is left stands in the key of the noise."""
    killed_before_the_teacher(fit, tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    nothing: Callable[..., None] = lambda *_, **__: None  # noqa: E731
    for owner, door in (
        (Descent, "prepare"), (Descent, "begin"), (Descent, "_require"), (Descent, "enter"),
        (Descent, "note"), (Descent, "finish"),
        (StageWitness, "_compared"), (StageWitness, "starting"), (StageWitness, "saving"),
        (Answers, "contradict"),
    ):  # fmt: skip
        monkeypatch.setattr(owner, door, nothing)
    monkeypatch.setattr(StageWitness, "_is_first", lambda *_: True)
    heard: list[dict[tuple[int, str], tuple[Tensor, Tensor, float]]] = []
    real = KeyedNoise.add

    def add(self: KeyedNoise, total: Tensor, std: float, *, release: int, name: str) -> Tensor:
        answer = real(self, total, std, release=release, name=name)
        heard[-1][release, name] = (total.clone(), answer, std)
        return answer

    monkeypatch.setattr(KeyedNoise, "add", add)
    for folder, way in (("a", AS_BEGUN), ("b", WAYS[name])):
        heard.append({})
        fit(tmp_path / folder, way)
    one, other = heard
    assert one.keys() == other.keys() and len(one) > 10
    noise = [
        torch.cat([((answer - total) / std).flatten() for total, answer, std in world.values()])
        for world in (one, other)
    ]
    sums = [torch.cat([t.flatten() for t, _, _ in world.values()]) for world in (one, other)]
    assert not torch.equal(*sums)
    n = len(noise[0])
    correlation = float((noise[0] * noise[1]).mean())
    assert abs(correlation) * n**0.5 < 6
    assert float((noise[0] - noise[1]).std()) == pytest.approx(2**0.5, rel=0.01)
