from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from dpgen.auditing.isolation import isolation
from dpgen.auditing.replay import Replay, hurried, replay
from dpgen.auditing.stand_ins import neighbours
from dpgen.data.private import PrivateDataset
from dpgen.images.images import PublicFacts
from dpgen.methods.dpdm import DPDM
from dpgen.methods.pge import PGE, PGESettings
from dpgen.privacy.accounting.accountant import Budget
from dpgen.privacy.mechanisms import clipping, declared, noisy_step, noisy_sum, shares
from dpgen.privacy.mechanisms.declared import NoisySGD
from dpgen.privacy.plan import Plan
from dpgen.runs.context import Workplace
from dpgen.stages.classifier_settings import LABEL, ClassifierSettings
from dpgen.stages.moments import ClassMeans
from dpgen.stages.sketch_settings import SketchSettings
from dpgen.stages.spectrum_settings import SpectrumSettings

pytestmark = pytest.mark.usefixtures(
    "one_thread", "home", "remembering_accountant", "small_network", "remembered_axes"
)

FACTS = PublicFacts((1, 8, 8), ("a", "b", "c"), 500)
STAGES = {"class means", "class spread", "teacher"}


@pytest.fixture
def fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three neighbours, which are enough to show what is wrong on purpose."""
    names = ("white", "black", "copy of another record")

    def some(facts: PublicFacts, seed: int) -> Any:  # noqa: ANN401
        first, others = neighbours(facts, seed)
        return first, {name: others[name] for name in names}

    monkeypatch.setattr("dpgen.auditing.replay.neighbours", some)


@pytest.mark.parametrize(
    "adjacency",
    # tests/methods/test_replay.py replaces records of each method
    ["add_remove", pytest.param("replace_one", marks=pytest.mark.slow)],
)
def test_an_honest_generator_passes_and_some_neighbour_uses_up_what_each_stage_declares(
    untrained: Callable[..., Any], adjacency: str
) -> None:
    facts, worlds = replace(FACTS, adjacency=adjacency), []
    found = replay(lambda: untrained("dp-sad"), facts, advance=lambda: worlds.append(1))
    assert found.passed and not found.idle
    assert set(found.moved) == STAGES
    assert found.allowed == (2.0 if adjacency == "replace_one" else 1.0)
    reached = {stage: max(values.values()) for stage, values in found.moved.items()}
    assert min(reached.values()) >= 0.99
    assert len(worlds) == 1 + len(neighbours(facts, 0)[1])
    nothing = [values["of no declared class"] for values in found.moved.values()]
    if adjacency == "add_remove":
        assert nothing == [0.0, 0.0, 0.0]
    else:
        assert max(reached.values()) > 1.2 and min(nothing) > 0


def test_hurried_settings_have_the_same_plan(untrained: Callable[..., Any]) -> None:
    facts = replace(FACTS, n_records=900)
    for generator in (
        untrained("dp-sad", pretrain_steps=7),
        PGE(
            budget=Budget(1.0, 1e-4),
            settings=PGESettings("sketch", sketch=SketchSettings(labeller_share=0.2)),
        ),
        PGE(budget=Budget(1.0, 1e-4)),
    ):
        settings = generator.resolve(facts)
        short = hurried(settings)
        quick = type(generator)(budget=generator.budget, settings=short)
        assert quick.plan(facts) == generator.plan(facts)
        assert short != settings or isinstance(generator, PGE)


@pytest.mark.slow  # tests/methods/test_sketch.py moves records of every kind of sketch
@pytest.mark.usefixtures("fewer")
def test_the_sketch_and_its_labeller_are_replayed_whole() -> None:
    sketch = SketchSettings(
        n_frequencies=40, n_hidden_frequencies=20, n_samples=60, labeller_share=0.3
    )
    budget = Budget(2.0, 1e-4)
    generator = PGE(budget=budget, settings=PGESettings("sketch", sketch=sketch))
    settings = hurried(generator.resolve(FACTS))
    found = replay(lambda: PGE(budget=budget, settings=settings), FACTS)
    assert found.passed and set(found.moved) == {"sketch 1", "sketch 2", "label moments"}
    assert min(max(values.values()) for values in found.moved.values()) >= 0.99


@pytest.mark.slow
@pytest.mark.usefixtures("fewer")
def test_a_spectrum_in_colour_and_its_classifier_are_replayed_whole() -> None:
    facts = replace(FACTS, shape=(3, 8, 8))
    sketch = SketchSettings(
        spectrum=SpectrumSettings(bands=3, own_spread=True),
        classifier=ClassifierSettings(share=0.5, n_steps=3),
    )
    budget = Budget(2.0, 1e-4)
    generator = PGE(budget=budget, settings=PGESettings("sketch", sketch=sketch))
    settings = hurried(generator.resolve(facts))
    found = replay(lambda: PGE(budget=budget, settings=settings), facts)
    assert found.passed and LABEL in found.moved
    assert 0.8 < max(found.moved[LABEL].values()) <= 1.0
    asked = isolation(found.base.asked[LABEL], replace(facts, n_records=10**6))
    assert asked.passed and asked.of_a_sum < 1e-7


class Leaky(DPDM):
    """Reads the records a second time and lets them into the weights."""

    def _learn(self, data: PrivateDataset, plan: Plan, work: Workplace) -> Mapping[str, nn.Module]:
        networks = super()._learn(data, plan, work)
        source = data._source
        pixels, _ = source.read(range(len(source)))
        with torch.no_grad():
            next(networks["model"].parameters()).add_(1e-6 * pixels.float().mean())
        return networks


class Counting(DPDM):
    """Takes the number of records from the records."""

    def _learn(self, data: PrivateDataset, plan: Plan, work: Workplace) -> Mapping[str, nn.Module]:
        networks = super()._learn(data, plan, work)
        with torch.no_grad():
            next(networks["model"].parameters()).mul_(500 / (484 + len(data._source)))
        return networks


class Choosing(DPDM):
    """Stops for a record that none of the neighbours has."""

    def _learn(self, data: PrivateDataset, plan: Plan, work: Workplace) -> Mapping[str, nn.Module]:
        pixels, _ = data._source.read(range(len(data._source)))
        if int(pixels.sum()) == 12_345_678:
            raise RuntimeError("such a record must not be")
        return super()._learn(data, plan, work)


@pytest.mark.usefixtures("fewer")
def test_a_choice_that_no_neighbour_sways_is_seen_by_who_reads_the_records(
    untrained: Callable[..., Any],
) -> None:
    honest = untrained("dpdm")
    found = replay(lambda: Choosing(budget=honest.budget, settings=honest.settings), FACTS)
    assert found.outside == ("Choosing._learn",) and not found.passed
    assert found.largest <= 1 and not any(found.different.values())
    assert replay(lambda: honest, FACTS).outside == ()


class Telling(DPDM):
    """Says the mean pixel, in a file of its own and aloud."""

    def _learn(self, data: PrivateDataset, plan: Plan, work: Workplace) -> Mapping[str, nn.Module]:
        mean = float(data._source.pixels.float().mean())
        notes = work.checkpoints._folder.parents[1] / "notes"
        notes.mkdir()
        (notes / "log.txt").write_text(str(mean))
        print(f"mean pixel {mean}")
        return super()._learn(data, plan, work)


@pytest.mark.usefixtures("fewer")
def test_what_a_run_says_and_writes_beside_its_networks_is_compared_too(
    untrained: Callable[..., Any],
) -> None:
    honest = untrained("dpdm")
    found = replay(lambda: Telling(budget=honest.budget, settings=honest.settings), FACTS)
    assert found.different["white"] == ("notes/log.txt", "what it said")
    assert found.different["copy of another record"]


@pytest.mark.usefixtures("fewer")
def test_noise_that_is_not_the_one_that_is_priced_is_caught(
    untrained: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        declared.NoisySum, "noise_std", property(lambda m: 0.1 * m.noise_multiplier)
    )
    found = replay(lambda: untrained("dpdm"), FACTS)
    assert max(found.moved["class means"].values()) == math.inf
    assert max(found.moved["teacher"].values()) <= 1 and not found.passed


class Asking(DPDM):
    """Plans one step less for an odd number of records."""

    def fit(self, data: PrivateDataset, **given: Any) -> Any:  # noqa: ANN401
        n_steps = self.settings.teacher.n_steps - len(data._source) % 2
        teacher = replace(self.settings.teacher, n_steps=n_steps)
        self.settings = replace(self.settings, teacher=teacher)
        return super().fit(data, **given)


class Stopping(DPDM):
    """Stops for a record that is white all over."""

    def _learn(self, data: PrivateDataset, plan: Plan, work: Workplace) -> Mapping[str, nn.Module]:
        pixels, _ = data._source.read(range(len(data._source)))
        if (pixels == 255).flatten(1).all(1).any():
            sys.exit(0)
        return super()._learn(data, plan, work)


@pytest.mark.usefixtures("fewer")
def test_a_run_that_stops_for_a_record_is_a_violation_and_no_crash(
    untrained: Callable[..., Any],
) -> None:
    honest = untrained("dpdm")
    found = replay(lambda: Stopping(budget=honest.budget, settings=honest.settings), FACTS)
    assert not found.passed and found.different["white"] == ("an exception (SystemExit)",)
    assert found.different["black"] == ()


@pytest.mark.usefixtures("fewer")
def test_a_neighbour_that_is_asked_something_else_is_a_violation_and_no_crash(
    untrained: Callable[..., Any],
) -> None:
    honest = untrained("dpdm")
    found = replay(lambda: Asking(budget=honest.budget, settings=honest.settings), FACTS)
    assert not found.passed and found.largest == math.inf
    assert "what the plan does not hold" in found.moved


@pytest.mark.usefixtures("fewer")
@pytest.mark.parametrize("kind", [Leaky, Counting])
def test_what_goes_past_the_mechanisms_shows_in_what_is_released(
    kind: type[DPDM], untrained: Callable[..., Any]
) -> None:
    honest = untrained("dpdm")
    found = replay(lambda: kind(budget=honest.budget, settings=honest.settings), FACTS)
    assert not found.passed
    assert found.largest <= 1, "before the noise there is nothing to see"
    assert "model.safetensors" in found.different["white"]


def _moved(untrained: Callable[..., Any], stage: str) -> tuple[Replay, float]:
    found = replay(lambda: untrained("dpdm"), FACTS)
    return found, max(found.moved[stage].values())


@pytest.mark.usefixtures("fewer")
def test_gradients_that_are_not_clipped_are_caught(
    untrained: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clipping, "clip_factors", lambda norms, bound: torch.ones_like(norms))
    found, moved = _moved(untrained, "teacher")
    assert not found.passed and moved > 2


@pytest.mark.usefixtures("fewer")
def test_a_clip_norm_that_is_larger_than_declared_is_caught(
    untrained: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    clipped = clipping.clip_factors
    monkeypatch.setattr(clipping, "clip_factors", lambda n, bound: clipped(n, 1.02 * bound))
    found, moved = _moved(untrained, "teacher")
    assert not found.passed and moved == pytest.approx(1.02, rel=1e-3)


@pytest.mark.usefixtures("fewer")
def test_a_statistic_that_passes_its_bound_is_held_by_the_mechanism_and_caught_without_it(
    untrained: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    call = ClassMeans.__call__

    def longer(statistic: Any, pixels: torch.Tensor, labels: torch.Tensor) -> Any:  # noqa: ANN401
        blocks = call(statistic, pixels, labels)
        return {name: replace(b, values=1.5 * b.values) for name, b in blocks.items()}

    monkeypatch.setattr(ClassMeans, "__call__", longer)
    found, moved = _moved(untrained, "class means")
    assert found.passed and moved >= 0.99
    monkeypatch.setattr(noisy_sum, "clip_factors", lambda norms, bound: torch.ones_like(norms))
    found, moved = _moved(untrained, "class means")
    assert not found.passed and moved > 1.4


@pytest.mark.usefixtures("fewer")
def test_a_denominator_that_follows_the_batch_is_caught(
    untrained: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    gradient = noisy_step.NoisyStep.gradient

    def by_batch(step: Any, *given: Any) -> Any:  # noqa: ANN401
        answer, constant = gradient(step, *given), step._mechanism.expected_batch
        return {k: t * constant / len(step._slots) for k, t in answer.items()}

    monkeypatch.setattr(noisy_step.NoisyStep, "gradient", by_batch)
    found, _ = _moved(untrained, "teacher")
    assert not found.passed
    assert {"model.safetensors", "what it asked"} <= {*found.different["black"]}


def test_records_that_mix_are_caught(
    untrained: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As batch norm does: every record's statistic depends on the others of its micro-batch."""
    call = ClassMeans.__call__

    def normalised(statistic: Any, pixels: torch.Tensor, labels: torch.Tensor) -> Any:  # noqa: ANN401
        return call(statistic, pixels - pixels.mean(0), labels)

    monkeypatch.setattr(ClassMeans, "__call__", normalised)
    found, moved = _moved(untrained, "class means")
    assert not found.passed and moved > 1.01


@pytest.mark.usefixtures("fewer")
def test_a_release_that_only_one_world_makes_is_caught(
    untrained: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = NoisySGD.steps

    def early(mechanism: NoisySGD, records: Any, *given: Any, **named: Any) -> Any:  # noqa: ANN401
        """Stops early on data that it likes."""
        answers = steps(mechanism, records, *given, **named)
        return iter([next(answers)]) if records.n_slots % 2 else answers

    monkeypatch.setattr(NoisySGD, "steps", early)
    found = replay(lambda: untrained("dpdm"), FACTS)
    assert not found.passed and found.largest == float("inf")


@pytest.mark.usefixtures("fewer")
def test_a_stage_that_no_neighbour_moves_is_named(
    untrained: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shares, "add_clipped", lambda *given: None)
    found = replay(lambda: untrained("dpdm"), FACTS)
    assert found.idle == ("teacher",)
