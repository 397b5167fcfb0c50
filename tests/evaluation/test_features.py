from __future__ import annotations

import hashlib
import pickle
import re
import urllib.error
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch

from dpgen._torchvision import repair
from dpgen.data.images import Images, to_float
from dpgen.evaluation import features
from dpgen.evaluation.features import ClassifierFeatures, classifier_features, inception
from dpgen.evaluation.utility import UtilityProtocol

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
    monkeypatch.setattr(features, "INCEPTION_SHA256", found)
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
    place = tmp_path / "checkpoints" / features.INCEPTION_FILE
    for part in (features.INCEPTION_URL, features.INCEPTION_SHA256, str(place)):
        assert part in str(refused.value)
    assert "--inception-weights FILE" in str(refused.value)
    assert "--features classifier" in str(refused.value)
    with pytest.raises(ValueError, match=r"must be a file, got .*nowhere\.pth: fetch https://"):
        inception(tmp_path / "nowhere.pth")


def test_a_download_is_checked_before_it_is_kept(
    random_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    kept = tmp_path / "checkpoints" / features.INCEPTION_FILE
    served = tmp_path / "served.pth"
    served.write_bytes(b"half a fi")
    monkeypatch.setattr(features, "INCEPTION_URL", served.as_uri())
    with pytest.raises(ValueError, match=hashlib.sha256(b"half a fi").hexdigest()):
        inception()
    assert not kept.exists()
    sha256 = accept(random_weights, monkeypatch)
    monkeypatch.setattr(features, "INCEPTION_URL", random_weights.as_uri())
    assert inception().sha256 == sha256
    assert kept.read_bytes() == random_weights.read_bytes()
    monkeypatch.setattr(features, "INCEPTION_URL", "file:///gone")
    assert inception().sha256 == sha256
    kept.write_bytes(b"later damage")
    with pytest.raises(ValueError, match=re.escape(f"{kept} must have SHA-256 {sha256}, got ")):
        inception()


def stripes(n: int, seed: int) -> Images:
    """Two classes told apart by the sign of the mean, under noise."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(2, (n,), generator=generator)
    noise = 40 * torch.randn(n, 1, 8, 8, generator=generator)
    pixels = (128 + 60 * (2 * labels[:, None, None, None] - 1) + noise).clamp(0, 255).byte()
    return Images(to_float(pixels), labels)


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    protocol = UtilityProtocol(n_steps=20, batch_size=16)
    monkeypatch.setattr(features, "CLASSIFIER", protocol)


def test_the_recipe_of_the_classifier_is_the_one_that_results_name() -> None:
    # Numbers of other recipes must not be compared: a change needs another name.
    recipe = asdict(features.CLASSIFIER)
    assert recipe | {"seed": features.CLASSIFIER_SEED} == recipe | {
        "network": "cnn",
        "n_steps": 1000,
        "batch_size": 128,
        "learning_rate": 2e-3,
        "weight_decay": 1e-2,
        "n_train": None,
        "seed": 0,
    }


@pytest.mark.usefixtures("short")
def test_the_classifier_is_one_for_the_same_images_and_has_learned_them() -> None:
    images = stripes(64, 0)
    before = torch.get_rng_state()
    first, second = classifier_features(images, 2), classifier_features(images, 2)
    assert torch.get_rng_state().equal(before)
    pixels = torch.arange(192, dtype=torch.uint8).reshape(3, 1, 8, 8)
    assert first(pixels).features.equal(second(pixels).features)
    assert first.sha256 == second.sha256 and first.recipe == second.recipe
    assert first.recipe["n_steps"] == 20 and first.recipe["n_images"] == 64
    fresh = stripes(100, 1)
    guesses = first(to_pixels(fresh)).logits.argmax(dim=1)
    assert (guesses == fresh.labels).sum() > 95


@pytest.mark.usefixtures("short")
def test_the_hash_of_the_classifier_covers_images_labels_and_weights() -> None:
    images = stripes(64, 0)
    pixels, labels = images.pixels.clone(), images.labels.clone()
    pixels[5, 0, 3, 3] += 2 / 255
    labels[7] = 1 - labels[7]
    networks = [
        classifier_features(images, 2),
        classifier_features(Images(pixels, images.labels), 2),
        classifier_features(Images(images.pixels, labels), 2),
        classifier_features(images, 3),
    ]
    assert len({network.sha256 for network in networks}) == 4
    recipes = [network.recipe["images_sha256"] for network in networks]
    assert len(set(recipes)) == 3 and recipes[0] == recipes[3]
    changed = classifier_features(images, 2)._module
    changed.head.bias[0] += 1
    same_recipe = networks[0].recipe
    assert ClassifierFeatures(changed, networks[0]._scale, same_recipe).sha256 != networks[0].sha256


@pytest.mark.usefixtures("short")
def test_features_of_the_classifier_have_mean_square_one_on_what_it_learned() -> None:
    images = stripes(600, 0)
    found = classifier_features(images, 2)(to_pixels(images))
    assert found.features.double().square().mean().item() == pytest.approx(1, abs=1e-6)
    assert found.features.shape == (600, 128) and found.logits.shape == (600, 2)


def to_pixels(images: Images) -> torch.Tensor:
    return ((images.pixels + 1) * 127.5).round().byte()


@pytest.mark.usefixtures("short")
def test_a_kept_classifier_is_the_trained_one_bit_for_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, pixels = stripes(64, 0), to_pixels(stripes(10, 1))
    trained = classifier_features(images, 2, cache=tmp_path)

    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(features, "train_classifier", refuse)
    before = torch.get_rng_state()
    kept = classifier_features(images, 2, cache=tmp_path)
    assert torch.get_rng_state().equal(before)
    assert kept.sha256 == trained.sha256
    assert kept(pixels).features.equal(trained(pixels).features)
    assert kept(pixels).logits.equal(trained(pixels).logits)
    with pytest.raises(AssertionError, match="trained again"):
        classifier_features(stripes(64, 2), 2, cache=tmp_path)


@pytest.mark.usefixtures("short")
def test_the_classifier_refuses_what_it_cannot_learn_or_read() -> None:
    images = stripes(64, 0)
    with pytest.raises(ValueError, match="n_classes must be at least 2 .* got 1: .* inception"):
        classifier_features(Images(images.pixels, 0 * images.labels), 1)
    network = classifier_features(images, 2)
    with pytest.raises(ValueError, match=r"\[1, 8, 8\], got \(5, 3, 8, 8\)"):
        network(torch.zeros(5, 3, 8, 8, dtype=torch.uint8))
