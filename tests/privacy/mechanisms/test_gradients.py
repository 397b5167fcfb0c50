from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dpgen.privacy.mechanisms.gradients import BatchedLoss, engine_of, per_record_gradients

N_RECORDS, N_DRAWS = 4, 3


@pytest.fixture(autouse=True)
def reproducible() -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


class Net(nn.Module):
    """A convolution used twice, a norm, a layer that nobody calls."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(1, 4, 3, padding=1), nn.GroupNorm(2, 4)
        self.shared, self.idle = nn.Conv2d(4, 4, 3, padding=1), nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = x.to(self.first.weight.dtype)
        x = torch.nn.functional.silu(self.norm(self.first(x)))
        return self.shared(torch.tanh(self.shared(x)))


class WeightElsewhere(Net):
    """Uses a weight behind its layer's back: the layer's output does not tell."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * self.norm.weight.sum()


class Mixing(Net):
    """An output depends on the other records."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x - x.mean(0, keepdim=True))


class Turned(Net):
    """Hands a layer the rows of all records in another order."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(8, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = super().forward(x)
        return self.last(x.transpose(0, 2)).transpose(0, 2)


def loss(network: nn.Module, **more: Any) -> BatchedLoss:  # noqa: ANN401
    def record(call: Callable[..., Tensor], x: Tensor, draws: dict[str, Tensor]) -> Tensor:
        return call(x + draws["z"]).square().flatten(1).sum(1).mean()

    def batch(call: Callable[..., Tensor], x: Tensor, draws: dict[str, Tensor]) -> Tensor:
        found = call((x[:, None] + draws["z"]).flatten(0, 1)).square().flatten(1).sum(1)
        return found.reshape(-1, N_DRAWS).mean(1)

    return BatchedLoss(network, record, batch, **more)


def records(dtype: torch.dtype = torch.float32) -> tuple[Tensor, dict[str, Tensor]]:
    return (
        torch.randn(N_RECORDS, 1, 8, 8, dtype=dtype),
        {"z": torch.randn(N_RECORDS, N_DRAWS, 1, 8, 8, dtype=dtype)},
    )


def held(network: nn.Module) -> dict[str, Tensor]:
    return {name: p.detach() for name, p in network.named_parameters()}


def test_both_engines_find_the_same_gradients_with_draws_folded_in() -> None:
    network = Net().double()
    asked, batch = loss(network), records(torch.float64)
    assert engine_of(asked) == "layers"
    found = per_record_gradients(asked, held(network), batch)
    expected = per_record_gradients(lambda *given: asked(*given), held(network), batch)
    assert set(expected) - set(found) == {"idle.weight", "idle.bias"}
    for name, g in found.items():
        torch.testing.assert_close(g, expected[name], rtol=1e-9, atol=1e-12)
        assert g.shape == (N_RECORDS, *held(network)[name].shape)
    assert not expected["idle.weight"].any()


@pytest.mark.parametrize("network", [WeightElsewhere, Mixing, Turned])
def test_a_network_that_the_layers_do_not_tell_all_about_is_left_to_vmap(
    network: type[Net],
) -> None:
    """`Mixing` would let a record move the gradients of others; one record alone has no company."""
    built = network()
    asked, batch = loss(built), records()
    with pytest.warns(UserWarning, match="trained through vmap"):
        found = per_record_gradients(asked, held(built), batch)
    expected = per_record_gradients(lambda *given: asked(*given), held(built), batch)
    for name, g in expected.items():
        assert torch.equal(found[name], g)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # said once
        per_record_gradients(asked, held(built), batch)


def test_layers_that_are_not_known_and_shared_tensors_go_through_vmap() -> None:
    unknown = nn.Sequential(nn.Conv2d(1, 2, 3), nn.LayerNorm(6))
    assert engine_of(loss(unknown)) == "vmap"
    tied = nn.Sequential(nn.Conv2d(1, 1, 3, padding=1), nn.Conv2d(1, 1, 3, padding=1))
    tied[1].weight = tied[0].weight
    assert engine_of(loss(tied)) == "vmap"
    asked = loss(tied)
    found = per_record_gradients(asked, held(tied), records())
    assert set(found) == {"0.weight", "0.bias", "1.bias"}
    assert engine_of(lambda *given: asked(*given)) == "vmap"
    assert engine_of(BatchedLoss(Net(), asked._record, None)) == "vmap"


def test_in_half_precision_gradients_are_float32_and_near() -> None:
    network = Net()
    batch = records()
    full = per_record_gradients(loss(network), held(network), batch)
    half = per_record_gradients(loss(network, half=torch.bfloat16), held(network), batch)
    for name, g in full.items():
        assert half[name].dtype == torch.float32
        assert 0 < (half[name] - g).norm() < 0.05 * g.norm() + 1e-3


def test_nothing_is_left_on_the_network() -> None:
    network = Net()
    per_record_gradients(loss(network), held(network), records())
    assert all(p.requires_grad and p.grad is None for p in network.parameters())
    assert not any(layer._forward_hooks for layer in network.modules())
    with pytest.raises(RuntimeError):  # also where the loss falls over
        per_record_gradients(loss(network), held(network), (torch.ones(4, 2, 8, 8), records()[1]))
    assert not any(layer._forward_hooks for layer in network.modules())
