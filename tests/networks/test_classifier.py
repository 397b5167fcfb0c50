from __future__ import annotations

import pytest
import torch

from dpgen.networks.classifier import MLP, Classifier


@pytest.mark.parametrize("shape", [(1, 4, 4), (1, 8, 8), (1, 28, 28), (3, 33, 47), (3, 64, 64)])
@pytest.mark.parametrize("network", [Classifier, MLP])
def test_logits_are_a_linear_layer_on_the_features(
    network: type[Classifier] | type[MLP], shape: tuple[int, int, int]
) -> None:
    module = network(shape, 7, width=8)
    x = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
    logits = module(x)
    assert logits.shape == (2, 7)
    torch.testing.assert_close(module.head(module.features(x)), logits)


@pytest.mark.parametrize("network", [Classifier, MLP])
def test_train_and_eval_mode_agree(network: type[Classifier] | type[MLP]) -> None:
    module = network((1, 8, 8), 3, width=8)
    x = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(module.train()(x), module.eval()(x))


@pytest.mark.parametrize("network", [Classifier, MLP])
def test_wrong_shapes_and_numbers_are_refused(network: type[Classifier] | type[MLP]) -> None:
    with pytest.raises(ValueError, match=r"x must have shape \(B, 1, 8, 8\), got \(4, 1, 8, 9\)"):
        network((1, 8, 8), 3)(torch.zeros(4, 1, 8, 9))
    with pytest.raises(ValueError, match="n_classes must be at least 1"):
        network((1, 8, 8), 0)
    with pytest.raises(ValueError, match="shape must be"):
        network((0, 8, 8), 3)
    with pytest.raises(ValueError, match="width must be"):
        network((1, 8, 8), 3, width=0)


def test_images_too_small_to_halve_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 4, got 3x8"):
        Classifier((1, 3, 8), 3)
