"""256x256 RGB from a folder to samples, through the public interface, one record at a time."""

from __future__ import annotations

import resource
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dpgen import DPSAD, PGE, Budget, DPSADSettings, Hardware, PGESettings, open_images
from dpgen.generator.interface import PrivateGenerator
from dpgen.generator.sampler_settings import SamplerSettings
from dpgen.stages.teacher import TeacherSettings
from dpgen.training.distillation import Distillation

TEACHER = TeacherSettings(n_steps=2, n_draws=2, batch=2, warm_start_share=0.5)
BUDGET = Budget(1.0, 1e-3)
METHODS = {
    "pge": lambda: PGE(
        budget=BUDGET,
        settings=PGESettings(teacher=TEACHER, sampler=SamplerSettings(name="heun", n_steps=2)),
    ),
    "dp-sad": lambda: DPSAD(
        budget=BUDGET,
        settings=DPSADSettings(
            teacher=TEACHER,
            student=Distillation(n_steps=2, n_iterations=2, pool_size=2, batch_size=1),
        ),
    ),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Eight pictures of two classes."""
    rng = np.random.default_rng(0)
    for i in range(8):
        place = tmp_path / "pictures" / "ab"[i % 2]
        place.mkdir(parents=True, exist_ok=True)
        coarse = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(coarse.repeat(32, 0).repeat(32, 1)).save(place / f"{i}.png")
    return tmp_path / "pictures"


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_large_colour_images_are_learned_and_sampled(
    method: str,
    folder: Path,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    generator: PrivateGenerator = METHODS[method]()
    generator.fit(
        open_images(folder), out=tmp_path / "run", seed=1, hardware=Hardware("cpu", micro_batch=1)
    )
    config = generator.networks["model"].config
    # Six levels; attention where the side is 16 and 8.
    assert (config.shape, len(config.block_out_channels)) == ((3, 256, 256), 6)
    assert config.attention_levels == (4, 5)
    images = generator.sample(2, generator=torch.Generator().manual_seed(0))
    assert images.pixels.shape == (2, 3, 256, 256) and images.labels.tolist() == [0, 1]
    # Two classes of another mean: the released Gaussian tells them apart.
    assert (images.pixels[0] - images.pixels[1]).abs().mean() > 0.01
    assert generator.privacy["guarantee"]["epsilon"] <= 1.0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    record_property("peak_memory_mib", peak // 1024)
