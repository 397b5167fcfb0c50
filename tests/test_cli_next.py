"""Every command says which one comes next, and that one is taken as it is printed."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import Result
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from PIL import Image

from dpgen.commands import next_command
from dpgen.commands.cli import main
from dpgen.commands.next_command import beside, carried, fresh, say_next
from dpgen.commands.train import plan, train
from tests.commands import dpgen

pytestmark = pytest.mark.usefixtures("one_thread", "home", "remembering_accountant")

TINY = [
    "--set=teacher.n_steps=0", "--set=teacher.bands=2", "--set=teacher.warm_start_share=1.0",
    "--set=teacher.residual=added",
]  # fmt: skip


def next_of(done: Result) -> list[str]:
    """The words of the one line that says what comes next; they are a command with its options."""
    assert done.exit_code == 0, done.output
    assert "next: " not in done.stdout
    (line,) = [x for x in done.stderr.splitlines() if x.startswith("next: ")]
    program, name, *words = shlex.split(line.removeprefix("next: "))
    assert program == "dpgen"
    with main.commands[name].make_context(name, list(words)):
        pass
    return [name, *words]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Forty grey pictures in two folders, under a name that a shell would take apart."""
    rng, folder = np.random.default_rng(0), tmp_path / "my images; two"
    for k in range(40):
        place = folder / ("ill", "well")[k % 2]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (10, 8), dtype=np.uint8)).save(place / f"{k}.png")
    return folder


def test_the_way_from_a_folder_of_images_to_a_signed_set_is_told_step_by_step(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = next_of(dpgen("inspect", data, "--size", 8))
    assert words == ["plan", "--data", str(data), "--size", "8", "--epsilon", "3"]
    words = next_of(dpgen("plan", "pge", *words[1:], *TINY, "--device", "cpu"))
    assert words[:6] == ["train", "pge", "--data", str(data), "--size", "8"]
    assert words.count("--set") == len(TINY) and words[-2:] == ["--out", "run"]
    words = next_of(dpgen(*words, "-q", "--yes"))
    assert words == ["sample", "run", "-n", "10000", "--out", "run-images"]
    words[words.index("10000")] = "30"
    words = next_of(dpgen(*words, "-q"))
    # No statement says where the private images lie: this installation has a note of it.
    assert words == ["evaluate", "run-images", "--reference", str(data), "--size", "8"]
    quick = ["--features", "none", "--network", "logistic", "--no-real", "-q"]
    words = next_of(dpgen(*words, *quick))
    assert words == ["verify", "run-images"]
    assert next_of(dpgen("card", "run-images")) == words
    with monkeypatch.context() as patch:
        patch.setattr(next_command, "find_spec", lambda name: None)
        assert "pip install cryptography" in dpgen(*words).stderr
    done = dpgen(*words)
    assert "pip install" not in done.stderr
    words = next_of(done)
    assert words == ["sign", "run-images", "--key", "FILE"]
    key = Ed25519PrivateKey.generate()
    (tmp_path / "my key.pem").write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    done = dpgen(*words[:-1], "my key.pem")
    assert "openssl pkey -in 'my key.pem' -pubout -out 'my key-public.pem'" in done.stderr
    words = next_of(done)
    assert words == ["verify", "run-images", "--public-key", "my key-public.pem"]
    unkeyed = next_of(dpgen("verify", "run-images", "--model", "run"))
    assert unkeyed == ["verify", "run-images", "--model", "run", "--public-key", "FILE"]
    (tmp_path / "my key-public.pem").write_bytes(
        key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    last = dpgen(*words)
    assert last.exit_code == 0 and "next: " not in last.stderr
    assert next_of(dpgen("verify", "run"))[-2:] == ["--out", "run-images-2"]
    assert dpgen("sample", "run", "-n", 4, "--out", "more", "-q").exit_code == 0
    mixed = dpgen("mix", "run-images", "more", "--out", "both", "-q")
    assert next_of(mixed)[:4] == ["evaluate", "both", "--reference", str(data)]
    listed = dpgen("ledger").stdout
    assert f"    data {data}\n" in listed and f"    folder {tmp_path / 'run'}\n" in f"{listed}\n"
    (tmp_path / "home" / "runs.json").unlink()  # as on another machine
    told = "evaluate both-2 --reference DATA --size 8 --channels 1"
    mixed = dpgen("mix", "run-images", "more", "--out", "both-2", "-q")
    assert next_of(mixed) == told.split()
    assert "folder not known" in dpgen("ledger").stdout


def test_json_has_no_line_about_what_comes_next(data: Path) -> None:
    for words in (
        ["inspect", data], ["plan", "pge", "--data", data, "--size", 8, "--epsilon", 3, *TINY],
    ):  # fmt: skip
        done = dpgen(*words, "--json")
        json.loads(done.stdout)
        assert "next:" not in done.output


def test_a_unit_is_carried_with_a_bound_that_plan_takes(data: Path) -> None:
    (data / "ill" / "ann").mkdir()
    for name in ("ill", "well"):
        for k, picture in enumerate(sorted((data / name).glob("*.png"))):
            folder = data / name / f"person{k // 4}"
            folder.mkdir(exist_ok=True)
            picture.rename(folder / picture.name)
    (data / "ill" / "ann").rmdir()
    words = next_of(dpgen("inspect", data, "--size", 8, "--unit", "folder"))
    assert words[5:] == [
        "--unit", "folder", "--max-records-per-unit", "1", "--epsilon", "3",
    ]  # fmt: skip
    assert dpgen("plan", "pge", *words[1:], *TINY, "--device", "cpu").exit_code == 0


def test_a_plan_without_a_guarantee_is_followed_by_a_training_that_says_so(data: Path) -> None:
    words = ["plan", "pge", "--data", data, "--size", 8, "--epsilon", 1, "--set", "mode=paper"]
    assert "--allow-unverified" in next_of(dpgen(*words))


def test_only_what_was_typed_and_the_other_command_has_is_carried() -> None:
    typed = [
        "pge", "--data", "-x", "--epsilon", "3.0", "--delta", "1e-7", "--set", "a=1", "--set",
        "b=2", "--json",
    ]  # fmt: skip
    with click.Context(main), plan.make_context("plan", typed):
        assert carried(train) == [
            "--data", "-x", "--epsilon", "3", "--delta", "1e-07", "--set", "a=1", "--set", "b=2",
        ]  # fmt: skip


def test_names_of_any_characters_stay_one_line_and_one_word(
    capsys: pytest.CaptureFixture[str],
) -> None:
    say_next("verify", Path("-v"), Path("a b'c"), Path("x\x1b[2J\ny"))
    (line,) = capsys.readouterr().err.splitlines()
    assert "\x1b" not in line
    words = shlex.split(line)
    assert words[:5] == ["next:", "dpgen", "verify", "./-v", "a b'c"]


def test_a_folder_that_is_there_is_not_named_as_one_to_make(tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert beside(run, "images") == tmp_path / "run-images"
    (tmp_path / "run-images").mkdir()
    (tmp_path / "run-images-2").mkdir()
    assert beside(run, "images") == fresh(tmp_path / "run-images") == tmp_path / "run-images-3"


@pytest.mark.parametrize("left", ["unfinished", "deleted"])
def test_a_newer_run_that_is_not_there_or_not_finished_hides_no_reference(
    data: Path, tmp_path: Path, left: str
) -> None:
    run, other, notes = tmp_path / "run", tmp_path / "other", tmp_path / "home" / "runs.json"
    words = ["train", "pge", "--data", data, "--size", 8, "--epsilon", 3, *TINY, "--device", "cpu"]
    assert dpgen(*words, "--out", run, "-q", "--yes").exit_code == 0
    held = json.loads(notes.read_text())
    held["runs"].append({**held["runs"][0], "folder": str(other)})
    notes.write_text(json.dumps(held))
    if left == "unfinished":
        (other / "checkpoint").mkdir(parents=True)
    drawn = dpgen("sample", run, "-n", 4, "--out", tmp_path / "set", "-q")
    assert next_of(drawn)[:4] == ["evaluate", str(tmp_path / "set"), "--reference", str(data)]
