"""Images that are fitted to mean embeddings have them; what is left is the squared discrepancy."""

from __future__ import annotations

import math

import pytest
import torch

from dpgen.networks.condensed import Condensed, CondensedConfig
from dpgen.networks.fixed.fourier import FourierFeatures
from dpgen.training import condensation
from dpgen.training.condensation import Changes, Smooth, Target, blur, condense, discrepancy

PHI = FourierFeatures(16, 60, (1.0,))
NONE = Changes()


def _fitted(
    network: Condensed, pixels: torch.Tensor, n_steps: int = 80, changes: Changes = NONE
) -> None:
    condense(
        network,
        [Target(PHI, PHI(pixels).double(), torch.ones(120))],
        name="set",
        n_steps=n_steps,
        learning_rate=0.2,
        smooth=0.0,
        changes=changes,
        generator=torch.Generator().manual_seed(0),
        device=torch.device("cpu"),
        checkpoints=None,
        show=False,
    )


def test_the_loss_is_the_weighted_squared_distance_of_mean_embeddings() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(3, 5, 4, generator=generator, dtype=torch.float64)
    means = torch.randn(3, 4, generator=generator, dtype=torch.float64)
    weights = torch.tensor([1.0, 0.5, 0.0, 2.0]).double()
    expected = sum(
        float(((f.mean(0) - mean) ** 2 * weights).sum())
        for f, mean in zip(features, means, strict=True)
    )
    assert float(discrepancy(features, means, weights)) == pytest.approx(expected / 3, rel=1e-12)


def test_a_condensed_set_comes_near_the_embeddings_and_so_the_images_that_it_was_given() -> None:
    """Two classes, bright on the left and bright above: the images of a class meet its mean
    embedding, and those of the other class do not.
    """
    left = torch.full((1, 4, 4), -0.9)
    left[..., :2] = 0.9
    pixels = torch.stack([left, left.mT])
    phi, ones = PHI, torch.ones(120)
    network = Condensed(CondensedConfig((1, 4, 4), 2, images_per_class=3))
    _fitted(network, pixels)
    with torch.no_grad():
        images = network()
        found = phi(images.flatten(0, 1)).unflatten(0, (2, 3))
    assert float(discrepancy(found, phi(pixels), ones)) < 0.02
    assert float(discrepancy(found, phi(pixels.flip(0)), ones)) > 0.2
    assert float((images - pixels[:, None]).abs().mean()) < 0.2


def test_images_that_are_seen_in_parts_are_those_that_are_seen_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pixels = torch.rand(2, 1, 4, 4, generator=torch.Generator().manual_seed(1)) * 2 - 1
    whole, parted = (Condensed(CondensedConfig((1, 4, 4), 2, 5)) for _ in range(2))
    _fitted(whole, pixels, 5)
    monkeypatch.setattr(condensation, "PART", 3)
    _fitted(parted, pixels, 5)
    assert torch.allclose(whole.weights, parted.weights, atol=1e-5)


def test_blurred_noise_has_variance_one_and_neighbours_as_alike_as_a_gaussian_makes_them() -> None:
    """The overlap of two Gaussians of deviation w at a distance of one is exp(-1 / (4 w^2))."""
    for side, width in ((28, 1.0), (28, 1.5)):
        covariance = blur(side, width) @ blur(side, width).T
        assert torch.allclose(covariance.diagonal(), torch.ones(side), atol=1e-6)
        middle = side // 2
        assert float(covariance[middle, middle + 1]) == pytest.approx(
            math.exp(-1 / (4 * width**2)), abs=2e-3
        )
    assert torch.equal(blur(5, 0.0), torch.eye(5))


def test_weights_are_blurred_along_rows_and_columns_by_the_shorter_side() -> None:
    smooth = Smooth((1, 1, 1, 6, 9), 0.2)
    generator = torch.Generator().manual_seed(0)
    smooth.begin(generator)
    held = smooth.numbers.detach()[0, 0, 0]
    expected = blur(6, 1.2) @ held @ blur(9, 1.2).T - 1
    assert torch.allclose(smooth().detach()[0, 0, 0], expected, atol=1e-6)
    bare = Smooth((1, 1, 1, 6, 9), 0.0)
    bare.begin(torch.Generator().manual_seed(0))
    assert torch.allclose(bare().detach()[0, 0, 0], held - 1)


class Flipped(Changes):
    """Exchanges left and right of every image."""

    def __call__(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return images.flip(-1)


def test_an_image_that_every_other_step_sees_changed_stands_for_both() -> None:
    """One image alone, of a class that is bright on the left, comes half way to its mirror image.
    """
    left = torch.full((1, 1, 4, 4), -0.9)
    left[..., :2] = 0.9
    sides = []
    for changes in (NONE, Flipped()):
        network = Condensed(CondensedConfig((1, 4, 4), 1, images_per_class=1))
        _fitted(network, left, 60, changes)
        image = network()[0, 0].detach()
        sides.append(float((image - image.flip(-1)).abs().mean()))
    assert sides[0] > 1.5 and sides[1] < sides[0] / 2
