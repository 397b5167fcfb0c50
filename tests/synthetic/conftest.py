"""A finished run, drawn from by all tests of this folder, and the modules that processes load."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from dpgen.data.private import PrivateDataset
from dpgen.data.sources import open_source
from dpgen.generator import drawing
from dpgen.images.images import Images
from dpgen.methods.dpdm import DPDM, DPDMSettings
from dpgen.networks.denoiser_config import PRESETS, Preset
from dpgen.privacy.accounting.accountant import Budget
from dpgen.runs.context import Hardware
from dpgen.stages.teacher import TeacherSettings
from tests.images.test_fair_classes import CLASSES

HERE = str(Path(__file__).parent)
if HERE not in sys.path:
    sys.path.append(HERE)


def small_run(folder: Path, classes: int | list[str]) -> Path:
    """A run on public noise, which draws an 8x8 image of one of these classes in one step."""
    n_classes = classes if isinstance(classes, int) else len(classes)
    pixels = torch.rand(30, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    source = open_source(Images(pixels, torch.arange(30) % n_classes), classes=classes)
    teacher = TeacherSettings(
        warm_start_share=0.5, n_steps=1, n_draws=1, batch=10, bands=3, clip_norm=0.05
    )
    settings = DPDMSettings(teacher=teacher, sampling_steps=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PRESETS, "tiny", Preset((8,), 1, 4, 99, 0, "tests"))
        patch.setattr(drawing, "BLOCK", 32)
        method = DPDM(budget=Budget(0.3, 1e-3), settings=settings)
        data = PrivateDataset(source, public=True)
        method.fit(data, out=folder, seed=0, hardware=Hardware("cpu"))
    return folder


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three classes."""
    return small_run(tmp_path_factory.mktemp("drawn") / "run", 3)


@pytest.fixture(scope="session")
def grouped_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two targets in two groups."""
    return small_run(tmp_path_factory.mktemp("grouped") / "run", list(CLASSES))
