from __future__ import annotations

import pytest
import torch
from torch import nn

from dpgen.networks.ema import EMA


class Counter(nn.Module):
    """One weight, one floating-point buffer, one integer buffer."""

    def __init__(self, value: float, count: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([value]))
        self.register_buffer("mean", torch.tensor(10 * value))
        self.register_buffer("count", torch.tensor(count))


def test_average_is_a_geometric_sum() -> None:
    ema = EMA(Counter(0.0, 0), decay=0.9)
    for _ in range(5):
        ema.update(Counter(1.0, 7))
    torch.testing.assert_close(ema.module.weight, torch.tensor([1 - 0.9**5]))
    torch.testing.assert_close(ema.module.mean, torch.tensor(10 * (1 - 0.9**5)))


def test_whole_numbers_are_copied() -> None:
    ema = EMA(Counter(0.0, 0), decay=0.9)
    ema.update(Counter(1.0, 7))
    assert ema.module.count.item() == 7


def test_decay_zero_copies() -> None:
    ema = EMA(Counter(0.0, 0), decay=0.0)
    ema.update(Counter(3.0, 1))
    assert ema.module.weight.item() == 3.0


def test_warm_up_forgets_the_start_and_ends_at_the_decay() -> None:
    ema = EMA(Counter(0.0, 0), decay=0.2, warm_up=True)
    expected = 0.0
    for decay in (1 / 10, 2 / 11, 0.2, 0.2):
        ema.update(Counter(1.0, 1))
        expected = decay * expected + 1 - decay
        assert ema.module.weight.item() == pytest.approx(expected, rel=1e-6)


def test_followed_module_is_untouched_and_average_takes_no_gradient() -> None:
    module = Counter(0.0, 0)
    ema = EMA(module, decay=0.5)
    ema.update(Counter(1.0, 1))
    assert module.weight.item() == 0.0
    assert module.weight.requires_grad and not ema.module.weight.requires_grad


def test_resumed_average_goes_on_as_if_nothing_had_happened() -> None:
    whole = EMA(Counter(0.0, 0), decay=0.99, warm_up=True)
    first = EMA(Counter(0.0, 0), decay=0.99, warm_up=True)
    for k in range(3):
        whole.update(Counter(float(k), k))
        first.update(Counter(float(k), k))
    second = EMA(Counter(5.0, 5), decay=0.99, warm_up=True)
    second.load_state_dict(first.state_dict())
    for k in range(3, 6):
        whole.update(Counter(float(k), k))
        second.update(Counter(float(k), k))
    assert second.n_updates == 6
    for name, value in whole.module.state_dict().items():
        assert torch.equal(second.module.state_dict()[name], value), name


@pytest.mark.parametrize("decay", [-0.1, 1.0, float("nan")])
def test_decay_outside_its_range_is_refused(decay: float) -> None:
    with pytest.raises(ValueError, match=r"decay must lie in \[0, 1\)"):
        EMA(Counter(0.0, 0), decay=decay)


def test_foreign_state_is_refused() -> None:
    with pytest.raises(ValueError, match="must come from EMA.state_dict"):
        EMA(Counter(0.0, 0)).load_state_dict(Counter(0.0, 0).state_dict())
