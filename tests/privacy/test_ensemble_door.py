"""The door of the ensemble: charged before a record is read, and no query is answered twice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from dpgen.data.private import PrivateDataset
from dpgen.images.images import PublicFacts
from dpgen.privacy.ledger.chain import LedgerError
from dpgen.privacy.ledger.charges import executed_releases
from dpgen.privacy.lineage.keys import StageKeys
from dpgen.privacy.mechanisms import noisy_ensemble
from dpgen.privacy.mechanisms.ensemble import NoisyEnsemble, Votes
from dpgen.privacy.mechanisms.noisy_ensemble import Ensemble
from dpgen.privacy.plan import Plan, Stage
from dpgen.runs.checkpoint import Checkpoints
from tests.relations import ADD_REMOVE

Kit = Any  # what conftest.py shares
MECHANISM = NoisyEnsemble(Votes(3), n_shards=3, n_queries=4, noise_multiplier=40.0, n_records=20)
LABEL = "teachers"
SHAPE = (1, 1, 3)


@dataclass(frozen=True)
class Brightest:
    """Teachers that vote for the place of the brightest pixel of shard and query together."""

    scale: float = 1.0

    def __call__(
        self, pixels: Tensor, labels: Tensor, valid: Tensor, seed: int
    ) -> Callable[[Tensor], Tensor]:
        mean = self.scale * pixels[valid].mean(0).flatten()
        return lambda queries: mean + queries.flatten(1)


QUERIES = torch.randn(4, *SHAPE, generator=torch.Generator().manual_seed(3))


def begun(kit: Kit, folder: Path, source: Any = None) -> PrivateDataset:  # noqa: ANN401
    data = kit.dataset(source or kit.source(), folder)
    stage = Stage(LABEL, MECHANISM)
    data.begin("run", StageKeys(folder / "keys"), Plan((stage,), ADD_REMOVE))
    return data


def opened(data: PrivateDataset, folder: Path, fit: Any = None, **changes: Any) -> Ensemble:  # noqa: ANN401
    given = {"label": LABEL, "checkpoints": Checkpoints(folder / "state"), "seed": 7} | changes
    return data.ensemble(MECHANISM, fit or Brightest(), **given)


def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a new process knows: nothing of the answers of this one."""
    monkeypatch.setattr("dpgen.privacy.lineage.witness._ANSWERED", {})


def test_no_teacher_is_trained_before_the_run_is_charged(kit: Kit, tmp_path: Path) -> None:
    source = kit.source()
    data = kit.dataset(source, tmp_path)
    with pytest.raises(RuntimeError, match="no record is read before"):
        opened(data, tmp_path)
    begun_data = begun(kit, tmp_path, source)
    with pytest.raises(LedgerError, match="not what was charged"):
        opened(begun_data, tmp_path, label="other")
    assert source.reads == []
    opened(begun_data, tmp_path).ask(QUERIES[:1])
    assert source.reads != []


def test_a_mistake_in_a_fit_is_an_error_before_a_record_is_read_and_can_be_corrected(
    kit: Kit, tmp_path: Path
) -> None:
    @dataclass(frozen=True)
    class Wrong(Brightest):
        def __call__(self, *shard: Any) -> Callable[[Tensor], Tensor]:  # noqa: ANN401
            raise AttributeError("a slip")

    source = kit.source()
    data = begun(kit, tmp_path, source)
    with pytest.raises(AttributeError, match="a slip"):
        opened(data, tmp_path, Wrong())
    assert source.reads == [] and executed_releases(data.ledger.lines()) == {}
    opened(data, tmp_path).ask(QUERIES)
    assert executed_releases(data.ledger.lines()) == {LABEL: 4}


def test_saved_answers_are_given_again_and_no_teacher_is_asked_for_them(
    kit: Kit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, source = tmp_path / "run", kit.source()
    first = opened(begun(kit, folder, source), folder).ask(QUERIES[:2])
    forget(monkeypatch)
    source.reads.clear()
    data = begun(kit, folder, source)
    resumed = opened(data, folder)
    with pytest.raises(LedgerError, match="asks another question"):
        resumed.ask(QUERIES[:3])
    assert torch.equal(resumed.ask(QUERIES[:2]), first) and source.reads == []
    resumed.ask(QUERIES[2:])
    assert source.reads != []
    assert executed_releases(data.ledger.lines()) == {LABEL: 4}
    data.finish(LABEL, MECHANISM)
    with pytest.raises(RuntimeError, match="charged"):
        resumed.ask(QUERIES[:1])


def test_answers_are_saved_before_anyone_has_them_and_a_kill_in_between_repeats_them(
    kit: Kit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """T16: the process ends between an answer and the state that holds it."""
    given: list[Tensor] = []
    with monkeypatch.context() as patch:

        def killed(self: Checkpoints, name: str, tensors: dict[str, Tensor], **rest: Any) -> None:  # noqa: ANN401
            given.append(tensors["answers"].clone())
            raise OSError("the disk is full")

        patch.setattr(Checkpoints, "save", killed)
        ensemble = opened(begun(kit, tmp_path), tmp_path)
        with pytest.raises(OSError, match="full"):
            ensemble.ask(QUERIES[:2])
    # In the same process: the same answers, or none.
    with pytest.raises(LedgerError, match="asks another question"):
        ensemble.ask(QUERIES[2:])
    assert torch.equal(ensemble.ask(QUERIES[:2]), given[0])
    forget(monkeypatch)
    resumed = opened(begun(kit, tmp_path), tmp_path)
    assert torch.equal(resumed.ask(QUERIES[:2]), given[0])


@pytest.mark.parametrize(
    "changed", ["query", "fit", "seed", "answer", "number", "file", "noted"]
)
def test_a_resume_that_asks_or_holds_something_else_is_refused(
    changed: str, kit: Kit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened(begun(kit, tmp_path), tmp_path).ask(QUERIES[:2])
    forget(monkeypatch)
    state = tmp_path / "state" / f"{LABEL}.safetensors"
    numbers = {"numbers": '{"step":2}'}
    if changed == "answer":
        save_file({"answers": load_file(state)["answers"] + 1}, state, metadata=numbers)
    if changed == "number":
        save_file({"answers": load_file(state)["answers"][:1]}, state, metadata=numbers)
    if changed == "file":
        state.unlink()
    if changed == "noted":
        (noted,) = (tmp_path / "home" / "ledgers").glob("*.answers")
        noted.write_bytes(noted.read_bytes()[:-64])
    fit, seed = Brightest(2.0 if changed == "fit" else 1.0), 8 if changed == "seed" else 7
    queries = QUERIES[:2] + (1 if changed in ("query", "file") else 0)
    error = ValueError if changed == "number" else LedgerError
    source = kit.source()
    with pytest.raises(error, match="start a new run folder|Start a new run folder"):
        opened(begun(kit, tmp_path, source), tmp_path, fit, seed=seed).ask(queries)
    assert source.reads == [], "it is refused before a teacher is trained"


def test_a_finished_ensemble_answers_nothing_and_its_key_is_gone(kit: Kit, tmp_path: Path) -> None:
    data = begun(kit, tmp_path)
    ensemble = opened(data, tmp_path)
    ensemble.ask(QUERIES[:3])
    data.finish(LABEL, MECHANISM)
    with pytest.raises(LedgerError, match="is finished"):
        ensemble.ask(QUERIES[3:])
    assert not list((tmp_path / "keys").glob("*.key"))
    with pytest.raises(LedgerError, match="is finished"):
        opened(begun(kit, tmp_path), tmp_path)


def test_the_sum_meets_the_noise_of_the_stage_and_comes_out_nowhere_else(
    kit: Kit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is returned and saved is the sum plus noise; the sums are those of the votes."""
    sums: list[Tensor] = []
    real = noisy_ensemble.answers

    def watched(*given: Any) -> Any:  # noqa: ANN401
        found = list(real(*given))
        sums.append(torch.stack(found).sum(0))
        return iter(found)

    monkeypatch.setattr(noisy_ensemble, "answers", watched)
    found = opened(begun(kit, tmp_path), tmp_path).ask(QUERIES)
    saved = load_file(tmp_path / "state" / f"{LABEL}.safetensors")["answers"]
    assert torch.equal(saved, found) and sums[0].sum(1).tolist() == [3.0] * 4
    noise = found - sums[0]
    assert len(noise.unique()) == 12 and float(noise.std()) == pytest.approx(56.6, rel=0.6)


def test_the_capacity_is_that_of_the_declared_records_and_not_of_those_that_are_there(
    kit: Kit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: set[int] = set()

    @dataclass(frozen=True)
    class Sized(Brightest):
        def __call__(
            self, pixels: Tensor, labels: Tensor, valid: Tensor, seed: int
        ) -> Callable[[Tensor], Tensor]:
            seen.add(len(pixels))
            return super().__call__(pixels, labels, valid, seed)

    facts = PublicFacts(SHAPE, ("a", "b"), 20, "add_remove", 1, "stated")
    for n in (6, 20):
        folder = tmp_path / str(n)
        data = kit.dataset(kit.source(n), folder, facts=facts, ledger=folder / "ledger.jsonl")
        data.begin("run", StageKeys(folder / "keys"), Plan((Stage(LABEL, MECHANISM),), ADD_REMOVE))
        opened(data, folder, Sized()).ask(QUERIES)
    assert seen == {MECHANISM.capacity}
