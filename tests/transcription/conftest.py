"""Every test here runs on one thread, in an installation of its own, with accountants that
remember and a small network.
"""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def surroundings(
    one_thread: None,
    home: None,
    remembering_accountant: None,
    remembered_axes: None,
    small_network: None,
) -> None:
    """What `tests/conftest.py` makes, for every test of this folder."""
