from __future__ import annotations

from pathlib import Path

import pytest

from dpgen.privacy.ledger.chain import LedgerError
from dpgen.privacy.lineage.keys import StageKeys


def first_coins(keys: StageKeys, plan: str) -> list[int]:
    return keys.noise(plan).coins(1000, 0.5, release=0).tolist()


def test_a_key_is_drawn_once_and_comes_back_after_a_kill(tmp_path: Path) -> None:
    keys = StageKeys(tmp_path / "keys")
    keys.create("plan")
    first = first_coins(keys, "plan")
    keys.create("plan")
    assert first_coins(keys, "plan") == first
    again = StageKeys(tmp_path / "keys")
    again.create("plan")
    assert first_coins(again, "plan") == first


def test_two_stages_and_two_runs_have_keys_of_their_own(tmp_path: Path) -> None:
    one, two = StageKeys(tmp_path / "one"), StageKeys(tmp_path / "two")
    for keys, plan in ((one, "a"), (one, "b"), (two, "a")):
        keys.create(plan)
    files = [p.read_bytes() for p in sorted(tmp_path.rglob("*.key"))]
    assert len(set(files)) == 3
    assert first_coins(one, "a") != first_coins(two, "a")


def test_a_stage_whose_key_is_gone_is_refused(tmp_path: Path) -> None:
    keys = StageKeys(tmp_path / "keys")
    with pytest.raises(LedgerError, match="key of this stage is gone"):
        keys.noise("plan")
    keys.create("plan")
    keys.forget("plan")
    keys.forget("plan")
    assert not list(tmp_path.rglob("*.key"))
    with pytest.raises(LedgerError, match="key of this stage is gone"):
        keys.noise("plan")


@pytest.mark.parametrize("content", [b"", bytes(31), bytes(33)])
def test_a_damaged_key_is_refused(content: bytes, tmp_path: Path) -> None:
    keys = StageKeys(tmp_path / "keys")
    keys.create("plan")
    (tmp_path / "keys" / "plan.key").write_bytes(content)
    with pytest.raises(LedgerError, match="damaged"):
        keys.noise("plan")


def test_keys_serve_one_owner(tmp_path: Path) -> None:
    StageKeys(tmp_path / "keys").bind("run on data")
    StageKeys(tmp_path / "keys").bind("run on data")
    for other in ("run on other data", "other run on data", ""):
        with pytest.raises(LedgerError, match="begun on other data"):
            StageKeys(tmp_path / "keys").bind(other)
        with pytest.raises(LedgerError, match="begun on other data"):
            StageKeys(tmp_path / "keys").check(other)
    StageKeys(tmp_path / "keys").check("run on data")


def test_checking_an_owner_ties_nothing(tmp_path: Path) -> None:
    keys = StageKeys(tmp_path / "keys")
    keys.check("one")
    keys.check("two")
    keys.bind("three")
    with pytest.raises(LedgerError, match="begun on other data"):
        keys.check("one")


def test_nobody_else_can_read_a_key(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir(mode=0o755)
    keys = StageKeys(tmp_path / "keys")
    keys.create("plan")
    keys.bind("owner")
    assert (tmp_path / "keys").stat().st_mode & 0o777 == 0o700
    for path in (tmp_path / "keys").iterdir():
        assert path.stat().st_mode & 0o077 == 0, path
