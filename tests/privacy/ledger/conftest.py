"""An installation whose prices count releases, for the tests of several ledgers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.privacy.installation import Installation, price_by_count

Kit = Any  # what conftest.py shares


@pytest.fixture
def here(
    kit: Kit, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> Installation:
    price_by_count(monkeypatch)
    return Installation(kit, tmp_path)
