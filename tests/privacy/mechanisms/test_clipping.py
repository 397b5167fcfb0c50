from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from dpgen.privacy.mechanisms.clipping import MARGIN, add_clipped, clip_factors, zero_sum


@pytest.fixture(scope="module")
def network() -> nn.Module:
    """Convolution, GroupNorm, a reused layer: what a private network is made of."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        shared = nn.Conv2d(4, 4, 3, padding=1)
        return nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), nn.GroupNorm(2, 4), nn.SiLU(), shared, nn.SiLU(), shared
        )


def loss_of(network: nn.Module) -> Any:  # noqa: ANN401
    def loss(parameters: dict[str, Tensor], pixels: Tensor, label: Tensor) -> Tensor:
        return (functional_call(network, parameters, (pixels[None],)) - label).square().sum()

    return loss


def batch(n: int = 6, seed: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randn(n, 1, 8, 8, generator=generator)
    return pixels, torch.randint(3, (n,), generator=generator).float()


def clipped(
    network: nn.Module, records: tuple[Tensor, Tensor], valid: Tensor, clip_norm: float
) -> dict[str, Tensor]:
    parameters = {name: p.detach() for name, p in network.named_parameters()}
    total = zero_sum(parameters)
    add_clipped(total, loss_of(network), parameters, records, valid, clip_norm)
    return total


def norm(total: dict[str, Tensor]) -> float:
    return math.sqrt(sum(float(t.square().sum()) for t in total.values()))


def loop(network: nn.Module, records: tuple[Tensor, Tensor], clip_norm: float) -> dict[str, Tensor]:
    """One record after the other, by plain autograd."""
    leaves = {n: p.detach().clone().requires_grad_() for n, p in network.named_parameters()}
    total = zero_sum({name: p.detach() for name, p in leaves.items()})
    for pixels, label in zip(*records, strict=True):
        loss = loss_of(network)(leaves, pixels, label)
        found = torch.autograd.grad(loss, list(leaves.values()))
        gradients = {name: g.double() for name, g in zip(leaves, found, strict=True)}
        factor = min(1.0, clip_norm / MARGIN / norm(gradients))
        for name, g in gradients.items():
            total[name] += factor * g
    return total


@pytest.mark.parametrize("clip_norm", [0.01, 100.0, 1e6])
def test_the_clipped_sum_is_the_loop_over_records(network: nn.Module, clip_norm: float) -> None:
    """From all clipped to none clipped; the norm is taken over all parameters together."""
    records = batch()
    found = clipped(network, records, torch.ones(6, dtype=torch.bool), clip_norm)
    expected = loop(network, records, clip_norm)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-5 * clip_norm)


def test_one_record_reaches_its_bound_and_never_passes_it(network: nn.Module) -> None:
    for seed in range(5):
        total = clipped(network, batch(1, seed), torch.tensor([True]), 0.5)
        assert 0.99 * 0.5 <= norm(total) <= 0.5 / MARGIN * (1 + 1e-12)


def test_a_gradient_below_the_bound_is_left_as_it_is(network: nn.Module) -> None:
    valid = torch.tensor([True])
    free = clipped(network, batch(1), valid, 1e9)
    assert norm(free) > 1
    torch.testing.assert_close(clipped(network, batch(1), valid, 2 * norm(free)), free)


def test_a_records_share_does_not_depend_on_the_other_records(network: nn.Module) -> None:
    records = batch()
    only_third = torch.arange(6) == 3
    before = clipped(network, records, only_third, 1.0)
    for content in (records[0].flip(0), 1e4 * records[0], torch.full_like(records[0], math.nan)):
        pixels = torch.where(only_third[:, None, None, None], records[0], content)
        after = clipped(network, (pixels, records[1]), only_third, 1.0)
        for name, value in before.items():
            assert torch.equal(after[name], value), name


def test_a_record_marked_invalid_adds_nothing(network: nn.Module) -> None:
    records = batch()
    assert norm(clipped(network, records, torch.zeros(6, dtype=torch.bool), 1.0)) == 0
    valid = torch.tensor([True, False, True, True, False, True])
    kept = tuple(t[valid] for t in records)
    found = clipped(network, records, valid, 1.0)
    expected = clipped(network, kept, torch.ones(4, dtype=torch.bool), 1.0)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=1e-5)


@pytest.mark.parametrize("poison", [math.nan, math.inf, -math.inf, 3e38])
def test_a_gradient_that_is_no_number_counts_as_zero(network: nn.Module, poison: float) -> None:
    pixels, labels = batch()
    valid = torch.ones(6, dtype=torch.bool)
    rest = clipped(network, (pixels, labels), torch.arange(6) != 2, 1.0)
    pixels[2] = poison
    found = clipped(network, (pixels, labels), valid, 1.0)
    for name, value in rest.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=1e-12)


def test_one_infinite_coordinate_drops_the_whole_record() -> None:
    def loss(parameters: dict[str, Tensor], x: Tensor) -> Tensor:
        return parameters["a"] * x[0] + parameters["b"] * x[1]

    parameters = {"a": torch.zeros(()), "b": torch.zeros(())}
    for poison in (math.nan, math.inf, -math.inf):
        total = zero_sum(parameters)
        records = (torch.tensor([[1.0, poison], [0.3, 0.4]]),)
        add_clipped(total, loss, parameters, records, torch.tensor([True, True]), 1.0)
        assert float(total["a"]) == pytest.approx(0.3)
        assert float(total["b"]) == pytest.approx(0.4)


def test_factors_are_one_within_the_bound_and_shrink_to_it_beyond() -> None:
    norms = torch.tensor([0.0, 1e-300, 0.5, 1.0, 2.0, 1e30, math.inf, math.nan]).double()
    factors = clip_factors(norms, 1.0)
    expected = torch.tensor([1, 1, 1, 1 / MARGIN, 0.5 / MARGIN, 1e-30 / MARGIN, 0, 0]).double()
    torch.testing.assert_close(factors, expected, rtol=1e-6, atol=0)
    assert (factors[:6] * norms[:6] <= 1).all()


def test_rounding_of_a_full_batch_of_equal_records_stays_within_the_bound() -> None:
    """The worst case of rounding: 4,096 records that all point one way, and one more."""

    def loss(parameters: dict[str, Tensor], x: Tensor) -> Tensor:
        return (parameters["w"] * x).sum()

    parameters = {"w": torch.zeros(3)}
    record = torch.tensor([[0.1, 0.7, -1.3]])
    total = zero_sum(parameters)
    valid = torch.ones(16, dtype=torch.bool)
    for _ in range(4096 // 16):
        add_clipped(total, loss, parameters, (record.expand(16, 3),), valid, 1.0)
    before = total["w"].clone()
    add_clipped(total, loss, parameters, (record.expand(16, 3),), torch.arange(16) < 1, 1.0)
    moved = float((total["w"] - before).norm())
    assert 0.9999 <= moved <= 1.0


def test_a_loss_that_draws_from_global_randomness_is_refused() -> None:
    def loss(parameters: dict[str, Tensor], x: Tensor) -> Tensor:
        return (parameters["w"] * torch.randn_like(x)).sum()

    parameters = {"w": torch.zeros(3)}
    with pytest.raises(RuntimeError, match="random"):
        add_clipped(
            zero_sum(parameters),
            loss,
            parameters,
            (torch.ones(2, 3),),
            torch.tensor([True, True]),
            1.0,
        )
