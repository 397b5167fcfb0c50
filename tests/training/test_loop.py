"""One loop trains in steps, averages, keeps its state and goes on to the very numbers of one that
was not interrupted.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from dpgen.networks.ema import EMA
from dpgen.runs.checkpoint import Checkpoints, TrainingState
from dpgen.training.distillation import adversarial_step
from dpgen.training.loop import Kept, training_steps


class Stopped(Exception):
    pass


def trained(
    folder: Path | None, stop: int = 9, seconds: float = 0.0
) -> tuple[nn.Module, list[int]]:
    """Five steps of noisy descent, or those up to ``stop``; and which were made."""
    torch.manual_seed(0)
    network, generator, made = nn.Linear(3, 2), torch.Generator().manual_seed(1), list[int]()
    adam, average = torch.optim.Adam(network.parameters(), lr=0.1), EMA(network, 0.9, warm_up=True)
    state = TrainingState({"n": network, "e": average}, {"a": adam}, {"g": generator})
    kept = None if folder is None else Kept("loop", Checkpoints(folder, seconds), state)
    for step in training_steps("loop", 5, network, average, show=False, kept=kept):
        if step == stop:
            raise Stopped
        adam.zero_grad()
        network(torch.randn(4, 3, generator=generator)).square().sum().backward()
        adam.step()
        made.append(step)
    return network, made


def alike(one: nn.Module, other: nn.Module) -> bool:
    there = other.state_dict()
    return all(torch.equal(value, there[name]) for name, value in one.state_dict().items())


@pytest.mark.parametrize("stop", [0, 1, 3, 4])
def test_a_loop_that_was_stopped_goes_on_behind_its_last_step_to_the_same_weights(
    stop: int, tmp_path: Path
) -> None:
    whole, every = trained(None)
    with pytest.raises(Stopped):
        trained(tmp_path, stop)
    resumed, made = trained(tmp_path)
    assert every == [0, 1, 2, 3, 4] and made == every[stop:]
    assert alike(whole, resumed)
    assert alike(whole, trained(tmp_path)[0]) and trained(tmp_path)[1] == []


def test_the_last_step_is_kept_also_when_it_is_not_time_to(tmp_path: Path) -> None:
    whole, _ = trained(tmp_path, seconds=1e9)
    again, made = trained(tmp_path, seconds=1e9)
    assert made == [] and alike(whole, again)


def test_a_loop_ends_with_averaged_weights_and_one_that_is_left_early_does_not() -> None:
    network = nn.Linear(1, 1, bias=False)
    average = EMA(network, 0.5)
    start = float(network.weight.detach())
    for step in training_steps("loop", 3, network, average, show=False):
        with torch.no_grad():
            network.weight.add_(1.0)
        if step == 1:
            break
    assert float(network.weight.detach()) == pytest.approx(start + 2)
    for _ in training_steps("loop", 1, network, average, show=False):
        pass
    # The average has followed the first step, and now once more: (s + s + 1) / 2, then with s + 2.
    assert float(network.weight.detach()) == pytest.approx((start + 0.5 + start + 2) / 2)


def test_an_adversarial_step_trains_the_discriminator_and_tells_the_student_where_to_go() -> None:
    weight = torch.zeros(1, requires_grad=True)

    def judged(pair: Tensor) -> Tensor:
        return weight * (pair[:, 0] - pair[:, 1]).mean((1, 2))

    adam, swap = torch.optim.SGD([weight], lr=1.0), torch.tensor([False, True])
    teacher = torch.ones(2, 1, 4, 4)
    student = torch.zeros(2, 1, 4, 4, requires_grad=True)
    loss = adversarial_step(judged, adam, teacher, student, swap, reduction="none")
    assert loss.shape == (2,) and float(weight.detach()) > 0  # the teacher is the brighter one
    (by_student,) = torch.autograd.grad(loss.sum(), student)
    assert (by_student < 0).all()  # the student gets brighter
