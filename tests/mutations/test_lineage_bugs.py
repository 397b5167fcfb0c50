"""Bugs of the lineage are caught, and nothing is accused without one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mutations.bug import Bug
from tests.mutations.lineage_bugs import BUGS
from tests.mutations.lineage_detectors import LINEAGE


@pytest.fixture(autouse=True)
def cheap(remembering_accountant: None) -> None:
    """The price of the one plan is asked for once."""


@pytest.mark.parametrize("name", LINEAGE)
def test_without_a_bug_nothing_is_accused(name: str, tmp_path: Path) -> None:
    assert LINEAGE[name](tmp_path) == ""


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_a_bug_is_caught(bug: Bug, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bug.inject(monkeypatch)
    seen = {}
    for name, detector in LINEAGE.items():
        (tmp_path / name).mkdir()
        seen[name] = detector(tmp_path / name)
    assert any(seen.values())
