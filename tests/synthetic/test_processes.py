"""`sample --jobs`: several processes draw the images of one, and end with it."""

from __future__ import annotations

import multiprocessing
from functools import partial
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any, cast

import pytest
import torch

from dpgen.generator import drawing
from dpgen.generator.drawing import Redraws
from dpgen.images.images import to_uint8
from dpgen.privacy.statements import statement as statements
from dpgen.privacy.statements.certificate import CertificateError
from dpgen.synthetic import processes
from dpgen.synthetic import synthesise as module
from dpgen.synthetic.processes import Work, drawn_by
from dpgen.synthetic.synthesise import synthesise

pytestmark = pytest.mark.usefixtures("one_thread")


def tree(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def flat(*_: Any, **ends: Any) -> Work:  # noqa: ANN401
    from drawing_stand_ins import flat as make

    return make(**ends)  # type: ignore[no-any-return]


def test_two_processes_draw_the_set_of_one_byte_for_byte(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At an equal number of threads, one each."""
    monkeypatch.setattr(drawing, "BLOCK", 256)  # as in the processes
    monkeypatch.setattr(statements, "now", lambda: "2026-01-01T00:00:00+00:00")
    alone, shared = (
        synthesise(run, 600, tmp_path / f"by_{jobs}", layout="npz", seed=3, jobs=jobs)
        for jobs in (1, 2)
    )
    assert alone == shared and tree(tmp_path / "by_1") == tree(tmp_path / "by_2")
    assert not multiprocessing.active_children()


def test_blocks_come_in_order_and_an_interrupt_stops_processes_that_are_busy() -> None:
    with pytest.raises(KeyboardInterrupt):
        with drawn_by(2, flat(fails=8, how="slow"), range(1, 10), Redraws()) as blocks:
            found = [next(blocks) for _ in range(7)]
            assert len(multiprocessing.active_children()) == 2
            raise KeyboardInterrupt
    assert not multiprocessing.active_children()
    assert [int(to_uint8(block.pixels).unique()) for block in found] == list(range(1, 8))
    assert torch.equal(torch.cat([block.labels for block in found]), torch.arange(32, 256) % 3)


def test_a_killed_process_stops_all_leaves_nothing_and_the_next_try_works(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(module, "Work", partial(flat, fails=5, how="killed"))
        words = "sampling process 2 ended with signal 9; if memory ran out, take fewer --jobs"
        with pytest.raises(ChildProcessError, match=words):
            synthesise(run, 300, tmp_path / "set", layout="npz", seed=3, jobs=2)
    assert not multiprocessing.active_children()
    assert not list(tmp_path.iterdir())
    synthesise(run, 300, tmp_path / "set", layout="npz", seed=3)
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_the_error_of_a_process_is_raised_where_the_set_is_written() -> None:
    end, other = multiprocessing.Pipe(duplex=False)
    processes._draw(other, flat(fails=2), range(1, 4), 0, 1)
    process = cast("SpawnProcess", None)  # it is asked only when the pipe ends
    block, redraws = processes._received(process, end, 0)
    assert int(to_uint8(block.pixels).unique()) == 1 and redraws == Redraws()
    with pytest.raises(ValueError, match="block 2 cannot be drawn"):
        processes._received(process, end, 0)
    end.close()
    processes._draw(other, flat(), range(1, 4), 0, 1)  # nobody reads: it ends without an error


def test_a_run_that_is_not_the_one_named_is_refused(run: Path) -> None:
    work = flat()
    other = Work(run, "0" * 64, work.draw, work.labels, 0, False)
    with pytest.raises(CertificateError, match="was changed while images were drawn"):
        list(other.blocks(range(1), Redraws()))


def test_jobs_below_one_are_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--jobs must be at least 1, got 0"):
        synthesise(run, 3, tmp_path / "set", jobs=0)
