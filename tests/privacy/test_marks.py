"""The file of marks: what was added stays, what was damaged is refused."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from dpgen.privacy.chain import LedgerError
from dpgen.privacy.marks import MarksFile, digest_of, n_shared


def rising(*values: int) -> np.ndarray:
    return np.array(sorted(values), np.uint64)


@pytest.fixture
def file(tmp_path: Path) -> MarksFile:
    return MarksFile(tmp_path / "a.marks")


def test_what_was_added_is_there_once_and_for_its_owner_only(file: MarksFile) -> None:
    assert file.read() is None
    first = file.add("x.jsonl", rising(3, 2**64 - 1, 0))
    both = file.add("x.jsonl", rising(3, 5))
    held = file.read()
    assert held is not None
    assert held.all.tolist() == [0, 3, 5, 2**64 - 1] and held.all.dtype == np.uint64
    assert [block.tolist() for block in held.blocks] == [[0, 3, 2**64 - 1], [5]]
    assert held.names == both == (*first, digest_of(rising(5)))
    assert held.new_among(rising(1, 3, 5)).tolist() == [1]
    assert file.path.stat().st_mode & 0o777 == 0o600
    before = file.path.read_bytes()
    assert file.add("x.jsonl", rising(5)) == both and file.path.read_bytes() == before
    # 8 bytes a record, and 40 a block.
    assert len(before) == before.index(b"\n") + 1 + 2 * 40 + 4 * 8


def test_a_ledger_without_marked_records_has_an_empty_block(file: MarksFile) -> None:
    assert file.add("x.jsonl", rising()) == (digest_of(rising()),)
    held = file.read()
    assert held is not None and len(held.all) == 0
    assert file.add("x.jsonl", rising()) == held.names


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
    for place in range(first.index(b"\n") + 1, len(whole)):
        spoilt = bytearray(whole)
        spoilt[place] ^= 1
        file.path.write_bytes(bytes(spoilt))
        with pytest.raises(LedgerError, match="is damaged"):
            file.read()


def test_what_is_in_both_is_counted_exactly() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        one, other = (
            np.unique(rng.integers(0, 40, rng.integers(0, 30)).astype(np.uint64)) for _ in "ab"
        )
        assert n_shared(one, other) == len(set(one.tolist()) & set(other.tolist()))
    assert n_shared(rising(2**64 - 1), rising(2**64 - 1, 5)) == 1
    assert n_shared(rising(2**64 - 1), rising(2**64 - 2)) == 0
