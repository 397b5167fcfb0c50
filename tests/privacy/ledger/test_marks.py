"""The file of marks: what was added stays, what was damaged is refused."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from dpgen.privacy.ledger import marks
from dpgen.privacy.ledger.chain import LedgerError
from dpgen.privacy.ledger.marks import MarksFile, n_shared


def rising(*values: int) -> np.ndarray:
    return np.array(sorted(values), np.uint64)


@pytest.fixture
def file(tmp_path: Path) -> MarksFile:
    return MarksFile(tmp_path / "a.marks")


def test_what_was_added_is_there_once_and_for_its_owner_only(file: MarksFile) -> None:
    assert file.read() is None
    given = [rising(3, 2**64 - 1, 0), rising(3, 5), rising(5), rising()]
    names = [file.add("x.jsonl", marks) for marks in given]
    held = file.read()
    assert held is not None and list(held.blocks) == names and len(set(names)) == 4
    assert held.all.tolist() == [0, 3, 5, 2**64 - 1] and held.all.dtype == np.uint64
    assert [b.tolist() for b in held.blocks.values()] == [[0, 3, 2**64 - 1], [5], [], []]
    assert file.path.stat().st_mode & 0o777 == 0o600
    # 8 bytes a record, and 56 a block.
    size = file.path.stat().st_size
    assert size == file.path.read_bytes().index(b"\n") + 1 + 4 * 56 + 4 * 8


def test_names_of_blocks_are_random_and_one_that_was_lost_is_given_back(file: MarksFile) -> None:
    """A name that came from the records would reach what a run publishes, by the ledger's hashes.
    """
    other = MarksFile(file.path.with_name("b.marks"))
    assert file.add("x.jsonl", rising(1)) != other.add("x.jsonl", rising(1))
    assert other.add("x.jsonl", rising(2), name="ab" * 16) == "ab" * 16
    held = other.read()
    assert held is not None and held.blocks["ab" * 16].tolist() == [2]


def test_without_marked_records_there_are_no_marks(file: MarksFile) -> None:
    file.add("x.jsonl", rising())
    held = file.read()
    assert held is not None and len(held.all) == 0 and held.all.dtype == np.uint64


def test_the_place_of_the_ledger_follows_it_and_any_name_is_kept(file: MarksFile) -> None:
    for place in ("x.jsonl", "/else where/\u00e9\n.jsonl", os.fsdecode(b"/a/\xff.jsonl")):
        file.add(place, rising(1))
        held = file.read()
        assert held is not None and held.ledger == place and held.all.tolist() == [1]


def test_a_damaged_file_is_refused_wherever_it_was_cut_or_changed(file: MarksFile) -> None:
    file.add("x.jsonl", rising(1, 2))
    first = file.path.read_bytes()
    file.add("x.jsonl", rising(9))
    whole = file.path.read_bytes()
    assert whole.startswith(first)
    for cut in range(len(whole)):
        file.path.write_bytes(whole[:cut])
        if cut in (first.index(b"\n") + 1, len(first)):
            assert file.read() is not None  # whole blocks: that one is missing, the ledger says
            continue
        with pytest.raises(LedgerError, match="marks file .* is damaged: restore it"):
            file.read()
    start = first.index(b"\n") + 1
    for place in range(start, len(whole)):
        if 0 <= place - start < 16 or 0 <= place - len(first) < 16:
            continue  # a block of another name: the ledger misses the one that it named
        spoilt = bytearray(whole)
        spoilt[place] ^= 1
        file.path.write_bytes(bytes(spoilt))
        with pytest.raises(LedgerError, match="is damaged"):
            file.read()


def test_marks_of_another_form_are_refused(file: MarksFile) -> None:
    file.add("x.jsonl", rising(1))
    whole = file.path.read_bytes()
    for damaged in (b"x" + whole, whole.replace(b'"x.jsonl"', b"7")):
        file.path.write_bytes(damaged)
        with pytest.raises(LedgerError, match="is damaged: restore it"):
            file.read()


def test_marks_that_could_not_be_read_again_are_not_written(
    file: MarksFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.add("x.jsonl", rising(1))
    before = file.path.read_bytes()
    monkeypatch.setattr(marks, "MARKS_BYTES", len(before) + 56 + 8)
    with pytest.raises(LedgerError, match="nothing was written"):
        file.add("x.jsonl", rising(2, 3))
    assert file.path.read_bytes() == before
    file.add("x.jsonl", rising(2))
    held = file.read()
    assert held is not None and held.all.tolist() == [1, 2]


def test_what_is_in_both_is_counted_exactly() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        one, other = (
            np.unique(rng.integers(0, 40, rng.integers(0, 30)).astype(np.uint64)) for _ in "ab"
        )
        assert n_shared(one, other) == len(set(one.tolist()) & set(other.tolist()))
    assert n_shared(rising(2**64 - 1), rising(2**64 - 1, 5)) == 1
    assert n_shared(rising(2**64 - 1), rising(2**64 - 2)) == 0
