"""A killed run goes on to the very weights of an uninterrupted one, and pays once.

The kill is a SIGKILL to a forked process, at a named point between charge, answer, checkpoint, note
and statement; nothing gets the chance to clean up. Both worlds draw the same stage keys.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from dpgen.data.private import PrivateDataset
from dpgen.generator import interface as generator
from dpgen.generator import stating
from dpgen.methods import dp_sad
from dpgen.privacy.ledger.chain import LedgerError, parse_lines
from dpgen.privacy.ledger.charges import executed_releases, n_runs, releases_of
from dpgen.privacy.ledger.marks import MarksFile
from dpgen.privacy.ledger.privacy_ledger import PrivacyLedger
from dpgen.privacy.ledger.shared_ledger import SharedLedger
from dpgen.privacy.mechanisms import shares
from dpgen.privacy.mechanisms.noise import KeyedNoise
from dpgen.privacy.statements.certificate import CertificateError
from dpgen.privacy.verification.verify import verify
from dpgen.runs.checkpoint import Checkpoints
from dpgen.runs.context import Hardware, in_memory

CHARGED = {"class means": 1, "class spread": 1, "teacher": 3}
SEED = 11


@pytest.fixture(autouse=True)
def fixed_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same key in both worlds; the plan hash still separates the stages. States at every
    step.
    """
    monkeypatch.setattr("dpgen.privacy.lineage.keys.new_key", lambda: b"k" * 32)
    monkeypatch.setattr(Checkpoints, "due", lambda states: True)


@pytest.fixture
def fit(
    untrained: Callable[..., Any],
    dataset: Callable[..., PrivateDataset],
    records: Any,  # noqa: ANN401
) -> Callable[..., Any]:
    """`fit` of tiny DP-SAD on the thirty records into a folder."""

    def run(
        folder: Path,
        source: Any = None,  # noqa: ANN401
        hardware: Hardware = Hardware("cpu", micro_batch=8),  # noqa: B008
        **changes: Any,  # noqa: ANN401
    ) -> Any:  # noqa: ANN401
        method = untrained("dp-sad", **changes)
        data = dataset(source or records)
        return method.fit(data, out=folder, seed=SEED, hardware=hardware)

    return run


_WHOLE: dict[str, bytes] = {}


@pytest.fixture
def whole(
    fit: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, bytes]:
    """The files of the uninterrupted run, trained once."""
    if not _WHOLE:
        with monkeypatch.context() as patch:
            patch.setenv("DPGEN_HOME", str(tmp_path / "elsewhere"))
            fit(tmp_path / "whole")
        _WHOLE.update({p.name: p.read_bytes() for p in (tmp_path / "whole").iterdir()})
    return _WHOLE


def killed_in(action: Callable[[], Any]) -> None:
    """Runs ``action`` in a forked process and asserts that it was killed there."""
    child = os.fork()
    if child == 0:
        try:
            action()
        finally:
            os._exit(0)
    for _ in range(1200):
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            break
        time.sleep(0.05)
    else:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        pytest.fail("the process was still running after a minute")
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, status


def die(*_: object, **__: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def before(owner: object, name: str, when: Callable[..., bool]) -> Callable[[Any], None]:
    """Dies on entering a function, the first time that ``when`` of its arguments holds."""
    plain = getattr(owner, name)

    def hooked(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        if when(*args, **kwargs):
            die()
        return plain(*args, **kwargs)

    return lambda patch: patch.setattr(owner, name, hooked)


def after(owner: object, name: str, when: Callable[..., bool]) -> Callable[[Any], None]:
    """Dies on leaving it."""
    plain = getattr(owner, name)

    def hooked(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        result = plain(*args, **kwargs)
        if when(*args, **kwargs):
            die()
        return result

    return lambda patch: patch.setattr(owner, name, hooked)


def state(label: str, step: int | None = None) -> Callable[..., bool]:
    return lambda states, name, tensors, **numbers: (
        name == label and (step is None or numbers["step"] == step)
    )


def called(label: str) -> Callable[..., bool]:
    return lambda data, name, *_, **__: name == label


def always(*_: object, **__: object) -> bool:
    return True


# Where the kill falls, and how many releases of each stage are noted at that moment.
PRIVATE = {
    "keys drawn, nothing charged": (before(SharedLedger, "charge", always), {}),
    "records marked, nothing charged": (after(MarksFile, "add", always), {}),
    "charged, nothing read": (before(PrivateDataset, "release", always), {}),
    "answered, not noted": (
        before(PrivacyLedger, "executed", lambda book, run, label, *_: label == "class means"),
        {},
    ),
    "noted, not saved": (before(Checkpoints, "save", state("class means")), {"class means": 1}),
    "saved, key not yet forgotten": (
        before(PrivateDataset, "finish", called("class means")),
        {"class means": 1},
    ),
    "between the two releases": (
        after(PrivateDataset, "finish", called("class means")),
        {"class means": 1},
    ),
    "first step made, not saved": (
        before(Checkpoints, "save", state("teacher", 1)),
        {"class means": 1, "class spread": 1},
    ),
    "second step saved": (
        after(Checkpoints, "save", state("teacher", 2)),
        {"class means": 1, "class spread": 1},
    ),
    "last step made, not saved": (
        before(Checkpoints, "save", state("teacher", 3)),
        {"class means": 1, "class spread": 1},
    ),
    "last step saved, not noted": (
        after(Checkpoints, "save", state("teacher", 3)),
        {"class means": 1, "class spread": 1},
    ),
    "teacher finished": (after(PrivateDataset, "finish", called("teacher")), CHARGED),
}
PUBLIC = {
    "drawing the teacher's images": (before(Checkpoints, "save", state("pairs")), CHARGED),
    "first student step made, not saved": (
        before(Checkpoints, "save", state("student", 1)),
        CHARGED,
    ),
    "second student step saved": (after(Checkpoints, "save", state("student", 2)), CHARGED),
    "student finished": (after(dp_sad, "distil", always), CHARGED),
    "some files released": (
        before(stating, "statement_of", always),
        CHARGED,
    ),
    "statement written, checkpoints still there": (
        before(generator.RunFolder, "finish", always),
        CHARGED,
    ),
}


@pytest.mark.parametrize("point", [*PRIVATE, *PUBLIC])
def test_a_run_killed_and_resumed_ends_in_the_weights_of_an_uninterrupted_one_and_pays_once(
    point: str,
    fit: Callable[..., Any],
    whole: dict[str, bytes],
    tmp_path: Path,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    install, noted = (PRIVATE | PUBLIC)[point]
    folder = tmp_path / "run"

    def killed() -> None:
        with monkeypatch.context() as patch:
            install(patch)
            fit(folder)

    killed_in(killed)
    lines = ledger_lines(home)
    assert executed_releases(lines) == noted
    if n_runs(lines):
        # All that may have happened is paid for, whatever happened.
        assert {k: n["charged"] for k, n in releases_of(lines).items()} == CHARGED
    fit(folder)
    again = {p.name: p.read_bytes() for p in folder.iterdir()}
    assert again.keys() == whole.keys()
    for name in ("model.safetensors", "teacher.safetensors", "config.json", "facts.json"):
        assert again[name] == whole[name], name
    charges = [line["label"] for line in ledger_lines(home) if line["kind"] == "charge"]
    assert sorted(charges) == sorted(CHARGED)
    assert releases_of(ledger_lines(home)) == {
        label: {"charged": n, "executed": n} for label, n in CHARGED.items()
    }
    assert not any(check.failed for check in verify(folder)), verify(folder)


def ledger_lines(home: Path) -> list[dict[str, Any]]:
    found = list((home / "ledgers").glob("*.jsonl"))
    if not found:
        return []
    assert len(found) == 1
    return parse_lines(found[0].read_text(), "ledger")


@pytest.fixture
def unfinished(fit: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run killed after its second private step."""
    folder = tmp_path / "run"

    def killed() -> None:
        with monkeypatch.context() as patch:
            PRIVATE["second step saved"][0](patch)
            fit(folder)

    killed_in(killed)
    return folder


def test_a_step_that_is_made_again_gives_the_same_answer_again(
    fit: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: dict[tuple[str, int, str], torch.Tensor] = {}
    repeated = []
    plain = KeyedNoise.add

    def watched(
        noise: KeyedNoise, total: torch.Tensor, std: float, *, release: int, name: str
    ) -> torch.Tensor:
        answer = plain(noise, total, std, release=release, name=name)
        key = (noise._plan, release, name)
        if key in answers:
            repeated.append(torch.equal(answers[key], answer))
        answers[key] = answer
        return answer

    class Stop(BaseException):
        pass

    def save(states: Checkpoints, name: str, tensors: Any, **numbers: Any) -> None:  # noqa: ANN401
        if name == "teacher" and numbers["step"] == 2:
            raise Stop
        write(states, name, tensors, **numbers)

    write = Checkpoints.save
    monkeypatch.setattr(KeyedNoise, "add", watched)
    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "save", save)
        with pytest.raises(Stop):
            fit(tmp_path / "run")
    fit(tmp_path / "run")
    # The second step was answered, not saved, and answered again: every tensor of it alike.
    assert len(repeated) > 10 and all(repeated)


def test_an_older_checkpoint_that_is_put_back_repeats_its_answers_and_an_edited_one_is_refused(
    fit: Callable[..., Any],
    whole: dict[str, bytes],
    tmp_path: Path,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder, kept = tmp_path / "run", {}

    def killed() -> None:
        with monkeypatch.context() as patch:
            after(Checkpoints, "save", state("teacher", step))(patch)
            fit(folder)

    for step in (1, 2):
        killed_in(killed)
        states = Checkpoints(folder / "checkpoint" / "state")
        held = states.load("teacher")
        assert held is not None and held[1] == {"step": step}
        kept[step] = held[0]
    edited = {
        name: value + 0.01 if name.startswith("module.model.") and ".prior." not in name else value
        for name, value in kept[1].items()
    }
    states.save("teacher", edited, step=1)
    before = len(ledger_lines(home))
    with pytest.raises(LedgerError, match="release 1 of stage 'teacher' .* asked with other param"):
        fit(folder)
    assert {line["kind"] for line in ledger_lines(home)[before:]} == {"lineage", "executed"}
    states.save("teacher", kept[1], step=1)
    fit(folder)
    assert (folder / "teacher.safetensors").read_bytes() == whole["teacher.safetensors"]
    assert not list(home.rglob("*.answers"))


def test_an_interrupted_stage_notes_the_steps_it_handed_out(
    fit: Callable[..., Any], tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def save(states: Checkpoints, name: str, tensors: Any, **numbers: Any) -> None:  # noqa: ANN401
        if name == "teacher" and numbers["step"] == 2:
            raise KeyboardInterrupt
        write(states, name, tensors, **numbers)

    write = Checkpoints.save
    monkeypatch.setattr(Checkpoints, "save", save)
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "run")
    assert executed_releases(ledger_lines(home))["teacher"] == 2


def test_a_finished_run_is_loaded_and_charges_nothing(
    fit: Callable[..., Any], tmp_path: Path, home: Path
) -> None:
    first = fit(tmp_path / "run")
    lines = ledger_lines(home)
    files = {p.name: p.stat().st_mtime_ns for p in first.folder.iterdir()}
    again = fit(tmp_path / "run")
    assert ledger_lines(home) == lines
    assert {p.name: p.stat().st_mtime_ns for p in first.folder.iterdir()} == files
    same = torch.Generator().manual_seed(3), torch.Generator().manual_seed(3)
    assert torch.equal(
        first.sample(4, generator=same[0]).pixels, again.sample(4, generator=same[1]).pixels
    )


def test_another_configuration_is_refused_by_an_unfinished_and_by_a_finished_run(
    fit: Callable[..., Any], unfinished: Path, home: Path
) -> None:
    lines = ledger_lines(home)
    for change in ({"n_steps": 4}, {"batch": 14}, {"clip_norm": 0.06}, {"learning_rate": 1e-3}):
        with pytest.raises(ValueError, match="unfinished run of another configuration"):
            fit(unfinished, **change)
    assert ledger_lines(home) == lines
    fit(unfinished)
    with pytest.raises(ValueError, match="finished run of another configuration"):
        fit(unfinished, n_steps=4)


def test_other_data_are_refused_by_an_unfinished_and_by_a_finished_run(
    fit: Callable[..., Any],
    unfinished: Path,
    home: Path,
    records: Any,  # noqa: ANN401
) -> None:
    other = records.plus(records.pixels[0], 0)
    with pytest.raises(LedgerError, match="begun on other data"):
        fit(unfinished, other)
    assert len(list((home / "ledgers").glob("*.jsonl"))) == 1, "the other data paid nothing"
    fit(unfinished)
    with pytest.raises(ValueError, match="finished run on other data"):
        fit(unfinished, other)


def test_a_resume_keeps_the_micro_batch_and_names_it_where_another_one_is_asked_for(
    unfinished: Path,
    fit: Callable[..., Any],
    whole: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever suits the device now: on a GPU with other memory it would be another one."""
    monkeypatch.setattr("dpgen.stages.denoising.records_at_once", lambda *_, **__: 5)
    with pytest.raises(LedgerError, match=r"micro_batch was 8, now it is 4\..*\(micro_batch=8\)\)"):
        fit(unfinished, hardware=Hardware("cpu", micro_batch=4))
    fit(unfinished, hardware=Hardware("cpu"))
    assert (unfinished / "teacher.safetensors").read_bytes() == whole["teacher.safetensors"]


FULL = (
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nMore lines."),
    RuntimeError("[enforce fail at alloc_cpu.cpp:1] DefaultCPUAllocator: can't allocate memory"),
)


@pytest.mark.parametrize("error", FULL, ids=["GPU", "CPU"])
def test_where_memory_is_full_a_smaller_micro_batch_helps_until_the_first_answer(
    error: RuntimeError,
    fit: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(*_: Any, **__: Any) -> None:  # noqa: ANN401
        raise error

    with monkeypatch.context() as patch:
        patch.setattr("dpgen.privacy.mechanisms.shares.add_clipped", full)
        with pytest.raises(
            MemoryError,
            match=r"^out of memory \(.*\): micro_batch is 8, .* again with "
            r"hardware=Hardware\(micro_batch=4\) \(possible until",
        ):
            fit(tmp_path / "run")
    answered, plain, noised = list[int](), shares.add_clipped, KeyedNoise.add

    def full_later(*given: Any) -> None:  # noqa: ANN401
        if answered:
            raise error
        plain(*given)

    def heard(*given: Any, release: int, name: str) -> torch.Tensor:  # noqa: ANN401
        answered.append(release)
        return noised(*given, release=release, name=name)

    with monkeypatch.context() as patch:
        patch.setattr(shares, "add_clipped", full_later)
        patch.setattr(KeyedNoise, "add", heard)
        with pytest.raises(MemoryError, match="micro_batch must stay 4, with which .* free some"):
            fit(tmp_path / "run", hardware=Hardware("cpu", micro_batch=4))
    fit(tmp_path / "run", hardware=Hardware("cpu"))


def test_an_error_that_is_not_about_memory_stays_what_it_is() -> None:
    with pytest.raises(RuntimeError, match="shapes"), in_memory(lambda: "none"):
        raise RuntimeError("shapes cannot be multiplied")


def test_a_stage_whose_key_was_deleted_is_refused(
    fit: Callable[..., Any], unfinished: Path, home: Path
) -> None:
    keys = list((unfinished / "checkpoint" / "keys").glob("*.key"))
    assert len(keys) == 1, "finished stages have none, the interrupted one has its own"
    keys[0].unlink()
    lines = ledger_lines(home)
    with pytest.raises(LedgerError, match="secret key of this stage is gone"):
        fit(unfinished)
    noted = executed_releases(ledger_lines(home))
    assert all(n <= CHARGED[label] for label, n in noted.items())
    assert [x for x in ledger_lines(home) if x["kind"] == "charge"] == [
        x for x in lines if x["kind"] == "charge"
    ]


def test_more_releases_than_were_charged_are_never_noted(unfinished: Path, home: Path) -> None:
    book = PrivacyLedger(next((home / "ledgers").glob("*.jsonl")))
    line = next(x for x in book.lines() if x["kind"] == "charge" and x["label"] == "teacher")
    with pytest.raises(LedgerError, match="ran 4 releases but 3 were charged"):
        book.executed(line["run"], "teacher", line["plan"], 0, 4)


def test_a_finished_run_whose_files_were_changed_is_not_loaded(
    fit: Callable[..., Any], tmp_path: Path
) -> None:
    folder = fit(tmp_path / "run").folder
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(CertificateError, match="config.json missing or changed"):
        fit(tmp_path / "run")


def test_a_run_in_use_is_refused(unfinished: Path, fit: Callable[..., Any]) -> None:
    held = json.loads((unfinished / "checkpoint" / "run.json").read_text())
    run = generator.RunFolder(unfinished, held["configuration"])
    with pytest.raises(ValueError, match="in use by another training"):
        fit(unfinished)
    assert run.id == held["id"] and not run.fresh
