"""Steps of the teacher shared with other processes: what they are sent, and what they answer.

The other processes live in this one here; `tests/runs/test_processes.py` starts real ones.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from dpgen.images.images import PublicFacts
from dpgen.networks.adapters import adapted
from dpgen.networks.denoiser import Denoiser
from dpgen.privacy.mechanisms.checked_records import CheckedRecords, SlotDigests
from dpgen.privacy.mechanisms.declared import NoisySGD
from dpgen.privacy.mechanisms.noise import KeyedNoise
from dpgen.privacy.mechanisms.shares import Shares
from dpgen.runs.processes import Message
from dpgen.stages import shared_steps
from dpgen.stages.denoising import DenoisingObjective
from dpgen.stages.shared_steps import Assistant, Helper
from dpgen.stages.teacher import untrained
from dpgen.stages.teacher_settings import TeacherSettings
from dpgen.training.denoising import NoiseLevels

CPU = torch.device("cpu")
KEY = bytes(range(100, 132))
FACTS = PublicFacts((1, 8, 8), ("a", "b"), 60, "add_remove", origin="stated")
SGD = NoisySGD(0.4, 2, 1.5, n_records=60, clip_norm=1.0)


class Wires:
    """`Processes` of which every other one is an `Assistant` of its own in this process.

    read: the records that the first ones read themselves; the others have theirs sent.
    """

    def __init__(self, n_helpers: int, read: Sequence[Images] = ()) -> None:
        self.n_processes = 1 + n_helpers
        opened = [partial(CheckedRecords, one) for one in read]
        open_fns = [*opened, *[None] * (n_helpers - len(read))]
        self.assistants = {
            rank: Assistant(CPU, open_fn) for rank, open_fn in enumerate(open_fns, 1)
        }
        self.sent: list[tuple[int, Message]] = []
        self._answers: dict[int, Message] = {}
        self._n = 0

    def new_number(self) -> int:
        self._n += 1
        return self._n

    def send(self, to: int, word: str, tensors: Mapping[str, Tensor], **numbers: Any) -> None:  # noqa: ANN401
        held = {name: t.detach().clone() for name, t in tensors.items()}
        self.sent.append((to, message := Message(word, json.loads(json.dumps(numbers)), held)))
        number = numbers["number"]
        answer = self.assistants[to].answer(message)
        self._answers[to] = Message("answer", {"number": number}, answer)

    def receive(self, source: int) -> Message:
        return self._answers.pop(source)


class Images:
    n_slots = 60

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(3)
        self.pixels = 2 * torch.rand(self.n_slots, 1, 8, 8, generator=generator) - 1
        self.labels = torch.arange(self.n_slots) % 2
        self.valid = torch.arange(self.n_slots) % 7 != 0
        self.n_read = Counter[int]()

    def read(self, slots: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
        self.n_read.update(slots.tolist())
        return self.pixels[slots], self.labels[slots], self.valid[slots]


def objective(
    loss: str = "denoising", precision: str = "no", rank: int = 0
) -> DenoisingObjective:  # fmt: skip
    """Of a small network whose weights and prior are none that it could have begun with."""
    settings = TeacherSettings(bands=3, batch=20).resolved(FACTS)
    denoiser = untrained(settings, FACTS, seed=0)
    generator = torch.Generator().manual_seed(1)
    if rank:
        denoiser = Denoiser(replace(denoiser.config, attention_levels=(1,)))
        denoiser = adapted(denoiser, rank, generator)
    with torch.no_grad():
        for tensor in shared_steps._tensors_of(denoiser).values():
            if tensor.is_floating_point():
                tensor += 0.01 * torch.rand(tensor.shape, generator=generator)
    return DenoisingObjective(denoiser, NoiseLevels(n_draws=2), loss, precision)


def answers(
    asked: DenoisingObjective, wires: Wires | None, records: Images | None = None
) -> Iterator[dict[str, Tensor]]:
    digests = SlotDigests(bytes(32))
    ranks = [] if wires is None else wires.assistants
    helpers = [Helper(wires, rank, digests) for rank in ranks]  # type: ignore[arg-type]
    parameters = {name: p.detach().clone() for name, p in asked.denoiser.named_parameters()}
    for step in SGD.steps(
        records or Images(), KeyedNoise(KEY, "plan"), start=0, micro_batch=5, device=CPU,
        shares=Shares(helpers),
    ):  # fmt: skip
        yield (answer := step.gradient(asked, parameters))
        for name, part in answer.items():
            parameters[name] = parameters[name] - 0.01 * part


@pytest.mark.parametrize(
    ("loss", "precision", "rank"),
    [
        ("denoising", "no", 0), ("denoising", "bf16", 0), ("sliced-denoising", "no", 0),
        ("denoising", "no", 2),
    ],
)  # fmt: skip
def test_a_network_comes_to_the_same_answers_in_one_two_and_four_processes(
    loss: str, precision: str, rank: int
) -> None:
    alone = list(answers(asked := objective(loss, precision, rank), None))
    for n_helpers in (1, 3):
        wires = Wires(n_helpers)
        shared = list(answers(asked, wires))
        words = [message.word for to, message in wires.sent if to == n_helpers]
        assert words.count("stage") == 1 and words.count("step") == 2
        assert words.count("share") > 1
        for one, other in zip(alone, shared, strict=True):
            assert all(torch.equal(one[name], other[name]) for name in one)


def test_other_processes_get_neither_the_key_of_the_stage_nor_noise_nor_coins() -> None:
    wires = Wires(1)
    list(answers(objective(), wires))
    for _, message in wires.sent:
        text = json.dumps(message.numbers)
        assert KEY.hex() not in text
        for tensor in message.tensors.values():
            if tensor.dtype == torch.uint8:
                assert KEY not in tensor.numpy().tobytes()
    shares = [message for _, message in wires.sent if message.word == "share"]
    assert {frozenset(message.tensors) for message in shares} == {
        frozenset({"pixels", "labels", "valid", "slots"})
    }
    # The key of a step's draws is one of its own.
    keys = {message.numbers["key"] for message in shares}
    assert len(keys) == SGD.n_steps and all(len(key) == 16 for key in keys)


def test_helpers_that_read_records_themselves_come_to_the_same_answers() -> None:
    whole, own, read, n_reading = Images(), Images(), [Images() for _ in range(3)], 2
    alone, wires = list(answers(objective(), None, whole)), Wires(3, read[:n_reading])
    for one, other in zip(alone, answers(objective(), wires, own), strict=True):
        assert all(torch.equal(one[name], other[name]) for name in one)
    for rank in range(1, 4):
        shares = [m for to, m in wires.sent if to == rank and m.word == "share"]
        asked = Counter[int]()
        for message in shares:
            if rank <= n_reading:
                assert set(message.tensors) == {"digests", "slots"}
                n = len(message.tensors["digests"])
                assert message.tensors["digests"].shape == (n, 16)
                asked.update(message.tensors["slots"][:n].tolist())
        # A helper reads the records of its micro-batches alone, each as often as it was drawn.
        assert asked == read[rank - 1].n_read and (shares or not asked)
    # Process 0 reads every record once for its digest; and then only those that it computes or
    # sends.
    others = sum((images.n_read for images in read), Counter[int]())
    assert own.n_read == Counter(range(60)) + whole.n_read - others


def another_order(images: Images) -> None:
    for name in ("pixels", "labels", "valid"):
        setattr(images, name, getattr(images, name).roll(2, 0))


def another_pixel(images: Images) -> None:
    images.pixels[:, 0, 3, 3] += 1e-6


def another_label(images: Images) -> None:
    images.labels = 1 - images.labels


def others_valid(images: Images) -> None:
    images.valid = ~images.valid


def another_size(images: Images) -> None:
    images.pixels = images.pixels[:, :, :4, :4]


def one_more(images: Images) -> None:
    images.n_slots = 61


def gone(images: Images) -> None:
    def read(slots: np.ndarray) -> None:
        raise FileNotFoundError(f"no file {slots[0]}.png")

    images.read = read  # type: ignore[assignment]


@pytest.mark.parametrize(
    "changed",
    [another_order, another_pixel, another_label, others_valid, another_size, one_more, gone],
)
def test_a_helper_with_other_records_stops_the_step_and_names_none(
    changed: Callable[[Images], None],
) -> None:
    changed(other := Images())
    with pytest.raises(ValueError) as refused:
        next(answers(objective(), Wires(1, [other])))
    told = str(refused.value)
    assert told.startswith("a record is not the one that process 0 has, or cannot be read: give")
    assert not any(c.isdigit() for c in told.replace("process 0", "")) and ".png" not in told
    assert refused.value.__cause__ is None and refused.value.__suppress_context__ or changed != gone


def test_a_record_that_changes_during_the_run_stops_it() -> None:
    other = Images()
    found = answers(objective(), Wires(1, [other]))
    next(found)
    another_pixel(other)
    with pytest.raises(ValueError, match="let no file change during the run"):
        next(found)


def test_that_a_helper_cannot_open_the_data_is_told() -> None:
    def fails() -> CheckedRecords:
        raise FileNotFoundError("no data at '/records'")

    wires = Wires(1)
    wires.assistants[1] = Assistant(CPU, fails)
    with pytest.raises(ValueError, match="cannot open the data.*no data at '/records'"):
        next(answers(objective(), wires))
    assert [message.word for _, message in wires.sent] == ["stage"]


@pytest.mark.parametrize(
    ("name", "value"),
    [("torch", "0.0"), ("dpgen", "0.0"), ("threads", 77), ("processor", "Z80"), ("device", "cuda")],
)
def test_a_process_that_computes_in_another_way_is_refused_before_it_gets_a_record(
    name: str, value: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    described = shared_steps._computes
    calls = iter([{name: value}, {}])
    monkeypatch.setattr(shared_steps, "_computes", lambda device: described(device) | next(calls))
    wires = Wires(1)
    with pytest.raises(ValueError, match=f"must compute alike.*{name} was"):
        list(answers(objective(), wires))
    assert [message.word for _, message in wires.sent] == ["stage"]


def test_an_answer_to_another_message_is_refused() -> None:
    class Late(Wires):
        def receive(self, source: int) -> Message:
            word, numbers, tensors = super().receive(source)
            return Message(word, {"number": numbers["number"] - 1}, tensors)

    with pytest.raises(RuntimeError, match="must answer message 1, it has answered 0"):
        list(answers(objective(), Late(1)))


@pytest.mark.parametrize(
    ("kind", "error"),
    [("memory", MemoryError), ("memory of the GPU", torch.OutOfMemoryError),
     ("refused", ValueError), ("other", RuntimeError)],
)  # fmt: skip
def test_an_error_of_another_process_is_raised_here_with_its_number(
    kind: str, error: type[Exception]
) -> None:
    class Failing(Wires):
        def receive(self, source: int) -> Message:
            number = super().receive(source).numbers["number"]
            return Message("failed", {"number": number, "kind": kind, "reason": "broken"}, {})

    with pytest.raises(error, match="process 1: broken"):
        list(answers(objective(), Failing(1)))


def test_a_share_without_a_stage_is_refused() -> None:
    with pytest.raises(ValueError, match="must send a stage, a step and shares, got 'share'"):
        Assistant(CPU).answer(Message("share", {}, {}))


def test_an_objective_that_cannot_be_sent_is_refused() -> None:
    class Another(DenoisingObjective):
        pass

    asked = objective()
    other = Another(asked.denoiser, asked.levels)
    with pytest.raises(TypeError, match="must be a DenoisingObjective, got Another"):
        list(answers(other, Wires(1)))


class Told:
    """`Processes` of an assistant: messages that come, and what it answers."""

    def __init__(self, *messages: Message) -> None:
        self._left, self.answers = list(messages), list[tuple[str, Any]]()

    def next_task(self) -> Message:
        return self._left.pop(0)

    def send(self, to: int, word: str, tensors: object = None, **numbers: Any) -> None:  # noqa: ANN401
        assert to == 0
        self.answers.append((word, numbers))


def test_an_assistant_tells_its_errors_and_goes_on_until_process_0_has_ended() -> None:
    told = Told(
        Message("share", {"number": 4}, {}), Message("nonsense", {"number": 5}, {}),
        Message("done", {"result": "/run"}, {}),
    )  # fmt: skip
    assert shared_steps.assist(told, CPU) == "/run"  # type: ignore[arg-type]
    assert [(w, n["number"], n["kind"]) for w, n in told.answers] == [
        ("failed", 4, "refused"), ("failed", 5, "refused"),
    ]  # fmt: skip
