"""Files that change while a data set is open: what is charged is what is read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dpgen.data import sources
from dpgen.data.private import PrivateDataset
from dpgen.data.sources import open_source
from dpgen.privacy.accounting.accountant import Budget
from dpgen.privacy.ledger.chain import LedgerError
from dpgen.privacy.lineage.keys import StageKeys
from dpgen.privacy.mechanisms.declared import NoisySum
from dpgen.privacy.plan import Plan, Stage
from dpgen.stages.moments import ClassMeans

LIMIT = Budget(1.0, 1e-5)
MEANS = NoisySum(ClassMeans((1, 8, 8), 1, centre=0.0, radius=6.0, count_weight=1.0), 5.0)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DPGEN_HOME", str(tmp_path / "home"))
    write(tmp_path, 0)


def write(place: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    (place / "images").mkdir(exist_ok=True)
    for i in range(12):
        pixels = rng.integers(0, 255, (16, 16), dtype=np.uint8)
        Image.fromarray(pixels).save(place / "images" / f"{i:03}.png")


def opened(place: Path, folder: str) -> PrivateDataset:
    data = PrivateDataset(open_source(place / "images", size=8))
    data.open_ledger(LIMIT, place / folder)
    return data


def begin(data: PrivateDataset, folder: Path, run: str) -> None:
    plan = Plan((Stage("means", MEANS),), data.facts.relation)
    data.begin(run, StageKeys(folder / "keys"), plan)


def test_records_that_are_kept_are_not_charged_as_those_that_lie_there_now(tmp_path: Path) -> None:
    data = opened(tmp_path, "one")
    begin(data, tmp_path / "one", "one")
    data.release(MEANS, label="means")
    write(tmp_path, 1)
    with pytest.raises(ValueError, match=r"000.png changed since it was opened: open the data"):
        data.open_ledger(LIMIT, tmp_path / "two")
    with pytest.raises(ValueError, match="changed since it was opened"):
        begin(data, tmp_path / "two", "two")
    write(tmp_path, 0)
    data.open_ledger(LIMIT, tmp_path / "two")
    assert data.ledger.spent() > 0


def test_records_that_changed_before_the_first_look_are_refused_too(tmp_path: Path) -> None:
    source = open_source(tmp_path / "images", size=8)
    write(tmp_path, 1)
    with pytest.raises(ValueError, match="changed since it was opened"):
        PrivateDataset(source).open_ledger(LIMIT, tmp_path / "one")


def test_records_that_are_read_anew_are_looked_for_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "CACHE_BYTES", 0)  # as of a set that is too large to keep
    data = opened(tmp_path, "one")
    first = data.ledger.path
    write(tmp_path, 1)
    with pytest.raises(LedgerError, match="the records changed since their ledger"):
        begin(data, tmp_path / "one", "one")
    data.open_ledger(LIMIT, tmp_path / "one")
    assert data.ledger.path != first
    begin(data, tmp_path / "one", "one")
    data.release(MEANS, label="means")
    assert data.ledger.spent() > 0 and opened(tmp_path, "two").ledger.path == data.ledger.path


def test_records_that_change_after_the_charge_are_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "CACHE_BYTES", 0)
    data = opened(tmp_path, "one")
    begin(data, tmp_path / "one", "one")
    changed = np.zeros((16, 16), np.uint8)
    Image.fromarray(changed).save(tmp_path / "images" / "007.png")
    with pytest.raises(ValueError, match="the records changed since they were") as caught:
        data.release(MEANS, label="means")
    assert "007" not in str(caught.value)
    write(tmp_path, 0)
    again = opened(tmp_path, "one")
    begin(again, tmp_path / "one", "one")
    assert torch.isfinite(again.release(MEANS, label="means")["sums"]).all()


def test_a_run_is_not_resumed_on_other_records_of_the_same_object(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "CACHE_BYTES", 0)
    begin(opened(tmp_path, "one"), tmp_path / "one", "one")
    again = opened(tmp_path, "one")
    write(tmp_path, 1)
    again.open_ledger(LIMIT, tmp_path / "one")
    with pytest.raises(LedgerError, match="begun on other data"):
        begin(again, tmp_path / "one", "one")


def test_a_run_answers_nothing_after_its_data_set_was_opened_anew(tmp_path: Path) -> None:
    data = opened(tmp_path, "one")
    begin(data, tmp_path / "one", "one")
    data.open_ledger(LIMIT, tmp_path / "two")
    with pytest.raises(RuntimeError, match="before PrivateDataset.begin has charged"):
        data.release(MEANS, label="means")
    begin(data, tmp_path / "one", "one")
    assert torch.isfinite(data.release(MEANS, label="means")["sums"]).all()
