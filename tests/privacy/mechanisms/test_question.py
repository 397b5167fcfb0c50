"""A question holds all that its answer depends on: whatever is changed, it is another question."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields, is_dataclass, replace
from functools import cached_property, partial
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dpgen.networks.denoiser import Denoiser, DenoiserConfig
from dpgen.networks.fixed.cosines import Cosines
from dpgen.networks.fixed.fourier import FourierFeatures
from dpgen.networks.fixed.gabor import GaborFeatures
from dpgen.networks.labeller import Axes
from dpgen.networks.perceptual import HiddenFeatures, PerceptualNetwork
from dpgen.privacy.mechanisms import question as module
from dpgen.privacy.mechanisms.declared import NoisySGD, NoisySum
from dpgen.privacy.mechanisms.question import Given, Question, described, differences
from dpgen.stages.denoising import DenoisingObjective
from dpgen.stages.embedding import ClassEmbeddings
from dpgen.stages.labeller import LabelMoments
from dpgen.stages.moments import ClassMeans, ClassSpread
from dpgen.training.denoising import NoiseLevels

SHAPE = (1, 8, 8)


def denoiser(prior_bands: int = 3) -> Denoiser:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Denoiser(DenoiserConfig(SHAPE, 2, (8,), 1, (), 8, prior_bands=prior_bands))


def hidden() -> HiddenFeatures:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = PerceptualNetwork(SHAPE, 2, width=4)
    samples = torch.rand(20, *SHAPE, generator=torch.Generator().manual_seed(0))
    return HiddenFeatures(4, 3, (0.5,), 0).learned(network, samples)


def axes() -> Axes:
    return Axes(torch.zeros(GaborFeatures(SHAPE).n_features), torch.eye(196)[:, :2])


# Everything that the package's own stages ask with, complete: also what earlier releases left.
ASKED: dict[str, Callable[[], Any]] = {
    "means": lambda: NoisySum(ClassMeans(SHAPE, 2, -0.4, 6.0, 1.0), 2.0),
    "spread": lambda: NoisySum(ClassSpread(Cosines(SHAPE, 3), 2, 4.5, torch.zeros(2, 64)), 2.0),
    "pixels": lambda: NoisySum(ClassEmbeddings(FourierFeatures(64, 5, (0.2, 0.4)), 2), 2.0),
    "hidden layers": lambda: NoisySum(ClassEmbeddings(hidden(), 2), 2.0),
    "labels": lambda: NoisySum(LabelMoments(GaborFeatures(SHAPE), 2, 2, axes()), 2.0),
    "steps": lambda: NoisySGD(0.1, 5, 1.0, 100, 0.5),
    "objective": lambda: DenoisingObjective(denoiser(), NoiseLevels(n_draws=2)),
}


def changed(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:  # noqa: ANN401
    """``value`` with one thing in it changed, for every thing that there is, by name."""
    match value:
        case bool():
            yield path, not value
        case int():
            yield path, value + 1
        case float():
            yield path, float(np.nextafter(value, np.inf))
        case str():
            yield path, value + "'"
        case None:
            yield path, 0
        case Tensor():
            other = value.detach().clone()
            last = (-1,) * other.ndim
            other[last] = torch.nextafter(other[last], torch.full((), torch.inf).to(other))
            yield f"{path} (one bit)", other
            yield f"{path} (precision)", value.half()
            yield f"{path} (shape)", value[None]
        case nn.Module():
            for name, held in [*value.named_parameters(), *value.named_buffers()]:
                other = copy.deepcopy(value)
                target = dict([*other.named_parameters(), *other.named_buffers()])[name]
                target.data[(-1,) * target.ndim] += 1 if held.dtype == torch.int64 else 0.5
                yield f"{path}.{name}", other
            other = copy.deepcopy(value)
            inner = next(m for m in other.modules() if isinstance(m, nn.Conv2d))
            inner.padding = (inner.padding[0] + 1, inner.padding[1])
            yield f"{path} (a layer's own number)", other
            yield f"{path} (mode)", copy.deepcopy(value).train(not value.training)
        case tuple() if hasattr(value, "_fields"):
            for name in value._fields:
                for where, other in changed(getattr(value, name), f"{path}.{name}"):
                    yield where, value._replace(**{name: other})
        case tuple():
            for i, part in enumerate(value):
                for where, other in changed(part, f"{path}.{i}"):
                    yield where, (*value[:i], other, *value[i + 1 :])
            yield f"{path} (longer)", (*value, 1)
        case _ if is_dataclass(value):
            for one in fields(value):
                for where, other in changed(getattr(value, one.name), f"{path}.{one.name}"):
                    twin = copy.copy(value)
                    twin.__dict__.update({one.name: other})
                    yield where, twin
        case _:
            raise AssertionError(f"no change for {path}: {value!r}")


@pytest.mark.parametrize("name", ASKED)
def test_whatever_is_changed_in_what_a_stage_asks_it_is_another_question(name: str) -> None:
    one = ASKED[name]()
    digest = Question.of(it=one).digest
    assert Question.of(it=ASKED[name]()).digest == digest, "made again it is the same"
    seen = {where: Question.of(it=other).digest for where, other in changed(one)}
    assert len(seen) >= 4
    assert [where for where, other in seen.items() if other == digest] == []
    assert len(set(seen.values())) >= len(seen) - 1  # None and 0 for one field may be both 0


@pytest.mark.parametrize("name", ASKED)
def test_a_question_survives_the_checkpoint_in_clear(name: str) -> None:
    from dpgen.storage.canonical import canonical, digest
    from dpgen.storage.files import parse_json

    stage = Question.of(it=ASKED[name]()).stage
    again = parse_json(canonical(stage), "the stage")
    assert digest(again) == digest(stage)
    assert list(differences(stage, again)) == []


def test_what_computes_the_answer_is_a_part_of_the_question(monkeypatch: Any) -> None:  # noqa: ANN401
    stage = Question.of(micro_batch=4, device="cpu").stage
    assert stage["torch"] == torch.__version__ and stage["numpy"] == np.__version__
    digests = {Question.of(micro_batch=4, device="cpu").digest}
    digests.add(Question.of(micro_batch=5, device="cpu").digest)
    digests.add(Question.of(micro_batch=4, device="cuda").digest)
    for package in ("torch", "numpy"):
        with monkeypatch.context() as patch:
            patch.setattr(getattr(module, "np" if package == "numpy" else package), "__version__",
                          "9.9")  # fmt: skip
            digests.add(Question.of(micro_batch=4, device="cpu").digest)
    with monkeypatch.context() as patch:
        patch.setattr(module, "_version", lambda package: "9.9")
        digests.add(Question.of(micro_batch=4, device="cpu").digest)
    assert len(digests) == 6


def test_trainable_parameters_move_and_everything_else_stays() -> None:
    one = denoiser()
    first = Question.of(objective=DenoisingObjective(one, NoiseLevels()), given=Given({"w": ONE}))
    with torch.no_grad():
        next(one.parameters()).add_(1)
    second = Question.of(objective=DenoisingObjective(one, NoiseLevels()), given=Given({"w": ONE}))
    assert first.stage == second.stage and first.digest != second.digest
    third = Question.of(objective=DenoisingObjective(one, NoiseLevels()), given=Given({"w": TWO}))
    assert third.stage == second.stage and third.digest != second.digest
    assert one.prior is not None
    one.prior.means.add_(1)
    fourth = Question.of(objective=DenoisingObjective(one, NoiseLevels()), given=Given({"w": TWO}))
    assert fourth.stage != third.stage
    (word,) = differences(third.stage, fourth.stage)
    assert word.startswith("objective.denoiser.prior.means.tensor was ")


ONE, TWO = torch.zeros(3), torch.ones(3)


@dataclass(frozen=True)
class Holds:
    """A frozen dataclass of anything."""

    it: Any
    hidden: Any = field(default=1, repr=False, compare=False)

    @cached_property
    def double(self) -> int:
        return 2


@dataclass
class Loose:
    it: int = 1


class Plain:
    """No dataclass."""


class Pair(NamedTuple):
    a: Any
    b: Any


def hooked() -> nn.Module:
    made = nn.Linear(2, 2)
    made.register_forward_hook(lambda *_: None)
    return made


def with_method() -> nn.Module:
    made = nn.Linear(2, 2)
    made.rule = lambda x: x
    return made


UNKNOWN = {
    "lambda": lambda: lambda x: x,
    "function": lambda: denoiser,
    "partial": lambda: partial(max, 1),
    "object": Plain,
    "class": lambda: Plain,
    "loose dataclass": Loose,
    "generator": torch.Generator,
    "set": lambda: {1, 2},
    "numbers for keys": lambda: {1: 2},
    "hook": hooked,
    "function in a module": with_method,
}


@pytest.mark.parametrize("name", UNKNOWN)
@pytest.mark.parametrize("where", ["itself", "field", "tuple", "map", "named tuple"])
def test_what_cannot_be_described_is_refused_wherever_it_hides(name: str, where: str) -> None:
    it = UNKNOWN[name]()
    wrapped = {
        "itself": it, "field": Holds(1, it), "tuple": (1, it), "map": {"a": it},
        "named tuple": Pair(1, it),
    }[where]  # fmt: skip
    with pytest.raises(TypeError, match=r"it(\.\w+)* must "):
        Question.of(it=wrapped)


def test_a_frozen_dataclass_holds_its_fields_and_what_follows_from_them_alone() -> None:
    held = Holds(1)
    before = Question.of(it=held).digest
    assert held.double == 2 and Question.of(it=held).digest == before
    object.__setattr__(held, "secretly", 3)
    with pytest.raises(TypeError, match="must hold fields alone, .*Holds holds 'secretly', too"):
        Question.of(it=held)


def test_values_of_two_kinds_are_never_the_same_question() -> None:
    values = [
        None, 0, 0.0, -0.0, False, "", "0", (), (0,), ((0,),), {}, {"a": 0}, float("nan"),
        float("inf"), torch.zeros(1), torch.zeros(1, 1), torch.zeros(1).double(), torch.zeros(0),
        torch.tensor(0), np.zeros(1), np.zeros(1, dtype=np.float32), Holds(0), Holds(0, 2),
        Pair(0, 0), (0, 0), torch.float32, nn.Linear(1, 1), nn.Identity(), nn.ReLU(),
        {"torch": "float32"}, {"a.b": 1}, {"a": {"b": 1}}, Given({}), Given({"w": ONE}),
    ]  # fmt: skip
    digests = [Question.of(it=value).digest for value in values]
    assert len(set(digests)) == len(digests)


def test_differences_name_what_was_and_what_is() -> None:
    one = described(NoisySGD(0.1, 5, 1.0, 100), "it", {})
    other = described(replace(NoisySGD(0.1, 5, 1.0, 100), rate=0.2, n_steps=6), "it", {})
    assert list(differences({"it": one, "m": 3}, {"it": other})) == [
        "it.n_steps was 5, now it is 6",
        "it.rate was 0.1, now it is 0.2",
        "m was 3, now it is None",
    ]


def test_the_order_of_a_set_in_a_network_is_no_part_of_the_question() -> None:
    """diffusers lists the names of its defaults in the order of a process's hashes."""
    network = Denoiser(DenoiserConfig.preset("tiny", (1, 8, 8), 10, prior_bands=3))
    defaults = sorted(network.unet.config["_use_default_values"])
    assert len(defaults) > 10
    asked = set()
    for order in (defaults, defaults[::-1]):
        network.unet.register_to_config(_use_default_values=order)
        assert list(network.unet.config["_use_default_values"]) == order
        asked.add(Question.of(network=network).digest)
    network.unet.register_to_config(_use_default_values=defaults[1:])
    assert len(asked) == 1 and Question.of(network=network).digest not in asked


SAME = (  # in this process and in another one, as training has it
    "torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False; "
    "torch.manual_seed(0); "
    "network = Denoiser(DenoiserConfig.preset('tiny', (1, 8, 8), 10, prior_bands=3)); "
    "digest = Question.of(network=network).digest"
)


def test_another_process_asks_the_same_question_of_the_same_network() -> None:
    """Whatever the seed of its hashes: names of a set have another order there."""
    code = (
        "import torch; from dpgen.networks.denoiser import Denoiser, DenoiserConfig; "
        f"from dpgen.privacy.mechanisms.question import Question; {SAME}; print(digest)"
    )
    seed = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"
    told = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed},
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    here: dict[str, Any] = {}
    with torch.random.fork_rng():
        exec(SAME, globals(), here)
    assert told.strip() == here["digest"]
