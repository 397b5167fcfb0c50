"""Small tensors: one thread."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def surroundings(one_thread: None) -> None:
    """See `tests/conftest.py`."""
