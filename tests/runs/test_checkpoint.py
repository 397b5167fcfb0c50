"""A loop goes on from its last whole state to the very numbers of an uninterrupted one."""

from __future__ import annotations

import copy
import os
import stat
from pathlib import Path

import pytest
import torch
from torch import nn

from dpgen.networks.ema import EMA
from dpgen.runs.checkpoint import Checkpoints, TrainingState


class Loop:
    """A network under Adam with averaged weights and noise of its own: all that a state must hold.
    """

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.network = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
        self.adam = torch.optim.Adam(self.network.parameters(), lr=0.1, betas=(0.5, 0.9))
        self.ema = EMA(self.network, 0.9, warm_up=True)
        self.generator = torch.Generator().manual_seed(1)
        self.state = TrainingState(
            {"network": self.network, "ema": self.ema},
            {"adam": self.adam},
            {"noise": self.generator},
        )

    def step(self) -> None:
        x = torch.randn(8, 3, generator=self.generator)
        self.adam.zero_grad()
        (self.network(x) - x.sum(1, keepdim=True)).square().mean().backward()
        self.adam.step()
        self.ema.update(self.network)

    def numbers(self) -> dict[str, torch.Tensor]:
        return {k: v.clone() for k, v in self.state.tensors().items()}


def test_a_loop_resumed_from_disk_ends_where_the_uninterrupted_one_does(tmp_path: Path) -> None:
    whole = Loop()
    for _ in range(7):
        whole.step()
    broken = Loop()
    for _ in range(3):
        broken.step()
    Checkpoints(tmp_path).save("loop", broken.state.tensors(), step=3, note="x")
    resumed = Loop()
    for _ in range(2):
        resumed.step()  # whatever it did before, the state replaces it
    held = Checkpoints(tmp_path).load("loop")
    assert held is not None
    tensors, numbers = held
    assert numbers == {"step": 3, "note": "x"}
    resumed.state.load(tensors)
    for _ in range(4):
        resumed.step()
    one, other = whole.numbers(), resumed.numbers()
    assert one.keys() == other.keys()
    assert all(torch.equal(one[key], other[key]) for key in one)
    kinds = {key.split(".")[0] for key in one}
    assert kinds == {"module", "optimizer", "generator"}
    assert sum("exp_avg_sq" in key for key in one) == 4


def test_a_state_left_out_would_be_missed() -> None:
    whole, resumed = Loop(), Loop()
    for _ in range(3):
        whole.step()
    tensors = copy.deepcopy(whole.state.tensors())
    resumed.state.load({k: v for k, v in tensors.items() if "optimizer" not in k})
    whole.step()
    resumed.step()
    assert not torch.equal(whole.network[0].weight, resumed.network[0].weight)


def test_a_save_replaces_the_last_one_whole(tmp_path: Path) -> None:
    states = Checkpoints(tmp_path / "state")
    assert states.load("a") is None
    states.save("a", {"x": torch.zeros(2), "y": torch.ones(1)}, step=1)
    states.save("a", {"x": torch.full((2,), 5.0)}, step=2)
    states.save("b", {"x": torch.arange(6).reshape(2, 3).T})
    found = states.load("a")
    assert found is not None and found[1] == {"step": 2}
    assert {k: v.tolist() for k, v in found[0].items()} == {"x": [5.0, 5.0]}
    transposed = states.load("b")
    assert transposed is not None and transposed[0]["x"].tolist() == [[0, 3], [1, 4], [2, 5]]
    assert sorted(p.name for p in (tmp_path / "state").iterdir()) == [
        "a.safetensors",
        "b.safetensors",
    ]


def test_two_names_of_one_tensor_are_both_saved(tmp_path: Path) -> None:
    shared = torch.arange(4.0)
    Checkpoints(tmp_path).save("a", {"x": shared, "y": shared[:2], "z": shared.view(2, 2)})
    held = Checkpoints(tmp_path).load("a")
    assert held is not None
    assert {k: v.tolist() for k, v in held[0].items()} == {
        "x": [0, 1, 2, 3], "y": [0, 1], "z": [[0, 1], [2, 3]],
    }  # fmt: skip


def test_states_are_their_owners_alone(tmp_path: Path) -> None:
    states = Checkpoints(tmp_path / "state")
    states.save("a", {"x": torch.zeros(1)})
    assert stat.S_IMODE(os.stat(tmp_path / "state").st_mode) == 0o700
    assert stat.S_IMODE(os.stat(tmp_path / "state" / "a.safetensors").st_mode) == 0o600


@pytest.mark.parametrize("damage", ["cut", "emptied", "garbage", "no numbers"])
def test_a_damaged_state_is_an_error_that_says_what_to_do(tmp_path: Path, damage: str) -> None:
    from safetensors.torch import save

    states = Checkpoints(tmp_path)
    states.save("a", {"x": torch.zeros(100)}, step=1)
    path = tmp_path / "a.safetensors"
    whole = path.read_bytes()
    path.write_bytes(
        {
            "cut": whole[:-50],
            "emptied": b"",
            "garbage": b"\xff" * len(whole),
            "no numbers": save({"x": torch.zeros(1)}),
        }[damage]
    )
    with pytest.raises(
        ValueError, match=r"checkpoint .*a\.safetensors is damaged .*new run folder"
    ):
        states.load("a")


def test_due_says_yes_after_its_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("dpgen.runs.checkpoint.time.monotonic", lambda: now[0])
    states, always = Checkpoints(tmp_path / "a", 15.0), Checkpoints(tmp_path / "b", 0.0)
    seen = []
    for tick in (0, 14, 15, 16, 29, 30):
        now[0] = 100.0 + tick
        seen.append(states.due())
        assert always.due()
    assert seen == [False, False, True, False, False, True]


def test_what_is_made_once_is_made_once_and_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    made: list[int] = []

    def make() -> dict[str, torch.Tensor]:
        made.append(1)
        return {"a": torch.arange(6.0).reshape(2, 3).T}

    first = Checkpoints(tmp_path / "state").once("a", make)
    again = Checkpoints(tmp_path / "state").once("a", make)
    assert made == [1] and torch.equal(first["a"], torch.arange(6.0).reshape(2, 3).T)
    assert torch.equal(first["a"], again["a"]) and first["a"].stride() == again["a"].stride()


def test_what_fails_while_it_is_made_is_made_again(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "state")

    def failing() -> dict[str, torch.Tensor]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        checkpoints.once("a", failing)
    assert checkpoints.load("a") is None
    assert checkpoints.once("a", lambda: {"b": torch.ones(1)})["b"] == 1
