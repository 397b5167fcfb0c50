"""The command line and modes without a guarantee: refused unless asked for by name, and then marked
as such on everything that is written."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from dpgen.data.sources import read_images
from tests.commands import dpgen

pytestmark = pytest.mark.usefixtures("one_thread", "home", "remembering_accountant")

BUDGET = ["--epsilon", "1", "--delta", "1e-3"]
PGE = ["pge", *BUDGET, "--set", "mode=paper", "--set", "paper.n_steps=2", "--set", "paper.batch=8"]
DP_SAD = ["dp-sad", *BUDGET] + [
    f"--set={name}"
    for name in ("mode=paper", "paper.n_steps=2", "paper.teacher_steps=2", "paper.batch=8")
]
LINE = "has no guarantee: its privacy claim is not verified"


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    path = tmp_path / "private.npz"
    pixels = rng.integers(0, 256, (40, 8, 8), dtype=np.uint8)
    np.savez(path, images=pixels, labels=np.arange(40) % 2, class_names=np.array(["0", "1"]))
    return path


@pytest.mark.parametrize("method", [PGE, DP_SAD], ids=["pge", "dp-sad"])
def test_without_the_flag_status_is_1_and_nothing_is_read_or_written(
    method: list[str], tmp_path: Path, home: Path
) -> None:
    # Not even whether there are data is looked at.
    done = dpgen("train", *method, "--data", tmp_path / "absent.npz", "--out", tmp_path / "run")
    assert done.exit_code == 1 and done.stdout == ""
    assert "paper has no privacy guarantee" in done.stderr and "--allow-unverified" in done.stderr
    assert not (tmp_path / "run").exists() and not home.exists()


def test_a_plan_says_that_there_is_no_guarantee_and_what_the_worst_case_is(
    archive: Path, tmp_path: Path
) -> None:
    said = dpgen("plan", *PGE, "--data", archive).stdout
    assert said.startswith(f"pge/paper {LINE}\nworst case: epsilon = infinity")
    assert "by the paper's accounting, not verified" in said and "--allow-unverified" in said
    noise = [*DP_SAD, "--set=paper.student_input=noise"]
    told = json.loads(dpgen("plan", *noise, "--data", archive, "--json").stdout)
    assert told["certified"] is False
    # Two steps of eight questions; the rate of the claim is 8 / 40.
    multiplier = told["mechanism"]["settings"]["noise_multiplier"]
    assert told["worst_case"]["mu"] == pytest.approx(2 * 16**0.5 / multiplier, rel=1e-4)
    assert told["claimed"]["epsilon"] <= 1 < told["worst_case"]["epsilon"] < 1000
    assert sorted(p.name for p in tmp_path.iterdir()) == ["private.npz"]


def test_the_whole_way_is_marked_from_the_run_to_the_synthetic_set(
    archive: Path, tmp_path: Path
) -> None:
    run, made = tmp_path / "run", tmp_path / "set"
    done = dpgen(
        "train", *PGE, "--data", archive, "--out", run, "--device", "cpu", "-q",
        "--allow-unverified",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert f"pge/paper {LINE}" in done.stdout and str(run / "notice.json") in done.stdout
    scored = dpgen("evaluate", run, "--reference", archive)
    assert scored.exit_code == 2 and "must have a certificate, and has a notice" in scored.stderr
    assert "satisfies" not in done.stdout and "privacy.json" not in done.stdout
    (following,) = [line for line in done.stderr.splitlines() if line.startswith("next: ")]
    assert following.endswith(" --allow-unverified")
    listed = dpgen("ledger").stdout.splitlines()
    assert "inf" in listed[1].split()[1] and listed[1].split()[5] == "1"

    sample = ["sample", run, "-n", "4", "--out", made, "--sampler", "ddim", "--steps", "2", "-q"]
    refused = dpgen(*sample)
    assert refused.exit_code == 1 and "--allow-unverified" in refused.stderr
    assert not made.exists()
    done = dpgen(*sample, "--allow-unverified")
    assert done.exit_code == 0, done.output
    assert LINE in done.stdout and "satisfies" not in done.stdout
    told = json.loads((made / "notice.json").read_text())
    assert told["artifact"]["kind"] == "synthetic_dataset"
    assert told["worst_case"]["epsilon"] == "infinity"
    assert not list(made.rglob("privacy.json"))
    carded = dpgen("card", made)
    assert carded.exit_code == 0 and "next:" not in carded.stderr  # there is nothing to verify
    assert len(read_images(made).labels) == 4

    for folder in (run, made):
        done = dpgen("verify", folder)
        assert done.exit_code == 1 and done.stdout == ""
        assert "FAILED" in done.stderr and "worst case: epsilon = infinity" in done.stderr
        assert "whatever epsilon is" in done.stderr, "the reason"

    certified = dpgen("train", "dpdm", *BUDGET, "--data", archive, "--out", tmp_path / "other")
    assert certified.exit_code == 2 and "--ledger FILE" in certified.stderr
    assert not (tmp_path / "other").exists()


def test_an_audit_of_a_notice_needs_the_flag_and_accuses_the_claim(
    archive: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    small = ("mode=paper", "paper.n_steps=2", "paper.teacher_steps=4", "paper.batch=8",
             "paper.generator_steps=2", "paper.width=8")  # fmt: skip
    done = dpgen(
        "train", "dfkd", *BUDGET, *(f"--set={name}" for name in small), "--data", archive, "--out",
        run, "--device", "cpu", "-q", "--allow-unverified",
    )  # fmt: skip
    assert done.exit_code == 0 and f"dfkd/paper {LINE}" in done.stdout, done.output
    audit = ["audit", run, "--quick", "--device", "cpu", "-q"]
    refused = dpgen(*audit)
    assert refused.exit_code == 1 and "--allow-unverified" in refused.stderr
    games = dpgen("audit", run, "--allow-unverified", "--label-canaries", "20", "-q")
    assert games.exit_code == 2 and "for runs with a certificate" in games.stderr
    out = tmp_path / "audit"
    done = dpgen(*audit, "--allow-unverified", "--out", out)
    assert done.exit_code == 1, done.output
    assert "VIOLATION: everything released" in done.stdout and "satisfies" not in done.stdout
    told = json.loads((out / "audit.json").read_text())
    assert told["passed"] is False and "not verified" in told["statement"]
    page = (out / "audit.html").read_text()
    assert "the statement in notice.json" in page and "privacy.json" not in page


def test_digits_are_not_barred_from_certified_runs_by_an_unverified_one(
    tmp_path: Path, home: Path
) -> None:
    """The ledger of public data lies in the run folder, each run has its own."""
    common = ["--data", "digits", "--device", "cpu", "-q", "--epsilon", "1"]
    paper = ["--set", "mode=paper", "--set", "paper.n_steps=1", "--set", "paper.batch=4"]
    done = dpgen("train", "pge", *common, *paper, "--out", tmp_path / "p", "--allow-unverified")
    assert done.exit_code == 0, done.output
    dpdm = ["--set", "teacher.warm_start_share=1", "--set", "sampling_steps=1"]
    done = dpgen("train", "dpdm", *common, *dpdm, "--out", tmp_path / "c")
    assert done.exit_code == 0, done.output
    assert (tmp_path / "c" / "privacy.json").exists()
    assert "declared public" in done.stdout
    assert dpgen("verify", tmp_path / "c").exit_code == 0
