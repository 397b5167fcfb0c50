"""The way from a data set of persons to a signed mixture, by the commands alone."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result

from tests.commands import dpgen

pytestmark = pytest.mark.usefixtures("one_thread", "home", "remembering_accountant")

TINY = [
    f"--set={name}={value}"
    for name, value in {
        "teacher.n_steps": 2,
        "teacher.n_draws": 1,
        "teacher.batch": 10,
        "teacher.bands": 3,
        "teacher.warm_start_share": 0.5,
        "sampling_steps": 2,
    }.items()
]
BUDGET = ["--epsilon", "0.3", "--delta", "1e-3", "--limit", "5"]
PERSONS = ["--max-records-per-unit", 3]
CPU = ["--device", "cpu"]


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Forty images of 8x8 in two classes."""
    path = tmp_path / "private.npz"
    pixels = np.random.default_rng(0).integers(0, 256, (40, 8, 8), dtype=np.uint8)
    np.savez(path, images=pixels, labels=np.arange(40) % 2, class_names=np.array(["0", "1"]))
    return path


def train(archive: Path, out: Path, *more: object) -> Result:
    return dpgen(
        "train", "dpdm", "--data", archive, *BUDGET, *TINY, *CPU, *more, "--out", out, "-q", "--yes"
    )


def statement(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "privacy.json").read_text()))


def test_from_a_data_set_of_persons_to_a_signed_mixture(archive: Path, tmp_path: Path) -> None:
    run, other, one, two, mixed = (tmp_path / name for name in ("r1", "r2", "s1", "s2", "mix"))
    done = train(archive, run, *PERSONS)
    assert done.exit_code == 0, done.stderr
    assert "adding or removing up to 3 records of one person" in done.stdout
    told = statement(run)
    assert told["guarantee"]["unit"] == "person" and told["guarantee"]["epsilon"] == 0.3
    assert told["facts"]["max_records_per_unit"] == 3
    assert told["guarantee"]["group"]["1"] < 0.1
    assert told["tuning"]["runs_charged"] == 1 and "not covered" in told["tuning"]["statement"]
    # A second run on the data adds up, for the same unit and no other.
    refused = train(archive, tmp_path / "r3", "--max-records-per-unit", 1)
    assert refused.exit_code == 2 and "units of at most 3 records" in refused.stderr
    assert train(archive, other).exit_code == 0
    assert statement(other)["guarantee"]["max_records_per_unit"] == 3
    assert statement(other)["tuning"]["runs_charged"] == 2

    for folder, made in ((run, one), (other, two)):
        drawn = dpgen("sample", folder, "-n", 6, "--format", "npz", "--out", made, "-q", *CPU)
        assert drawn.exit_code == 0, drawn.stderr
    checked = dpgen("verify", one, "--model", run)
    assert checked.exit_code == 0, checked.stdout
    assert "is the run it was drawn from, and holds" in checked.stdout
    assert "holds 2 runs, this one among them" in checked.stdout
    assert dpgen("verify", one, "--model", other).exit_code == 1
    assert "drawn from" in dpgen("verify", one).stdout  # it lies beside the set

    done = dpgen("mix", one, two, "--out", mixed, "--format", "npz", "-q")
    assert done.exit_code == 0, done.stderr
    assert "12 images in" in done.stdout and "composition of 2 sets" in done.stdout
    assert 0.3 < statement(mixed)["guarantee"]["epsilon"] < 0.6
    assert dpgen("verify", mixed, "--model", run, "--model", other).exit_code == 0
    assert dpgen("mix", one, "--out", tmp_path / "x").exit_code == 2

    key, public = tmp_path / "key.pem", tmp_path / "key.pub"
    pytest.importorskip("cryptography")
    try:
        for arguments in (
            ["genpkey", "-algorithm", "ed25519", "-out", key],
            ["pkey", "-in", key, "-pubout", "-out", public],
        ):
            subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("openssl cannot make an Ed25519 key here")
    assert dpgen("verify", mixed, "--public-key", public).exit_code == 1
    signed = dpgen("sign", mixed, "--key", key)
    assert signed.exit_code == 0 and "sha256:" in signed.stdout
    checked = dpgen("verify", mixed, "--public-key", public)
    assert checked.exit_code == 0 and "and authenticity under the key" in checked.stdout
    assert dpgen("sign", mixed, "--key", public).exit_code == 2
    assert dpgen("sign", tmp_path, "--key", key).exit_code == 1

    # Any byte of what was really released, at the ends and in the middle of every file.
    for folder in (run, one, mixed):
        for path in sorted(p for p in folder.rglob("*") if p.is_file() and p.suffix != ".sig"):
            content = path.read_bytes()
            for at in {0, len(content) // 2, len(content) - 1}:
                path.write_bytes(content[:at] + bytes([content[at] ^ 8]) + content[at + 1 :])
                assert dpgen("verify", folder).exit_code == 1, (path, at)
            path.write_bytes(content)
        assert dpgen("verify", folder).exit_code == 0


def test_a_plan_is_priced_for_a_person(archive: Path, tmp_path: Path) -> None:
    asked = ["plan", "dpdm", "--data", archive, *BUDGET[:4], *TINY, *CPU]
    person, record = dpgen(*asked, *PERSONS), dpgen(*asked)
    assert "adding or removing up to 3 records of one person" in person.stdout
    assert "adding or removing one record" in record.stdout

    def noise(told: Result) -> list[float]:
        rows = [line.split() for line in told.stdout.splitlines()]
        return [float(row[-1]) for row in rows if len(row) > 3 and row[-3].isdigit()]

    assert len(noise(person)) == len(noise(record)) == 3
    for ours, theirs in zip(noise(person), noise(record), strict=True):
        assert ours > 2.5 * theirs
    facts = tmp_path / "facts.toml"
    facts.write_text('shape = [1, 8, 8]\nclass_names = ["0", "1"]\nn_records = 40\n'
                     "max_records_per_unit = 3\n")  # fmt: skip
    stated = ["plan", "dpdm", "--facts", facts, *BUDGET[:4], *TINY, *CPU]
    assert noise(dpgen(*stated)) == noise(person)
    for option in (["--max-records-per-unit", 2], ["--adjacency", "replace_one"]):
        refused = dpgen(*stated, *option)
        assert refused.exit_code == 2 and "drop it" in refused.stderr
    replaced = dpgen(*asked, *PERSONS, "--adjacency", "replace_one")
    assert replaced.exit_code == 2 and "no proof in this package covers it" in replaced.stderr


def test_verify_says_what_it_skipped_and_explains_what_it_proved(
    archive: Path, tmp_path: Path
) -> None:
    run, made = tmp_path / "runs" / "run", tmp_path / "set"
    assert train(archive, run).exit_code == 0
    drawn = dpgen("sample", run, "-n", 2, "--format", "npz", "--out", made, "-q", *CPU)
    assert drawn.exit_code == 0, drawn.stderr
    checked = dpgen("verify", made)
    assert checked.exit_code == 0
    skipped = [row for row in checked.stdout.splitlines() if row.startswith("skip")]
    assert [row.split()[1].rstrip(":") for row in skipped] == ["model", "signature"]
    assert "a looser upper bound" in checked.stdout
    told = json.loads(dpgen("verify", made, "--json").stdout)
    states = {check["name"]: check["state"] for check in told["checks"]}
    assert told["passed"] and states["model"] == states["signature"] == "skip"
    assert set(states.values()) == {"ok", "skip"} and "theorems" not in told

    explained = dpgen("verify", run, "--explain").stdout
    titles = [row for row in explained.splitlines() if row.startswith("# ")]
    assert [title[2:4] for title in titles[:4]] == ["B1", "B2", "F3", "A3"]
    assert {title[2:4] for title in titles} >= {"D1", "F2", "F4", "F5", "F6"}
    assert "plan of the configuration: gives these stages" in explained
    told = json.loads(dpgen("verify", run, "--explain", "--json").stdout)
    assert [theorem["name"] for theorem in told["theorems"][:4]] == ["B1", "B2", "F3", "A3"]
    assert all("**Proof.**" in theorem["text"] for theorem in told["theorems"][:4])
    named = statement(run)["mechanism"]["theorems"]
    assert [{k: t[k] for k in ("name", "title")} for t in told["theorems"][:4]] == named

    (run / "preview.png").write_bytes(b"another")
    failed = dpgen("verify", run, "--explain")
    assert failed.exit_code == 1 and "FAILED  files" in failed.stdout
    assert "# B1" not in failed.stdout
