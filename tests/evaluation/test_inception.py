from __future__ import annotations

import hashlib
import pickle
import re
import urllib.error
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from dpgen._torchvision import repair
from dpgen.evaluation import inception as published
from dpgen.evaluation.inception import inception

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def random_weights(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A file of random weights of the right shapes: the published ones are 91 MiB away."""
    repair()
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    folder = tmp_path_factory.mktemp("inception")
    torch.save({}, folder / "empty.pth")
    with pytest.MonkeyPatch.context() as patch, torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        patch.setattr(FeatureExtractorInceptionV3, "load_state_dict", lambda self, state: None)
        module = FeatureExtractorInceptionV3(
            "random", ["2048"], feature_extractor_weights_path=folder / "empty.pth"
        )
    torch.save(module.state_dict(), folder / "random.pth")
    yield folder / "random.pth"
    (folder / "random.pth").unlink()


def accept(path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setattr(published, "INCEPTION_SHA256", found)
    return found


def test_inception_is_the_networks_own_extractor_with_grey_repeated(
    random_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    direct = FeatureExtractorInceptionV3(
        "direct", ["2048", "logits_unbiased"], feature_extractor_weights_path=random_weights
    )
    sha256 = accept(random_weights, monkeypatch)
    before = torch.get_rng_state()
    network = inception(random_weights)
    assert torch.get_rng_state().equal(before)
    assert (network.name, network.sha256) == ("inception", sha256)
    grey = torch.randint(0, 256, (2, 1, 9, 7), generator=torch.Generator().manual_seed(0)).byte()
    for pixels, three in ((grey, grey.repeat(1, 3, 1, 1)), (grey[:1].repeat(1, 3, 1, 1),) * 2):
        found, expected = network(pixels), direct(three)
        assert found.features.equal(expected[0]) and found.features.shape[1] == 2048
        assert found.logits.equal(expected[1]) and found.logits.shape[1] == 1008
    assert not network(grey).features[0].equal(network(grey).features[1])
    with pytest.raises(ValueError, match=r"must be \(B, 1 or 3, H, W\), got \(1, 2, 4, 4\)"):
        network(torch.zeros(1, 2, 4, 4, dtype=torch.uint8))


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("exploded"),)


def test_a_wrong_weights_file_is_refused_by_both_hashes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "weights-inception-2015-12-05-6726825d.pth"
    path.write_bytes(pickle.dumps(Bomb()))
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(ValueError, match=f"must have SHA-256 6726825d[0-9a-f]{{56}}, got {found}"):
        inception(path)
    assert not Path("exploded").exists()


@pytest.mark.parametrize("legacy", [True, False])
def test_no_code_in_a_weights_file_is_run_whatever_its_hash(
    legacy: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "weights.pth"
    torch.save({"x": Bomb()}, path, _use_new_zipfile_serialization=not legacy)
    accept(path, monkeypatch)
    with pytest.raises(ValueError, match="must hold tensors only"):
        inception(path)
    assert not Path("exploded").exists()
    torch.load(path, weights_only=False)
    assert Path("exploded").exists(), "the bomb works"


def test_weights_of_another_network_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "weights.pth"
    torch.save({"x": torch.zeros(2)}, path)
    accept(path, monkeypatch)
    with pytest.raises(ValueError, match="must fit Inception V3"):
        inception(path)


def test_without_a_network_the_error_says_what_to_fetch_and_offers_the_classifier(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))

    def unreachable(*args: object, **kwargs: object) -> None:
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr("torch.hub.urlopen", unreachable)
    with pytest.raises(ValueError, match="no route to host") as refused:
        inception()
    place = tmp_path / "checkpoints" / published.INCEPTION_FILE
    for part in (published.INCEPTION_URL, published.INCEPTION_SHA256, str(place)):
        assert part in str(refused.value)
    assert "--inception-weights FILE" in str(refused.value)
    assert "--features classifier" in str(refused.value)
    with pytest.raises(ValueError, match=r"must be a file, got .*nowhere\.pth: fetch https://"):
        inception(tmp_path / "nowhere.pth")


def test_a_download_is_checked_before_it_is_kept(
    random_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    kept = tmp_path / "checkpoints" / published.INCEPTION_FILE
    served = tmp_path / "served.pth"
    served.write_bytes(b"half a fi")
    monkeypatch.setattr(published, "INCEPTION_URL", served.as_uri())
    with pytest.raises(ValueError, match=hashlib.sha256(b"half a fi").hexdigest()):
        inception()
    assert not kept.exists()
    sha256 = accept(random_weights, monkeypatch)
    monkeypatch.setattr(published, "INCEPTION_URL", random_weights.as_uri())
    assert inception().sha256 == sha256
    assert kept.read_bytes() == random_weights.read_bytes()
    monkeypatch.setattr(published, "INCEPTION_URL", "file:///gone")
    assert inception().sha256 == sha256
    kept.write_bytes(b"later damage")
    with pytest.raises(ValueError, match=re.escape(f"{kept} must have SHA-256 {sha256}, got ")):
        inception()
