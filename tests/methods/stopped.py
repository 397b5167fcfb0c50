"""Runs that stop at a checkpoint, and the comparison with a run that nothing stopped."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from dpgen.generator.interface import PrivateGenerator
from dpgen.runs.checkpoint import Checkpoints


class Stopped(Exception):
    """The machine went down."""


def stop_after(patch: pytest.MonkeyPatch, due: Callable[[list[str]], bool]) -> list[str]:
    """Stops a run after a checkpoint; returns the names of all that were saved, in order.

    Args:
        due: whether to stop when these were saved.
    """
    write, saved = Checkpoints.save, list[str]()

    def save(states: Checkpoints, name: str, *rest: Any, **numbers: Any) -> None:  # noqa: ANN401
        write(states, name, *rest, **numbers)
        saved.append(name)
        if due(saved):
            raise Stopped

    patch.setattr(Checkpoints, "save", save)
    return saved


def assert_same_networks(one: PrivateGenerator, other: PrivateGenerator) -> None:
    """Asserts that two runs have come to the same networks, bit for bit."""
    assert one.networks.keys() == other.networks.keys()
    for name, network in one.networks.items():
        left, right = network.state_dict(), other.networks[name].state_dict()
        assert left.keys() == right.keys(), name
        assert all(torch.equal(left[key], right[key]) for key in left), name
