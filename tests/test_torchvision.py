"""Each test that changes what can be imported runs in a process of its own."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dpgen import _torchvision

ROOT = Path(__file__).parents[1]
INSTALLED = importlib.util.find_spec("torchvision") is not None

HIDE = """
import sys

class Hiding:
    '''A finder that does not know some packages.'''
    def __init__(self, finder):
        self.finder = finder
    def __getattr__(self, name):
        return getattr(self.finder, name)
    def find_spec(self, name, path=None, target=None):
        return None if name.split('.')[0] in hidden else self.finder.find_spec(name, path, target)

sys.meta_path[:] = [Hiding(finder) for finder in sys.meta_path]
"""

# Fails as the CUDA build does beside a CPU build of torch, until the operator is known.
BROKEN = """
import torch
torch._C._dispatch_has_kernel_for_dispatch_key("torchvision::nms", "Meta")
works = True
"""


def lines_of(program: str, *, path: Path = ROOT) -> list[str]:
    """What a fresh interpreter prints; ``path`` comes before everything installed."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(path), str(ROOT)])}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_networks_and_metrics_import_with_the_torchvision_of_this_machine() -> None:
    first, second, parameters, metrics = lines_of(
        "from dpgen._torchvision import repair\n"
        "print(repair()); print(repair())\n"
        "from diffusers import UNet2DModel\n"
        "import torch_fidelity\n"
        "print(sum(p.numel() for p in UNet2DModel(8, 1, 1, block_out_channels=(8, 8),"
        " down_block_types=('DownBlock2D',) * 2, up_block_types=('UpBlock2D',) * 2,"
        " norm_num_groups=4).parameters()))\n"
        "print(callable(torch_fidelity.calculate_metrics))"
    )
    if INSTALLED:
        assert first in ("ok", "repaired") and second == "ok"
    else:
        assert first == second == "stubbed"
    assert int(parameters) > 0
    assert metrics == "True"


def test_torchvision_with_missing_operators_is_repaired(tmp_path: Path) -> None:
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "__init__.py").write_text(BROKEN)
    answers = lines_of(
        "from dpgen._torchvision import repair\n"
        "print(repair()); print(repair())\n"
        "import torchvision\n"
        "print(torchvision.works)",
        path=tmp_path,
    )
    assert answers == ["repaired", "ok", "True"]


def test_the_stand_in_is_broken_without_repair(tmp_path: Path) -> None:
    # Otherwise the test above could not fail.
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "__init__.py").write_text(BROKEN)
    program = (
        "try:\n    import torchvision\nexcept RuntimeError as error:\n"
        "    print('torchvision::nms does not exist' in str(error))"
    )
    assert lines_of(program, path=tmp_path) == ["True"]


def test_another_fault_of_torchvision_is_not_hidden(tmp_path: Path) -> None:
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "__init__.py").write_text("raise RuntimeError('no such card')")
    program = (
        "from dpgen._torchvision import repair\n"
        "try:\n    repair()\nexcept RuntimeError as error:\n    print(error)"
    )
    assert lines_of(program, path=tmp_path) == ["no such card"]


def test_working_torchvision_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "__init__.py").write_text("works = True")
    program = (
        "import sys, torchvision\n"
        "from dpgen._torchvision import repair\n"
        "print(repair(), sys.modules['torchvision'] is torchvision)"
    )
    assert lines_of(program, path=tmp_path) == ["ok True"]


def test_metrics_import_without_torchvision_and_the_stand_in_is_gone() -> None:
    answers = lines_of(
        "hidden = {'torchvision'}" + HIDE + "from dpgen._torchvision import repair\n"
        "print(repair()); print(repair())\n"
        "import importlib.util, numpy as np, torch_fidelity\n"
        "from PIL import Image\n"
        "from torch_fidelity.datasets import Cifar10_RGB, TransformPILtoRGBTensor\n"
        "print(importlib.util.find_spec('torchvision'), 'torchvision' in sys.modules)\n"
        "picture = Image.fromarray(np.arange(24, dtype=np.uint8).reshape(2, 4, 3))\n"
        "print(TransformPILtoRGBTensor()(picture)[:, 1, 0].tolist())\n"
        "try:\n    Cifar10_RGB('.')\nexcept ImportError as error:\n    print(error)\n"
    )
    assert answers == [
        "stubbed",
        "stubbed",
        "None False",
        "[12, 13, 14]",
        "torchvision.datasets.CIFAR10 needs torchvision, which is not installed",
    ]


def test_nothing_is_done_when_neither_is_installed() -> None:
    program = (
        "hidden = {'torchvision', 'torch_fidelity'}" + HIDE + "before = set(sys.modules)\n"
        "from dpgen._torchvision import repair\n"
        "print(repair(), 'torch' in sys.modules)"
    )
    assert lines_of(program) == ["absent False"]


@pytest.mark.skipif(not INSTALLED, reason="torchvision is not installed: nothing to compare with")
@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 3)])
def test_stand_in_transforms_equal_those_of_torchvision(shape: tuple[int, ...]) -> None:
    _torchvision.repair()
    from torchvision.transforms import functional

    values = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    tensor = _torchvision._pil_to_tensor(Image.fromarray(values))
    assert torch.equal(tensor, functional.pil_to_tensor(Image.fromarray(values)))
    pixels = tensor.expand(3, -1, -1).float() / 255
    mean, std = [0.4, 0.5, 0.6], [0.2, 0.3, 0.4]
    torch.testing.assert_close(
        _torchvision._normalize(pixels, mean, std), functional.normalize(pixels, mean, std)
    )
