"""What becomes of a data set that comes back changed: the same ledger, a named overlap, or nothing
that anyone could see. Through the production readers, on files.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dpgen.data.opening import open_images
from dpgen.data.private import PrivateDataset
from dpgen.privacy.accounting.accountant import Budget
from dpgen.privacy.ledger.shared_ledger import OverlapError
from dpgen.privacy.lineage.keys import StageKeys
from dpgen.privacy.mechanisms.declared import NoisySum
from dpgen.privacy.plan import Plan, Stage
from dpgen.privacy.statements.certificate import read_statement, statement_bytes
from dpgen.privacy.statements.tuning import tuning_of
from dpgen.privacy.verification.verify import verify
from dpgen.storage.canonical import digest
from tests.privacy.installation import price_by_count, runs_in
from tests.relations import ADD_REMOVE

Kit = Any  # what conftest.py shares

N = 12
PIXELS = np.random.default_rng(0).integers(0, 256, (N, 8, 8, 1), dtype=np.uint8)
LABELS = np.arange(N) % 3
OTHERS = np.random.default_rng(1).integers(0, 256, (N, 8, 8, 1), dtype=np.uint8)


def saved(
    folder: Path, pixels: np.ndarray, labels: np.ndarray | None = LABELS, **given: Any  # noqa: ANN401
) -> PrivateDataset:
    folder.mkdir()
    arrays = {"images": pixels} if labels is None else {"images": pixels, "labels": labels}
    np.savez(folder / "data.npz", **arrays)
    given = {"classes": None if labels is None else 3, **given}
    return open_images(folder / "data.npz", **given)


def as_pictures(folder: Path, suffix: str, **options: Any) -> PrivateDataset:  # noqa: ANN401
    for i, (pixels, label) in enumerate(zip(PIXELS, LABELS, strict=True)):
        (folder / str(label)).mkdir(parents=True, exist_ok=True)
        path = folder / str(label) / f"{i}.{suffix}"
        Image.fromarray(pixels[..., 0]).save(path, **options)
    return open_images(folder)


def changed(array: np.ndarray, index: Any, value: Any) -> np.ndarray:  # noqa: ANN401
    other = array.copy()
    other[index] = value
    return other


def twice(folder: Path) -> PrivateDataset:
    large = np.repeat(np.repeat(PIXELS, 2, 1), 2, 2)
    return saved(folder, large)


ORDER = np.random.default_rng(2).permutation(N)
FLOATS = PIXELS.astype(np.float32)
SAME, OTHER_FACTS, UNSEEN = "the same ledger", "the same ledger, which holds other facts", 0
TABLE: dict[str, tuple[Callable[[Path], PrivateDataset], str | int]] = {
    "shuffled": (lambda at: saved(at, PIXELS[ORDER], LABELS[ORDER]), SAME),
    "as PNG files": (lambda at: as_pictures(at, "png"), SAME),
    "as floats": (lambda at: saved(at, FLOATS, value_range=(0, 255)), SAME),
    "read at another size": (lambda at: saved(at, PIXELS, size=16), OTHER_FACTS),
    "read in other channels": (lambda at: saved(at, PIXELS, channels=3), OTHER_FACTS),
    "a record removed": (lambda at: saved(at, PIXELS[1:], LABELS[1:]), N - 1),
    "a record added": (
        lambda at: saved(at, np.r_[PIXELS, OTHERS[:1]], np.r_[LABELS, 0]), N,
    ),
    "a record twice": (lambda at: saved(at, np.r_[PIXELS, PIXELS[:1]], np.r_[LABELS, 0]), N),
    "one record among strangers": (lambda at: saved(at, np.r_[OTHERS[1:], PIXELS[:1]]), 1),
    "one bit of one pixel": (
        lambda at: saved(at, changed(PIXELS, (0, 0, 0, 0), PIXELS[0, 0, 0, 0] ^ 1)), N - 1,
    ),
    "one label": (lambda at: saved(at, PIXELS, changed(LABELS, 0, 2)), N),
    "labels renumbered": (lambda at: saved(at, PIXELS, 2 - LABELS), N),
    "labels dropped": (lambda at: saved(at, PIXELS, None), N),
    "grey stored as RGB": (lambda at: saved(at, np.repeat(PIXELS, 3, 3)), N),
    "in another value range": (lambda at: saved(at, FLOATS, value_range=(0, 256)), UNSEEN),
    "resized before": (twice, UNSEEN),
    "as JPEG files": (lambda at: as_pictures(at, "jpg", quality=90), UNSEEN),
    "mirrored": (lambda at: saved(at, PIXELS[:, :, ::-1]), UNSEEN),
    "cropped": (lambda at: saved(at, PIXELS[:, 1:, 1:]), UNSEEN),
    "the test split of it": (lambda at: saved(at, OTHERS), UNSEEN),
}  # fmt: skip


def begin(kit: Kit, data: PrivateDataset, place: Path, name: str) -> None:
    data.open_ledger(Budget(0.05, 1e-5), place)
    plan = Plan((Stage("one", NoisySum(kit.Echo(), 6.0)),), ADD_REMOVE)
    data.begin(name, StageKeys(place / f"{name} keys"), plan)


@pytest.mark.parametrize("how", TABLE)
def test_a_data_set_that_comes_back_changed(
    how: str, kit: Kit, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    price_by_count(monkeypatch)
    first = saved(tmp_path / "first", PIXELS)
    begin(kit, first, tmp_path, "one")
    make, expected = TABLE[how]
    again = make(tmp_path / "again")
    if expected == OTHER_FACTS:
        refused = f"{first.ledger.path} holds other facts.* open the data as they were then"
        with pytest.raises(ValueError, match=rf"{refused} \(--size 8 --channels 1\)\."):
            begin(kit, again, tmp_path, "two")
        # Both cures that it names: the facts of the ledger, and an account for the new ones.
        begin(kit, saved(tmp_path / "cured", PIXELS, size=8, channels=1), tmp_path, "three")
        given = {"ledger": tmp_path / "new.jsonl", "overlap": "charge"}
        size = {"size": again.facts.shape[1], "channels": again.facts.shape[0]}
        begin(kit, saved(tmp_path / "apart", PIXELS, **size, **given), tmp_path, "four")
        assert first.account()["runs"] == 3
        assert runs_in(tmp_path / "new.jsonl") == ["four"]
        return
    if isinstance(expected, int) and expected:
        told = f"{expected} different images are in the ledger {first.ledger.path} "
        with pytest.raises(OverlapError, match=told):
            begin(kit, again, tmp_path, "two")
        assert not again.ledger.path.exists() and first.account()["runs"] == 1
        return
    begin(kit, again, tmp_path, "two")
    assert (again.ledger.path == first.ledger.path) == (expected == SAME)
    account, runs = again.account(), 2 if expected == SAME else 1
    assert (account["runs"], account["total_epsilon"]) == (runs, runs / 100)
    # What cannot be seen is said beside the number that it is missing from.
    assert account["record_total_epsilon"] == account["total_epsilon"]
    said = tuning_of(account)["statement"]
    for words in (
        "pixels that are exactly the same", "not where a pixel changed", "resize", "lossy",
        "other installations",
    ):  # fmt: skip
        assert words in said


def test_another_installation_sees_nothing_and_says_so(
    kit: Kit, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    price_by_count(monkeypatch)
    begin(kit, saved(tmp_path / "first", PIXELS), tmp_path, "one")
    monkeypatch.setenv("DPGEN_HOME", str(tmp_path / "elsewhere"))
    again = saved(tmp_path / "again", PIXELS)
    begin(kit, again, tmp_path, "two")
    assert again.account()["runs"] == 1
    assert "not in other installations" in tuning_of(again.account())["statement"]


@pytest.mark.usefixtures("remembering")
def test_a_statement_says_what_a_record_spent_in_all_of_its_data_sets_and_is_verified(
    kit: Kit, tmp_path: Path
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    ledger = tmp_path / "a.jsonl"
    kit.run(one, ledger=ledger)
    alone = read_statement(one)
    spent = alone["data_set"]["record_total_epsilon"]
    assert spent == alone["data_set"]["total_epsilon"] == alone["guarantee"]["epsilon"]
    assert f"no record of it has spent more than epsilon = {spent:g} at delta = 1e-05" in (
        alone["tuning"]["statement"]
    )
    kit.run(two, ledger=ledger)  # the same records, the same ledger
    told = read_statement(two)["data_set"]
    assert told["record_total_epsilon"] == told["total_epsilon"] > spent
    for folder in (one, two):
        assert not any(check.failed for check in verify(folder))
    # What it came to cannot be left out of the sentence, nor the sentence be another.
    body = read_statement(two)
    del body["sha256"]
    for record_total in (spent, "infinity"):
        forged = {**body, "data_set": {**told, "record_total_epsilon": record_total}}
        (two / "privacy.json").write_bytes(statement_bytes({**forged, "sha256": digest(forged)}))
        assert "choice of settings" in [c.name for c in verify(two) if c.failed]
    assert "there is no bound on what a record" in tuning_of(forged["data_set"])["statement"]


def test_statements_from_before_records_were_marked_say_nothing_of_them() -> None:
    old = {"ledger": "installation", "runs": 2, "total_epsilon": 1.5, "limit": {"delta": 1e-5}}
    said = tuning_of(old)["statement"]
    assert "recognises" not in said and json.loads(json.dumps(said)) == said
    assert "epsilon above is of this run alone. Settings that were chosen" in said
