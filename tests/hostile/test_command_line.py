"""What the program says of a hostile file: one line, status 2, and nothing is left behind."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dpgen.commands.cli import one_line
from tests.hostile import bombs
from tests.hostile.run_formats import covered
from tests.test_cli import assert_refused, dpgen, tree

pytestmark = pytest.mark.usefixtures("one_thread", "home")

TRAIN = ["train", "dp-sad", "--epsilon", "1", "--device", "cpu"]
NASTY = "a\nb\x1b[2J\x9b\u202e\u2028.npz"


def nasty_name(folder: Path) -> None:
    (folder / NASTY).write_bytes(b"PK\3\4 and no archive")


def undecodable_name(folder: Path) -> None:
    (folder / os.fsdecode(b"\xff\xfe.npz")).write_bytes(b"PK\3\4 and no archive")


def undecodable_class(folder: Path) -> None:
    (folder / os.fsdecode(b"\xff\xfe")).mkdir()
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(folder / os.fsdecode(b"\xff\xfe") / "0.png")


def bomb(folder: Path) -> None:
    head = bombs.array_header((2**20, 32, 32))
    packed = bombs.deflated(b"\0", bombs.GIB, head)
    (folder / "a.npz").write_bytes(bombs.zipped("images.npy", packed, bombs.GIB + len(head)))


def pipe(folder: Path) -> None:
    os.mkfifo(folder / "a.npz")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a b\u00e9\u6f22 'c' \\d", "a b\u00e9\u6f22 'c' \\d"),
        ("a\nb\r\tc", "a\\nb\\r\\tc"),
        ("\x1b[2J\x9b\x00", "\\x1b[2J\\x9b\\x00"),
        ("\u202ea\u2028\udcff", "\\u202ea\\u2028\\udcff"),
    ],
)
def test_what_moves_the_cursor_is_spelt_out_and_the_rest_is_as_it_is(text: str, line: str) -> None:
    assert one_line(text) == line


@pytest.mark.parametrize("make", [nasty_name, undecodable_name, undecodable_class, bomb, pipe])
def test_hostile_data_are_one_line_and_nothing_is_left(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    (tmp_path / "data").mkdir()
    make(tmp_path / "data")
    before = sorted(tmp_path.rglob("*"))
    arguments = ["--data", tmp_path / "data", "--out", tmp_path / "run", "--quiet"]
    result = dpgen(*TRAIN, *arguments)
    assert_refused(result, "class_names" if make is undecodable_class else "data")
    assert result.stderr.count("\n") == 1 and result.stderr[:-1].isprintable()
    assert sorted(tmp_path.rglob("*")) == before


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def gibibyte(path: Path) -> None:
    bombs.sparse(path, bombs.GIB)


@pytest.mark.parametrize("option", ["--facts", "--config", "--ledger"])
@pytest.mark.parametrize("make", [os.mkfifo, device, gibibyte])
def test_hostile_settings_are_one_line(
    tmp_path: Path, option: str, make: Callable[[Path], object]
) -> None:
    make(tmp_path / "f")
    np.savez(tmp_path / "a.npz", images=np.zeros((20, 8, 8), np.uint8))
    result = dpgen(
        *TRAIN, "--data", tmp_path / "a.npz", option, tmp_path / "f", "--out", tmp_path / "run"
    )
    assert_refused(result, "f must ")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("make", [os.mkfifo, device, gibibyte])
def test_a_hostile_benchmark_file_is_one_line(
    tmp_path: Path, make: Callable[[Path], object]
) -> None:
    make(tmp_path / "b.toml")
    result = dpgen("benchmark", tmp_path / "b.toml", "--out", tmp_path / "out")
    assert_refused(result, "b.toml")
    assert not (tmp_path / "out").exists()


def nested(run: Path) -> None:
    (run / "privacy.json").write_text("[" * 10_000 + "]" * 10_000)


def huge(run: Path) -> None:
    bombs.sparse(run / "privacy.json", bombs.GIB)


def piped(run: Path) -> None:
    (run / "model.safetensors").unlink()
    os.mkfifo(run / "model.safetensors")


def forged_weights(run: Path) -> None:
    """A header of a gigabyte under a statement whose hashes fit."""
    content = (2**30).to_bytes(8, "little") + bytes(100)
    (run / "model.safetensors").write_bytes(content)
    (run / "privacy.json").write_bytes(covered(run, "model.safetensors", content))


@pytest.mark.parametrize("spoil", [nested, huge, piped, forged_weights])
def test_a_hostile_run_draws_nothing(
    finished: Path, tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    spoil(run)
    out = tmp_path / "out"
    result = dpgen("sample", run, "-n", 2, "--out", out, "--preview", tmp_path / "p.png", "--quiet")
    assert_refused(result, "run")
    assert sorted(p.name for p in tmp_path.iterdir() if p.name != "home") == ["run"]
    verdict = dpgen("verify", run)
    assert verdict.exit_code == 1
    assert "Traceback" not in verdict.output


def test_an_unfinished_run_of_others_is_one_line(finished: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / "checkpoint").mkdir(parents=True)
    np.savez(tmp_path / "a.npz", images=np.zeros((20, 8, 8), np.uint8))
    for text in ("[]", "{}", '{"schema": "dpgen-run/2", "id": 3, "configuration": {}}', "[" * 9999):
        (run / "checkpoint" / "run.json").write_text(text)
        before = tree(run)
        result = dpgen(*TRAIN, "--data", tmp_path / "a.npz", "--out", run)
        assert_refused(result, "run")
        assert tree(run) == before
