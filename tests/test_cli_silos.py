"""Forty folders, one teacher each, one certificate: shards that are silos, by the commands."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result

from dpgen.data.formats.pictures import encode_png
from dpgen.networks.fixed.gabor import GaborFeatures
from dpgen.stages import votes
from tests.commands import dpgen
from tests.methods.stopped import Stopped, stop_after
from tests.test_cli_trust import statement
from tests.test_cli_units import resealed

pytestmark = pytest.mark.usefixtures("one_thread", "home", "remembering_accountant")

TINY = [
    f"--set={name}={value}"
    for name, value in {
        "sketch.n_steps": "[2,2]", "sketch.n_per_class": 4, "sketch.n_frequencies": 12,
        "sketch.n_hidden_frequencies": 6, "sketch.n_samples": 40, "sketch.classifier_steps": 2,
        "votes.n_queries": 4, "votes.n_rounds": 2, "votes.n_drawn": 2, "refinement.n_steps": 1,
        "refinement.batch_size": 4, "student.n_steps": 2, "student.batch_size": 4,
    }.items()
]  # fmt: skip
BUDGET = ["--epsilon", 10, "--delta", "1e-3"]
SILO = ["--silo", "top-folder", "--max-records-per-silo", 3]


@pytest.fixture(autouse=True)
def few_features(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(votes, "features_for", partial(GaborFeatures, grid=2))


@pytest.fixture
def hospitals(tmp_path: Path) -> Path:
    """Forty hospitals with two pictures of 8x8 each, of one class or of two; one has five."""
    rng, root = np.random.default_rng(0), tmp_path / "hospitals"
    for k in range(40):
        for i in range(5 if k == 7 else 2):
            folder = root / f"h{k:02d}" / ("sick" if (k + i) % 3 else "well")
            folder.mkdir(parents=True, exist_ok=True)
            pixels = rng.integers(0, 256, (8, 8, 1), dtype=np.uint8)
            (folder / f"{i}.png").write_bytes(encode_png(pixels))
    return root


def train(data: Path, out: Path, *more: object, method: str = "dpsd") -> Result:
    return dpgen(
        "train", method, "--data", data, *BUDGET, *TINY, *more, "--device", "cpu", "--out", out,
        "-q", "--yes", "--limit", 99,
    )  # fmt: skip


def test_forty_folders_one_teacher_each_one_certificate(hospitals: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shown = dpgen("inspect", hospitals, "--silo", "top-folder")
    told = " ".join(shown.stdout.split())
    assert "40 silos" in told and "h07 (5)" in told
    assert "For the owner's eyes" in shown.stdout and "dpgen plan dpsd" in shown.stderr
    done = train(hospitals, run, *SILO)
    assert done.exit_code == 0, done.stderr
    assert "declared public by you: the list of 40 silos (top-folder)" in done.stderr
    assert "not used" not in done.stderr, "how many a silo has beyond the bound is private"
    told = statement(run)
    assert told["guarantee"]["unit"] == "record" and told["facts"]["n_records"] == 83
    stage = told["mechanism"]["stages"]["votes"]
    assert "A2-S" in {one["name"] for one in told["mechanism"]["theorems"]}
    assert stage["n_shards"] == 40 and stage["shards"]["by"] == "silo"
    assert stage["shards"]["ids"] == "top-folder" and stage["shards"]["max_records"] == 3
    assert "list of silos (40, by top-folder)" in told["declared"]
    assert "records of a silo that its teacher sees (3)" in told["declared"], "a sketch reads all"
    assert "its silo (top-folder), one of 40" in json.dumps(told["implementation"])
    assert "h07" not in (run / "privacy.json").read_text(), "the list itself is in config.json"
    assert "h07" in (run / "config.json").read_text()
    checked = dpgen("verify", run)
    assert checked.exit_code == 0 and "gives these stages" in checked.stdout

    again = train(hospitals, run, *SILO)
    assert again.exit_code == 0 and "finished already; nothing was charged" in again.stderr
    refused = train(plainly(hospitals), run)
    assert refused.exit_code == 2 and "another configuration" in refused.stderr

    config = json.loads((run / "config.json").read_text())
    config["settings"]["votes"]["silos"]["names"][0] = "h99"
    (run / "config.json").write_text(json.dumps(config))
    assert dpgen("verify", run).exit_code == 1
    told["mechanism"]["stages"]["votes"]["shards"]["max_records"] = 2
    assert resealed(run, told), "another bound than the one that was charged"


def names(n: int) -> list[str]:
    return [f"h{k:02d}" for k in range(n)]


def plainly(hospitals: Path) -> Path:
    """The same records without silos."""
    root = hospitals.with_name("plain")
    for file in hospitals.rglob("*.png"):
        hospital, name = file.relative_to(hospitals).parts[0], file.parent.name
        (root / name).mkdir(parents=True, exist_ok=True)
        (root / name / f"{hospital}-{file.name}").write_bytes(file.read_bytes())
    return root


def test_a_run_that_was_stopped_goes_on_with_its_own_silos_alone(
    hospitals: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        stop_after(patch, lambda saved: "student 1" in saved)
        with pytest.raises(Stopped):
            train(hospitals, run, *SILO)
    for other in ([*SILO[:-1], 4], [*SILO, "--silos", ",".join(names(41))]):
        refused = train(hospitals, run, *other)
        assert refused.exit_code == 2 and "another configuration" in refused.stderr, refused.stderr
    here, there = hospitals / "h07" / "sick" / "0.png", hospitals / "h08" / "sick" / "x.png"
    here.rename(there)
    refused = train(hospitals, run, *SILO)
    assert refused.exit_code == 2 and "was begun on other data" in refused.stderr
    there.rename(here)
    done = train(hospitals, run, *SILO)
    assert done.exit_code == 0, done.stderr
    assert dpgen("verify", run).exit_code == 0


@pytest.mark.parametrize(
    ("method", "more", "said"),
    [
        ("pge", SILO, "must be given data without silos"),
        ("dpsd", [*SILO, "--set=mode=paper", "--allow-unverified"], "data without silos"),
        ("dpsd", [*SILO, "--set=votes.n_shards=30"], "must be the number of silos, 40, got 30"),
        ("dpsd", SILO[:2], "--silo needs --max-records-per-silo M"),
        ("dpsd", SILO[2:], "say with --silo where it is written"),
        ("dpsd", [*SILO, "--silos", "h00,h01"], "of silo 'h02', which is not among the 2 silos"),
        ("dpsd", [*SILO, "--set=votes.n_queries=500"], "got 40, one for each silo, which allow"),
    ],
)
def test_what_silos_do_not_go_with_is_refused_before_anything_is_charged(
    method: str, more: list[object], said: str, hospitals: Path, tmp_path: Path
) -> None:
    settings = [] if method == "pge" or "--set=mode=paper" in more else TINY
    done = dpgen(
        "train", method, "--data", hospitals, *BUDGET, *settings, *more, "--out", tmp_path / "run",
        "-q", "--yes",
    )  # fmt: skip
    assert done.exit_code == 2 and said in done.stderr, done.stderr
    assert not (tmp_path / "run").exists()


def test_a_plan_says_when_there_are_too_few_silos_with_the_numbers(
    hospitals: Path, keep: Callable[[Path, int], Path]
) -> None:
    enough = dpgen("plan", "dpsd", "--data", hospitals, *BUDGET, *SILO, *TINY)
    assert enough.exit_code == 0, enough.stderr
    assert "--silo top-folder --max-records-per-silo 3" in enough.stderr
    few = dpgen("plan", "dpsd", "--data", keep(hospitals, 5), *BUDGET, *SILO)
    assert few.exit_code == 2
    assert "got 5, one for each silo, which allow 1 queries" in few.stderr
    assert "2 queries at mu" in few.stderr and "need at least 6 shards" in few.stderr


@pytest.fixture
def keep() -> Callable[[Path, int], Path]:
    def kept(hospitals: Path, n: int) -> Path:
        for folder in sorted(hospitals.iterdir())[n:]:
            for file in folder.rglob("*.png"):
                (hospitals / "h00" / file.parent.name).mkdir(exist_ok=True)
                file.rename(hospitals / "h00" / file.parent.name / f"{folder.name}{file.name}")
            for inner in folder.iterdir():
                inner.rmdir()
            folder.rmdir()
        return hospitals

    return kept
