from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from dpgen.evaluation import features
from dpgen.evaluation.features import ClassifierFeatures, classifier_features
from dpgen.evaluation.utility import FEW_RECORDS, UtilityProtocol
from dpgen.images.images import Images, to_float

pytestmark = pytest.mark.usefixtures("one_thread")


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
    monkeypatch.setattr(features, "OF_FEW", protocol)


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
    # One training serves features and accuracy, as the recipes are the same.
    assert UtilityProtocol.of("cnn", FEW_RECORDS) == features.CLASSIFIER
    assert UtilityProtocol.of("cnn", FEW_RECORDS - 1) == features.OF_FEW


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
