"""Mode sketch: an answer that was given and lost is given again to the very same question, and what
a lost checkpoint costs is time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from dpgen import PGE
from dpgen.data.private import PrivateDataset
from dpgen.networks.labeller import Axes
from dpgen.networks.perceptual import HiddenFeatures
from dpgen.privacy.mechanisms.noise import KeyedNoise
from dpgen.privacy.verification.verify import verify
from dpgen.runs.checkpoint import Checkpoints
from dpgen.stages import sketch
from dpgen.training.matching import match
from tests.methods.stopped import Stopped
from tests.methods.test_sketch import STAGES, tiny

Fit = Callable[[str], PGE]
PRIVATE = {"sketch 1": ["sums"], "sketch 2": ["sums"], "label moments": ["sums", "squares"]}


@pytest.fixture
def fit(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    dataset: Callable[..., PrivateDataset],
    records: Any,  # noqa: ANN401
) -> Fit:
    """`fit` of the labelled sketch into a folder, in one world of keys."""
    monkeypatch.setattr("dpgen.privacy.lineage.keys.new_key", lambda: b"k" * 32)

    def run(folder: str) -> PGE:
        with monkeypatch.context() as patch:
            home = "oracle" if folder == "oracle" else "run"
            patch.setenv("DPGEN_HOME", str(tmp_path / f"{home} home"))
            return tiny("labelled").fit(dataset(records), out=tmp_path / folder, seed=1)

    return run


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, Tensor, Tensor]]:
    """Every (plan, tensor, sum before the noise, answer), in order."""
    seen: list[tuple[str, str, Tensor, Tensor]] = []
    plain = KeyedNoise.add

    def add(noise: KeyedNoise, total: Tensor, std: float, *, release: int, name: str) -> Tensor:
        answer = plain(noise, total, std, release=release, name=name)
        seen.append((noise._plan, name, total.clone(), answer.clone()))
        return answer

    monkeypatch.setattr(KeyedNoise, "add", add)
    return seen


def stop_before(monkeypatch: pytest.MonkeyPatch, wanted: str) -> None:
    write = Checkpoints.save

    def save(states: Checkpoints, name: str, *rest: Any, **numbers: Any) -> None:  # noqa: ANN401
        if name == wanted:
            raise Stopped
        write(states, name, *rest, **numbers)

    monkeypatch.setattr(Checkpoints, "save", save)


@pytest.mark.parametrize("stage", list(PRIVATE))
def test_an_answer_that_was_lost_is_given_again_to_the_same_question(
    stage: str,
    fit: Fit,
    answers: list[tuple[str, str, Tensor, Tensor]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Killed between release and checkpoint: sums and noise are bit-equal, nothing is charged."""
    with monkeypatch.context() as patch:
        stop_before(patch, stage)
        with pytest.raises(Stopped):
            fit("run")
    lost = answers[-len(PRIVATE[stage]) :]
    assert [name for _, name, _, _ in lost] == PRIVATE[stage]
    answers.clear()
    # Nothing that is public is seen by the release itself: another state of torch's generator.
    torch.manual_seed(123)
    generator = fit("run")
    again = answers[: len(lost)]
    for one, other in zip(lost, again, strict=True):
        assert one[:2] == other[:2]
        assert torch.equal(one[2], other[2]) and torch.equal(one[3], other[3])
    assert len(answers) == len(lost) + sum(
        len(names)
        for later, names in PRIVATE.items()
        if list(PRIVATE).index(later) > list(PRIVATE).index(stage)
    )
    assert generator.privacy["releases"] == {
        name: {"charged": 1, "executed": 1} for name in STAGES["labelled"]
    }
    assert not any(check.failed for check in verify(tmp_path / "run"))


def test_what_is_made_between_releases_needs_no_record_and_is_made_again_bit_by_bit(
    fit: Fit,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    records: Any,  # noqa: ANN401
) -> None:
    """After the last release the records may burn: any checkpoint but the releases may be lost,
    one by one or all together."""
    oracle = fit("oracle")
    state = tmp_path / "run" / "checkpoint" / "state"
    with monkeypatch.context() as patch:
        stop_before(patch, "score")
        with pytest.raises(Stopped):
            fit("run")
    whole = {path: path.read_bytes() for path in state.iterdir()}
    made = [path for path in whole if path.stem not in PRIVATE]
    between = ["axes", "decoder 1", "decoder 2", "features 2", "labeller"]
    assert sorted(path.stem for path in made) == between

    def burnt(rows: Any) -> Any:  # noqa: ANN401
        raise AssertionError("a record was read")

    monkeypatch.setattr(records, "read", burnt)
    for path in made:
        path.unlink()
        with monkeypatch.context() as patch:
            stop_before(patch, "score")
            with pytest.raises(Stopped):
                fit("run")
        assert {path: path.read_bytes() for path in state.iterdir()} == whole
    for path in made:
        path.unlink()
    generator = fit("run")
    for name, network in oracle.networks.items():
        found = generator.networks[name].state_dict()
        assert all(torch.equal(found[key], t) for key, t in network.state_dict().items()), name
    assert generator.privacy["guarantee"] == oracle.privacy["guarantee"]


def test_a_round_that_was_fitted_is_not_fitted_again(
    fit: Fit, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        stop_before(patch, "decoder 2")
        with pytest.raises(Stopped):
            fit("run")
    titles: list[str] = []

    def watched(*args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        titles.append(kwargs["title"])
        match(*args, **kwargs)

    monkeypatch.setattr(sketch, "match", watched)
    fit("run")
    assert titles == ["decoder, round 2"]


@pytest.mark.parametrize(
    ("stage", "owner", "made"),
    [("sketch 2", HiddenFeatures, "learned"), ("label moments", Axes, "fitted")],
)
def test_a_question_that_was_written_down_is_not_made_up_again(
    stage: str, owner: type, made: str, fit: Fit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Made again on another machine it would be another question under the same noise."""
    with monkeypatch.context() as patch:
        stop_before(patch, stage)
        with pytest.raises(Stopped):
            fit("run")

    def again(*_: Any, **__: Any) -> Any:  # noqa: ANN401
        raise AssertionError("the question was made up again")

    with monkeypatch.context() as patch:
        patch.setattr(owner, made, again)
        stop_before(patch, "score")
        with pytest.raises(Stopped):
            fit("run")
