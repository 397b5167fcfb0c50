"""Images that are fitted to mean embeddings have them; what is left is the squared discrepancy."""

from __future__ import annotations

import pytest
import torch

from dpgen.networks.condensed import Condensed, CondensedConfig
from dpgen.networks.fixed.fourier import FourierFeatures
from dpgen.training import condensation
from dpgen.training.condensation import Changes, Target, condense, discrepancy

PHI = FourierFeatures(16, 60, (1.0,))


def _fitted(network: Condensed, pixels: torch.Tensor, n_steps: int = 80) -> None:
    condense(
        network,
        [Target(PHI, PHI(pixels).double(), torch.ones(120))],
        name="set",
        n_steps=n_steps,
        learning_rate=0.2,
        smooth=0.0,
        changes=Changes(),
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
