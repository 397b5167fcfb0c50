"""What a run or an evaluation keeps for itself, spoiled: refused by name, never half taken."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from dpgen.evaluation.extraction import Statistics, reference_statistics
from dpgen.evaluation.feature_cache import FeatureCache, sha256_of
from dpgen.runs.checkpoint import Checkpoints, TrainingState

pytestmark = pytest.mark.usefixtures("one_thread")


def test_a_checkpoint_of_another_loop_is_refused(tmp_path: Path) -> None:
    def state(width: int) -> TrainingState:
        module = torch.nn.Linear(width, 1)
        optimizer = torch.optim.Adam(module.parameters())
        module(torch.ones(width)).backward()
        optimizer.step()
        return TrainingState({"m": module}, {"o": optimizer}, {"g": torch.Generator()})

    small, checkpoints = state(2), Checkpoints(tmp_path)
    checkpoints.save("a", small.tensors(), step=1)
    held = checkpoints.load("a")
    assert held is not None
    small.load(held[0])
    for spoil in (
        lambda t: t.pop("generator.g"),
        lambda t: t.pop("module.m.bias"),
        lambda t: t.update({"generator.g": torch.zeros(3)}),
        lambda t: t.update({"optimizer.o.x.step": torch.zeros(())}),
        lambda t: t.update({"module.m.other": torch.zeros(())}),
    ):
        tensors = dict(held[0])
        spoil(tensors)
        with pytest.raises(ValueError, match="tensors of this training.*new run folder"):
            small.load(tensors)
    with pytest.raises(ValueError, match="must hold the tensors of this training"):
        state(3).load(held[0])


@pytest.mark.parametrize("numbers", ["[]", "3", '{"step": "1"}', '{"step": 1.5}', '{"step": null}'])
def test_the_numbers_of_a_checkpoint_are_a_table_with_a_whole_step(
    tmp_path: Path, numbers: str
) -> None:
    save_file({"x": torch.zeros(1)}, tmp_path / "a.safetensors", metadata={"numbers": numbers})
    with pytest.raises(ValueError, match="checkpoint .* is damaged .*its step a whole number"):
        Checkpoints(tmp_path).load("a")


def test_cached_statistics_of_other_names_are_refused(tmp_path: Path) -> None:
    pixels = torch.zeros(2, 1, 8, 8, dtype=torch.uint8)
    network: Any = SimpleNamespace(sha256="ab")
    identity = {"network": "ab", "pixels": sha256_of(pixels)}
    kept = {name: torch.zeros(2, 2) for name in Statistics._fields}
    FeatureCache(tmp_path).save(identity, kept)
    assert torch.equal(reference_statistics(network, pixels, cache=tmp_path).mean, kept["mean"])
    for other in (kept | {"more": torch.zeros(1)}, {"mean": torch.zeros(2)}, {}):
        FeatureCache(tmp_path).save(identity, other)
        with pytest.raises(ValueError, match="must hold features, mean, covariance, got"):
            reference_statistics(network, pixels, cache=tmp_path)
