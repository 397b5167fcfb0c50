"""One run, one folder, one process: begun empty, held alone, gone when finished."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from dpgen.runs.folder import RunFolder, sweep

CONFIG = {"seed": 5, "method": "m"}


def mode(path: Path) -> int:
    return stat.S_IMODE(os.stat(path).st_mode)


def test_a_new_run_has_an_identity_of_its_own_behind_a_closed_door(tmp_path: Path) -> None:
    one, other = RunFolder(tmp_path / "a", CONFIG), RunFolder(tmp_path / "b", CONFIG)
    assert one.fresh and other.fresh
    assert one.id != other.id and len(one.id) == 32
    private = tmp_path / "a" / "checkpoint"
    assert mode(private) == mode(private / "keys") == mode(private / "state") == 0o700
    assert mode(private / "run.json") == 0o600
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["checkpoint"]


def test_an_unfinished_run_is_found_again_under_its_own_configuration_only(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run", CONFIG)
    run.close()
    again = RunFolder(tmp_path / "run", CONFIG)
    assert again.id == run.id and not again.fresh
    again.close()
    said = "unfinished run of another configuration: seed was 5, now it is 6"
    with pytest.raises(ValueError, match=said):
        RunFolder(tmp_path / "run", CONFIG | {"seed": 6})
    # The refusal let go of the folder.
    assert RunFolder(tmp_path / "run", CONFIG).id == run.id


def test_a_folder_in_use_is_refused_also_across_processes(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run", CONFIG)
    with pytest.raises(ValueError, match="in use by another training"):
        RunFolder(tmp_path / "run", CONFIG)
    code = (
        "import sys; from pathlib import Path; from dpgen.runs.folder import RunFolder\n"
        f"try: RunFolder(Path(sys.argv[1]), {CONFIG!r})\n"
        "except ValueError as error: print(error)"
    )
    said = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "run")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "in use by another training" in said.stdout
    run.close()
    run.close()
    assert not RunFolder(tmp_path / "run", CONFIG).fresh


def test_what_is_neither_empty_nor_a_run_is_left_alone(tmp_path: Path) -> None:
    full = tmp_path / "full"
    full.mkdir()
    (full / "mine").write_text("mine")
    with pytest.raises(ValueError, match="must be empty or an unfinished run"):
        RunFolder(full, CONFIG)
    assert [p.name for p in full.iterdir()] == ["mine"]
    with pytest.raises(ValueError, match="must be a folder"):
        RunFolder(full / "mine", CONFIG)


def test_a_finished_run_keeps_what_was_released_and_nothing_else(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run", CONFIG)
    run.keys.create("plan")
    (tmp_path / "run" / "model").write_text("released")
    run.finish()
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["model"]


def test_a_run_that_was_refused_leaves_no_folder_but_spares_what_is_in_it(tmp_path: Path) -> None:
    RunFolder(tmp_path / "run", CONFIG).discard()
    assert not (tmp_path / "run").exists()
    run = RunFolder(tmp_path / "run", CONFIG)
    (tmp_path / "run" / "mine").write_text("mine")
    run.discard()
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["mine"]


def test_the_seed_of_a_run_is_read_from_it_finished_or_not(tmp_path: Path) -> None:
    assert RunFolder.seed_of(tmp_path / "run") is None
    RunFolder(tmp_path / "run", CONFIG).close()
    assert RunFolder.seed_of(tmp_path / "run") == 5
    finished = tmp_path / "finished"
    finished.mkdir()
    (finished / "config.json").write_text(json.dumps({"seed": 7}))
    assert RunFolder.seed_of(finished) == 7


def test_sweeping_takes_the_checkpoints_alone(tmp_path: Path) -> None:
    RunFolder(tmp_path / "run", CONFIG).close()
    (tmp_path / "run" / "model").write_text("released")
    sweep(tmp_path / "run")
    sweep(tmp_path / "run")
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["model"]


@pytest.mark.parametrize("left", [[], ["lock"], ["lock", ".run.json.7.partial"]])
def test_a_run_that_died_before_it_had_an_identity_is_begun_again(
    left: list[str], tmp_path: Path
) -> None:
    private = tmp_path / "run" / "checkpoint"
    private.mkdir(parents=True)
    for name in left:
        (private / name).touch()
    run = RunFolder(tmp_path / "run", CONFIG)
    assert run.fresh
    run.discard()
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["mine", "checkpoint/mine", "checkpoint/.run.json.7"])
def test_a_folder_that_is_like_such_a_run_but_for_a_file_is_left_alone(
    name: str, tmp_path: Path
) -> None:
    (tmp_path / "run" / "checkpoint").mkdir(parents=True)
    (tmp_path / "run" / "checkpoint" / "lock").touch()
    (tmp_path / "run" / name).write_text("mine")
    with pytest.raises(ValueError, match="must be empty or an unfinished run"):
        RunFolder(tmp_path / "run", CONFIG)
    assert (tmp_path / "run" / name).read_text() == "mine"


def _finished(path: Path) -> None:
    (path / "privacy.json").touch()
    shutil.rmtree(path / "checkpoint")


def _noticed(path: Path) -> None:
    (path / "notice.json").touch()
    shutil.rmtree(path / "checkpoint")


def _about_to_sweep(path: Path) -> None:
    (path / "privacy.json").touch()


def _discarded(path: Path) -> None:
    shutil.rmtree(path / "checkpoint")


def _begun_anew(path: Path) -> None:
    (path / "checkpoint" / "lock").rename(path / "old")
    (path / "checkpoint" / "lock").touch()


@pytest.mark.parametrize(
    ("end", "left"),
    [
        (_finished, {"privacy.json"}),
        (_noticed, {"notice.json"}),
        (_about_to_sweep, {"privacy.json"}),
        (_discarded, set()),
        (_begun_anew, {"checkpoint", "old"}),
    ],
)
def test_a_run_that_ends_between_the_look_and_the_lock_is_not_begun_again(
    end: Callable[[Path], None], left: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    RunFolder(tmp_path / "run", CONFIG).close()
    flock = fcntl.flock

    def too_late(file: int, how: int) -> None:
        end(tmp_path / "run")
        flock(file, how)

    monkeypatch.setattr(fcntl, "flock", too_late)
    with pytest.raises(ValueError, match="another training ended .* just now"):
        RunFolder(tmp_path / "run", CONFIG)
    assert {p.name for p in (tmp_path / "run").iterdir()} == left


def test_two_that_sweep_one_finished_run_do_not_disturb_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunFolder(tmp_path / "run", CONFIG)
    unlink = os.unlink

    def after_another(path: str, **where: int) -> None:
        unlink(path, **where)
        monkeypatch.undo()
        raise FileNotFoundError(path)

    monkeypatch.setattr(os, "unlink", after_another)
    run.finish()
    assert not any((tmp_path / "run").iterdir())


def test_an_unfinished_run_of_an_earlier_version_is_refused_by_name_and_a_finished_one_is_read(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "run"
    run = RunFolder(folder, CONFIG)
    run.close()
    state = folder / "checkpoint" / "run.json"
    old = {**json.loads(state.read_text()), "schema": "dpgen-run/1"}
    state.write_text(json.dumps(old))
    for door in (lambda: RunFolder(folder, CONFIG), lambda: RunFolder.seed_of(folder)):
        with pytest.raises(ValueError, match="run: this run was begun by an earlier version"):
            door()
    assert json.loads(state.read_text()) == old
    # A kill at the very end left secrets beside released files: those say what is needed.
    (folder / "config.json").write_text(json.dumps({"seed": 7}))
    assert RunFolder.seed_of(folder) == 7
