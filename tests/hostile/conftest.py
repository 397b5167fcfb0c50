"""A finished run that all of these tests share; who spoils it copies it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.hostile.run_formats import finished_run


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finished_run(tmp_path_factory.mktemp("finished") / "run")
