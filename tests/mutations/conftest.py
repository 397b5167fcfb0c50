"""Surroundings of a mutation, and the option that writes the table."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--write-table", action="store_true", help="write assets/mutations.md from this run"
    )


@pytest.fixture(autouse=True)
def surroundings(one_thread: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """One thread, and public randomness that no test has moved."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield
