from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from dpgen.evaluation import features
from dpgen.evaluation.extraction import extract, reference_statistics, statistics
from dpgen.evaluation.features import Extracted, classifier_features
from dpgen.evaluation.fidelity import FidelityProtocol, fidelity
from dpgen.evaluation.utility import UtilityProtocol
from dpgen.images.images import Images, to_float

pytestmark = pytest.mark.usefixtures("one_thread")


class Sums:
    """The mean pixel of each row, then of each column, and remembers the batches it was given."""

    name = "sums"

    def __init__(self, sha256: str = "00") -> None:
        self.sha256 = sha256
        self.recipe: Mapping[str, Any] = {}
        self.batches: list[Tensor] = []

    def __call__(self, pixels: Tensor) -> Extracted:
        self.batches.append(pixels)
        x = pixels.float()
        return Extracted(x.mean(dim=3).flatten(1), x.mean(dim=2).flatten(1) / 255)


def noise(n: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (n, 1, 4, 4), generator=generator, dtype=torch.uint8)


def test_features_come_in_the_order_of_the_images() -> None:
    pixels, network = noise(150, 0), Sums()
    found = extract(network, pixels)
    assert found.features.equal(pixels.float().mean(dim=3).flatten(1))
    assert found.logits.equal(pixels.float().mean(dim=2).flatten(1) / 255)
    assert torch.cat(network.batches).equal(pixels) and len(network.batches) == 3
    assert found.features.is_contiguous() and found.logits.is_contiguous()


def test_features_that_are_no_numbers_are_refused() -> None:
    class Broken(Sums):
        def __call__(self, pixels: Tensor) -> Extracted:
            found = super().__call__(pixels)
            return Extracted(found.features / (found.features[:, :1] - 7), found.logits)

    pixels = noise(150, 0)
    pixels[140, 0, 0] = 7
    with pytest.raises(ValueError, match="features of sums must be finite"):
        extract(Broken(), pixels)


def test_the_cache_saves_the_work_and_changes_no_bit(tmp_path: Path) -> None:
    pixels = noise(100, 0)
    direct = reference_statistics(Sums(), pixels)
    first = reference_statistics(Sums(), pixels, cache=tmp_path)
    idle = Sums()
    second = reference_statistics(idle, pixels, cache=tmp_path)
    assert not idle.batches
    for found in (first, second):
        assert all(a.equal(b) for a, b in zip(found, direct, strict=True))
    assert direct.mean.equal(statistics(extract(Sums(), pixels).features).mean)


def test_the_cache_goes_by_content_of_images_and_network(tmp_path: Path) -> None:
    pixels = noise(100, 0)
    reference_statistics(Sums(), pixels, cache=tmp_path)
    changed = pixels.clone()
    changed[99, 0, 3, 3] ^= 1
    for network, images in ((Sums("01"), pixels), (Sums(), changed), (Sums(), pixels.flip(0))):
        found = reference_statistics(network, images, cache=tmp_path)
        assert network.batches
        assert found.features.equal(extract(Sums(), images).features)
    assert len(list(tmp_path.iterdir())) == 4


def test_a_damaged_cache_is_computed_anew(tmp_path: Path) -> None:
    pixels = noise(100, 0)
    direct = reference_statistics(Sums(), pixels, cache=tmp_path)
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-1] + b"\x00")
    network = Sums()
    with pytest.warns(UserWarning, match="is damaged"):
        found = reference_statistics(network, pixels, cache=tmp_path)
    assert network.batches and found.covariance.equal(direct.covariance)
    again = Sums()
    reference_statistics(again, pixels, cache=tmp_path)
    assert not again.batches


TWO_PROCESSES = """
import json, sys
from pathlib import Path

import torch
from accelerate import Accelerator

from dpgen.images.images import Images, to_float
from dpgen.evaluation import features
from dpgen.evaluation.fidelity import FidelityProtocol, fidelity
from dpgen.evaluation.utility import UtilityProtocol

torch.set_num_threads(1)
folder = Path(sys.argv[1])
accelerator = Accelerator(cpu=True)
rank = accelerator.process_index
features.OF_FEW = UtilityProtocol(n_steps=10, batch_size=16)
train = features.train_classifier
# A process on another processor trains another network from the same images.
features.train_classifier = lambda *a, seed, **k: train(*a, seed=seed + rank, **k)


def images(n, seed):
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (n, 1, 8, 8), generator=generator, dtype=torch.uint8)
    return Images(to_float(pixels), torch.arange(n) % 3)


network = features.classifier_features(images(40, 0), 3, accelerator=accelerator)
calls = []
forward = features.ClassifierFeatures.__call__


def counted(self, pixels):
    calls.append(len(pixels))
    return forward(self, pixels)


features.ClassifierFeatures.__call__ = counted
protocol = FidelityProtocol(n_kid_subsets=3)
ours, real = images(230, 1), images(150, 2)
found = [
    fidelity(ours, real, network, protocol, accelerator=accelerator, cache=cache)
    for cache in (None, folder / "cache", folder / "cache")
]
try:
    # Only the second process has the file: neither may wait for the other.
    alone = folder / f"cache{rank}"
    if rank == 1:
        alone = folder / "cache"
    found.append(fidelity(ours, real, network, protocol, accelerator=accelerator, cache=alone))
    fidelity(images(230, rank), real, network, protocol, accelerator=accelerator)
    refused = ""
except ValueError as error:
    refused = str(error)
(folder / f"{rank}.json").write_text(
    json.dumps({"found": [f.to_dict() for f in found], "refused": refused, "calls": calls})
)
accelerator.wait_for_everyone()
accelerator.end_training()
"""


def test_two_processes_find_what_one_finds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "script.py"
    script.write_text(TWO_PROCESSES)
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = subprocess.run(
        [sys.executable, *launch, str(script), str(tmp_path)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    monkeypatch.setattr(features, "OF_FEW", UtilityProtocol(n_steps=10, batch_size=16))

    def images(n: int, seed: int) -> Images:
        generator = torch.Generator().manual_seed(seed)
        pixels = torch.randint(0, 256, (n, 1, 8, 8), generator=generator, dtype=torch.uint8)
        return Images(to_float(pixels), torch.arange(n) % 3)

    network = classifier_features(images(40, 0), 3)
    alone = fidelity(images(230, 1), images(150, 2), network, FidelityProtocol(n_kid_subsets=3))
    expected = json.loads(json.dumps(alone.to_dict()))
    for rank in (0, 1):
        found = json.loads((tmp_path / f"{rank}.json").read_text())
        assert found["found"] == 4 * [expected]
        assert "2 processes must compare the same images" in found["refused"]
        # 4 batches of synthetic images in 2 rounds; 3 of the reference, the last of them done by
        # both. The third time the reference is in the cache, the fourth in that of one process.
        ours, real = [64, (64, 38)[rank]], [64, 22]
        assert found["calls"] == 2 * (real + ours) + ours + real + ours
