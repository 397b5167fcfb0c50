"""The command line and data that share records: named with the counts, refused, or charged to all.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dpgen.benchmark.cell import open_records
from dpgen.benchmark.schedule import BenchmarkSettings
from dpgen.data.opening import open_images
from dpgen.methods.dpdm import DPDM
from dpgen.privacy.accounting.accountant import Budget
from dpgen.privacy.accounting.events import GaussianLeaf
from dpgen.privacy.ledger.charges import Charge, plan_hash
from dpgen.privacy.ledger.privacy_ledger import PrivacyLedger
from tests.commands import dpgen

pytestmark = pytest.mark.usefixtures("one_thread", "home", "remembering_accountant")

PIXELS = np.random.default_rng(0).integers(0, 256, (50, 8, 8), dtype=np.uint8)


def archive(path: Path, start: int, stop: int) -> Path:
    labels = np.arange(stop - start) % 2
    np.savez(path, images=PIXELS[start:stop], labels=labels, class_names=["a", "b"])
    return path


@pytest.fixture
def charged(tmp_path: Path) -> PrivacyLedger:
    """The ledger of 40 images, on which a run was charged."""
    data = open_images(archive(tmp_path / "one.npz", 0, 40), limit=Budget(0.5, 1e-3))
    data.open_ledger(Budget(0.5, 1e-3), tmp_path)
    event = GaussianLeaf(1.0, 10.0, 1).event
    data._account().charge("one", [Charge("x", plan_hash("x", event, {}), event)])
    return data.ledger


TRAIN = [
    "train", "dpdm", "--epsilon", "0.3", "--delta", "1e-3", "--device", "cpu", "-q",
    "--set", "teacher.n_steps=1", "--set", "teacher.batch=10", "--set", "sampling_steps=1",
]  # fmt: skip


def test_shared_records_are_refused_in_one_line_with_the_cures_and_nothing_is_left(
    charged: PrivacyLedger, tmp_path: Path
) -> None:
    before, run = charged.path.read_bytes(), tmp_path / "run"
    data = archive(tmp_path / "two.npz", 1, 41)
    refused = dpgen(*TRAIN, "--data", data, "--out", run)
    assert refused.exit_code == 2 and refused.stdout == "" and "Traceback" not in refused.stderr
    (line,) = [row for row in refused.stderr.splitlines() if row.startswith("dpgen: ")]
    for words in (
        f"of the 40 different images of these data, 39 different images are in the ledger "
        f"{charged.path}", "is spent, and with this run it would be", "--overlap charge",
        f"--ledger {charged.path} adds up there", "--overlap separate",
    ):  # fmt: skip
        assert words in line
    assert not run.exists() and charged.path.read_bytes() == before
    # Charged there as well, which has no room for it: named, and nothing is left either.
    data = archive(tmp_path / "three.npz", 30, 50)
    also = ["--overlap", "charge", "--epsilon", "0.45"]
    refused = dpgen(*TRAIN, "--data", data, "--out", run, *also)
    assert refused.exit_code == 2 and "limit of epsilon = 0.5" in refused.stderr
    assert f"shared: 10 different images are in the ledger {charged.path}" in refused.stderr
    assert "charged there as well" in refused.stderr
    assert not run.exists() and charged.path.read_bytes() == before
    assert len(list(charged.path.parent.glob("*.jsonl"))) == 1


def test_a_benchmark_charges_what_it_shares_where_it_is_told_to(
    charged: PrivacyLedger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its cells open the data by its settings."""
    file, seen = tmp_path / "b.toml", []
    file.write_text(
        f'data = "{archive(tmp_path / "two.npz", 1, 41)}"\n[[methods]]\n'
        'label = "a"\nmethod = "dpdm"\n'
    )

    def compare(settings: BenchmarkSettings, *_: object, **__: object) -> None:
        data = open_records(settings)
        data.open_ledger(Budget(0.5, 1e-3), tmp_path)
        event = GaussianLeaf(1.0, 30.0, 1).event
        seen.append(settings.overlap)
        data._account().charge("two", [Charge("x", plan_hash("x", event, {}), event)])
        raise KeyboardInterrupt  # what comes then is not looked at

    monkeypatch.setattr("dpgen.benchmark.compare.compare", compare)
    before = charged.path.read_bytes()
    command = ["benchmark", file, "--out", tmp_path / "out"]
    refused = dpgen(*command)
    assert refused.exit_code == 2 and "39 different images are in the ledger" in refused.stderr
    assert charged.path.read_bytes() == before
    assert dpgen(*command, "--overlap", "charge").exit_code == 130
    assert [x["run"] for x in charged.lines() if x["kind"] == "charge"] == ["one", "two"]
    file.write_text(f'overlap = "separate"\n{file.read_text()}')
    assert dpgen(*command).exit_code == 130
    assert seen == ["refuse", "charge", "separate"]
    assert dpgen(*command, "--overlap", "ignore").exit_code == 2


def test_a_declared_version_joins_the_ledger_and_the_table_says_what_is_shared(
    charged: PrivacyLedger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(DPDM, "_learn", interrupted)
    grown = [*TRAIN, "--data", archive(tmp_path / "two.npz", 0, 42), "--ledger", charged.path]
    assert dpgen(*grown, "--out", tmp_path / "grown", "--yes").exit_code == 130
    other = [*TRAIN, "--data", archive(tmp_path / "three.npz", 30, 50), "--overlap", "separate"]
    done = dpgen(*other, "--out", tmp_path / "other", "--yes")
    assert done.exit_code == 130 and "; not charged there" in done.stderr
    shown = dpgen("ledger", "--ledger", charged.path).stdout
    assert "42 different images marked, 12 of them also in " in shown
    rows = dpgen("ledger").stdout.splitlines()
    assert sum(row.strip().startswith("run ") for row in rows) == 3
    assert sum("charged, nothing run yet" in row for row in rows) == 3
