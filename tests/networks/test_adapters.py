"""Adapters: an adapted network begins as it was, only adapters move, and a merged one is the same.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch

from dpgen.networks.adapters import AdaptedLinear, adapted, merged, rank_of
from dpgen.networks.denoiser import Denoiser, DenoiserConfig
from dpgen.privacy.mechanisms.draws import KEY_BYTES, Draws
from dpgen.privacy.mechanisms.gradients import engine_of, per_record_gradients
from dpgen.stages.denoising import DenoisingObjective
from dpgen.training.denoising import NoiseLevels

pytestmark = pytest.mark.usefixtures("one_thread")
CONFIG = DenoiserConfig((1, 8, 8), 2, (8, 16), 1, (1,), 4, prior_bands=3)


@pytest.fixture
def denoiser() -> Denoiser:
    """A network that has learned: no weight is zero."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = Denoiser(CONFIG)
        for parameter in network.parameters():
            torch.nn.init.normal_(parameter, std=0.1)
    return network


def adapted_of(denoiser: Denoiser, rank: int = 2) -> Denoiser:
    return adapted(denoiser, rank, torch.Generator().manual_seed(1))


def moved(network: Denoiser) -> None:
    """Moves everything that can be trained."""
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)


def images(network: Denoiser) -> torch.Tensor:
    x = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        return network(x, torch.tensor([0.1, 1.0, 9.0]), torch.tensor([0, 1, 2]))


def test_an_adapted_network_begins_as_it_was_and_the_first_one_is_not_touched(
    denoiser: Denoiser,
) -> None:
    before = {name: tensor.clone() for name, tensor in denoiser.state_dict().items()}
    network = adapted_of(denoiser)
    assert torch.equal(images(network), images(denoiser))
    n_layers = sum(isinstance(one, AdaptedLinear) for one in network.modules())
    assert (n_layers, rank_of(network), rank_of(denoiser)) == (16, 2, 0)
    moved(network)
    assert all(torch.equal(before[name], t) for name, t in denoiser.state_dict().items())


def test_only_adapters_classes_and_the_last_convolution_are_parameters(denoiser: Denoiser) -> None:
    network = adapted_of(denoiser)
    names = {name.split(".")[-2] for name, _ in network.named_parameters()}
    assert names == {"down", "up", "class_embedding", "conv_out"}
    n_trained = sum(p.numel() for p in network.parameters())
    # Four layers of 16 channels in each of four attention blocks; three rows of 32; 3x3 of 8, + 1.
    assert n_trained == 16 * 2 * 2 * 16 + 3 * 32 + 9 * 8 + 1
    moved(network)
    for name, tensor in network.state_dict().items():
        if name in denoiser.state_dict() and name not in dict(network.named_parameters()):
            assert torch.equal(tensor, denoiser.state_dict()[name]), name


def test_a_merged_network_computes_what_the_adapted_one_does(denoiser: Denoiser) -> None:
    network, plain = adapted_of(denoiser), Denoiser(CONFIG)
    moved(network)
    plain.load_state_dict(merged(network))
    apart = (images(plain) - images(network)).abs().max()
    assert apart < 1e-5 < 1e-2 < (images(denoiser) - images(network)).abs().max()


def test_both_engines_find_the_gradients_of_adapters_and_no_others(denoiser: Denoiser) -> None:
    network = adapted_of(denoiser)
    moved(network)
    objective = DenoisingObjective(network, NoiseLevels(n_draws=2))
    assert engine_of(objective.loss) == "layers"
    draws = objective.draw(Draws(bytes(KEY_BYTES), np.arange(3), torch.device("cpu")))
    pixels = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(4)) * 2 - 1
    batch = (pixels, torch.tensor([0, 1, 1]), draws)
    parameters = {name: p.detach() for name, p in network.named_parameters()}
    assert objective.loss.gradients(parameters, *batch) is not None  # agrees with vmap in float64
    found = per_record_gradients(objective.loss, parameters, batch)
    expected = per_record_gradients(lambda *given: objective.loss(*given), parameters, batch)
    assert found.keys() == expected.keys() == parameters.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-3, atol=1e-5)
        # And with the gradient of each record alone.
    for k, _ in pairwise(range(4)):
        alone = torch.func.grad(lambda w, *row: objective.loss(w, *row))(
            parameters, pixels[k], batch[1][k], {name: t[k] for name, t in draws.items()}
        )
        for name, gradient in alone.items():
            torch.testing.assert_close(found[name][k], gradient, rtol=1e-3, atol=1e-5)


def test_a_rank_that_saves_nothing_and_a_network_without_attention_are_refused(
    denoiser: Denoiser,
) -> None:
    for rank in (0, 16):
        with pytest.raises(ValueError, match=r"a rank from 1 to 15, below the 16 channels"):
            adapted_of(denoiser, rank)
    with pytest.raises(ValueError, match="this network has none"):
        adapted_of(Denoiser(DenoiserConfig((1, 8, 8), 2, (8, 16), 1, (), 4)), 2)
