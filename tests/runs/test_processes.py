"""Real processes of one machine: messages, and the ways in which they end."""

from __future__ import annotations

import os
import signal
import textwrap
from pathlib import Path

import pytest

from dpgen.runs.context import Hardware
from dpgen.runs.processes import launched
from tests.launched import Ended, ended, start


def run(n: int, program: str) -> list[Ended]:
    begun = "import torch\nfrom dpgen.runs.processes import *\nhere = join()\n"
    return ended(start(n, ["-c", begun + textwrap.dedent(program)]))


def test_messages_arrive_as_they_were_sent_and_the_end_is_told_once() -> None:
    zero, one, two = run(3, """
        tensors = {"a": torch.tensor([1.5, -0.0]), "b": torch.tensor(True), "c": torch.ones(0, 2),
                   "d": torch.arange(6).reshape(2, 3).T}
        if here.rank == 0:
            with here.leading(), here.leading():
                for other in (1, 2):
                    here.send(other, "hello", tensors, x=0.1, y=[other, "z"])
                print(*(here.receive(other).numbers["sum"] for other in (1, 2)))
                here.result = "folder"
        else:
            word, numbers, found = here.next_task()
            assert word == "hello" and numbers == {"x": 0.1, "y": [here.rank, "z"]}
            assert found.keys() == tensors.keys()
            for name, tensor in tensors.items():
                assert torch.equal(found[name], tensor) and found[name].dtype == tensor.dtype
            here.send(0, "answer", sum=here.rank)
            print(here.next_task().numbers["result"])
    """)
    assert [x.status for x in (zero, one, two)] == [0, 0, 0], (zero.err, one.err, two.err)
    assert (zero.out, one.out, two.out) == ("1 2\n", "folder\n", "folder\n")


def test_an_error_of_process_0_stops_the_others_with_one_message() -> None:
    zero, one = run(2, """
        if here.rank == 0:
            with here.leading():
                raise SystemExit("the budget is spent")
        try:
            here.next_task()
        except Stopped as error:
            print(error)
    """)
    assert (zero.status, zero.err) == (1, "the budget is spent\n")
    assert (one.status, one.out) == (0, "process 0 has stopped, see what it says\n")


@pytest.mark.slow
@pytest.mark.parametrize("dead", [0, 1])
def test_a_process_that_is_killed_is_noticed_at_once(dead: int) -> None:
    zero, one = run(2, f"""
        import os
        here.send(1 - here.rank, "hello") if here.rank == 0 else here.next_task()
        if here.rank == {dead}:
            os.kill(os.getpid(), {int(signal.SIGKILL)})
        try:
            here.next_task() if here.rank else here.receive(1)
        except ConnectionError as error:
            print(str(error).split(" or ")[0])
    """)
    killed, other = (zero, one) if dead == 0 else (one, zero)
    assert killed.status == -signal.SIGKILL
    assert (other.status, other.out) == (0, f"process {dead} has ended\n"), other.err


def test_what_does_not_share_its_work_is_refused_under_a_launcher(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert not launched()
    for name, value in {"RANK": "0", "MASTER_ADDR": "x", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    assert not launched()
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert not launched()
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert launched()
    with pytest.raises(ValueError, match="start it without a launcher"):
        Hardware("cpu").accelerator()


PROGRAM = """
import sys
sys.path.insert(0, {stages!r})
import torch
from dpgen.runs.processes import join
from dpgen.stages import shared_steps
from test_shared_steps import CPU, KEY, SGD, Images, KeyedNoise, objective

def answers(shares):
    asked = objective()
    parameters = {{name: p.detach().clone() for name, p in asked.denoiser.named_parameters()}}
    for step in SGD.steps(Images(), KeyedNoise(KEY, "plan"), start=0, micro_batch=5, device=CPU,
                          shares=shares):
        yield (answer := step.gradient(asked, parameters))
        parameters = {{k: p - 0.01 * answer[k] for k, p in parameters.items()}}

here = join()
if here.rank:
    print(shared_steps.assist(here, CPU))
else:
    with here.leading():
        shared, alone = list(answers(shared_steps.shares())), list(answers(None))
        here.result = "ended"
    assert len(shared) == 2
    print(all(torch.equal(a[k], b[k]) for a, b in zip(shared, alone, strict=True) for k in a))
"""


@pytest.mark.slow  # tests/stages/test_shared_steps.py says so of every layer, without processes
def test_two_processes_come_to_the_answers_of_one_bit_for_bit() -> None:
    stages = str(Path(__file__).parents[1] / "stages")
    zero, one = ended(start(2, ["-c", PROGRAM.format(stages=stages)]))
    assert (zero.status, zero.out) == (0, "True\n"), zero.err
    assert (one.status, one.out) == (0, "ended\n"), one.err
    assert os.environ.get("WORLD_SIZE") is None
