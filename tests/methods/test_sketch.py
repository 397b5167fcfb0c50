"""PGE mode sketch: neighbour replay of the whole fit, resuming, certificate, samples."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from dpgen import PGE, Budget, PGESettings
from dpgen.data.private import PrivateDataset
from dpgen.data.sources import read_images
from dpgen.generator.draw import Draw
from dpgen.generator.drawing import BLOCK
from dpgen.images.images import PublicFacts, to_uint8
from dpgen.methods.loading import load
from dpgen.networks.proposer import Proposer
from dpgen.privacy.verification.verify import verify
from dpgen.settings import from_dict, plain
from dpgen.stages.classifier_settings import ClassifierSettings
from dpgen.stages.sketch import SketchSettings
from dpgen.stages.spectrum_settings import SpectrumSettings
from dpgen.stages.teacher_settings import TeacherSettings
from dpgen.synthetic.synthesise import synthesise
from dpgen.training.refit import RefitSettings
from samplers import DDIM, Annealed, Karras
from tests.methods import test_replay as replay
from tests.methods.stopped import Stopped, assert_same_networks, stop_after

live = replay.live
STAGES = {"sketch": {"sketch 1", "sketch 2"}}
DDIM2 = Annealed(Karras(2, sigma_min=0.1, sigma_max=3.0), DDIM())
STAGES["labelled"] = {*STAGES["sketch"], "label moments"}
STAGES["spectrum"] = {"spectrum centre", "spectrum scale", "spectrum moments"}
STAGES["labelled spectrum"] = {*STAGES["spectrum"], "label moments"}
STAGES["classified"] = {*STAGES["sketch"], "classifier"}
STAGES["classified spectrum"] = {*STAGES["spectrum"], "classifier"}
# States that a run saves: every release, and what is made of it.
STATES = {"labelled": 7, "spectrum": 6}


def tiny(name: str) -> PGE:
    share = 0.2 if "labelled" in name else 0.0
    classifier = ClassifierSettings(share=0.3, n_steps=4) if "classified" in name else None
    if "spectrum" in name:
        bands = SpectrumSettings(bands=3, own_spread=True)
        augment = "both" if "labelled" in name else None
        sketch = SketchSettings(
            labeller_share=share, n_samples=60, spectrum=bands, augment=augment,
            classifier=classifier,
        )  # fmt: skip
    else:
        sketch = SketchSettings(
            n_steps=(2, 2), labeller_share=share, n_per_class=4, n_frequencies=12,
            n_hidden_frequencies=6, n_samples=60, classifier_steps=2, kind="decoder",
            classifier=classifier,
        )  # fmt: skip
    score = RefitSettings(bands=4, n_samples=40, n_steps=2, batch_size=8)
    settings = PGESettings(mode="sketch", sketch=sketch, score=score)
    return PGE(budget=Budget(3.0, 1e-3), settings=settings)


@pytest.fixture
def untrained() -> Callable[[str], PGE]:
    """Tiny PGE in mode sketch by whether it has a labeller: what `live` fits."""
    return tiny


# Together these ask for every kind of release.
EVERY = ("labelled", "classified spectrum")


@pytest.mark.parametrize(
    "name", [x if x in EVERY else pytest.param(x, marks=pytest.mark.slow) for x in STAGES]
)
def test_an_added_record_moves_every_release_by_at_most_its_bound_and_shows_in_nothing_released(
    name: str,
    live: Callable[..., replay.World],
    records: Any,  # noqa: ANN401
) -> None:
    without = live(name, records)
    found = replay.moved_by_added(live, name, records, without, replay.CANARIES, STAGES[name])
    reached = replay.reached(found)
    # What the moments of a spectrum reach hangs on the released scale: tests/stages has the worst.
    reached.pop("spectrum moments", None)
    # And a gradient is as long as the clip norm where a record's class is thought impossible.
    assert reached.pop("classifier", 1.0) > 0.8
    assert min(reached.values()) >= 0.99, reached


@pytest.mark.parametrize(
    "name", ["spectrum", pytest.param("labelled", marks=pytest.mark.slow)]
)
def test_a_replaced_record_moves_every_release_by_at_most_twice_its_bound(
    name: str,
    live: Callable[..., replay.World],
    records: Any,  # noqa: ANN401
) -> None:
    base, last = records.but_last(), replay.N_RECORDS - 1
    first = live(name, base.plus(replay.WHITE, 0), adjacency="replace_one", canary=last)
    other = base.plus(replay.BLACK, 1)
    world = live(name, other, adjacency="replace_one", canary=last, forced=first)
    replay.assert_released_alike(first, world)
    moved = replay.movements(first, world)
    assert all(max(values) <= 2.0 for values in moved.values())
    moved.pop("spectrum moments", None)  # short of its bound, as above
    assert all(max(values) > 1.0 for values in moved.values()), moved


@pytest.mark.parametrize(
    ("name", "after"), [(name, k + 1) for name, n in STATES.items() for k in range(n)]
)
def test_a_run_stopped_after_any_checkpoint_goes_on_to_the_same_networks_and_pays_once(
    name: str,
    after: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    dataset: Callable[..., PrivateDataset],
    records: Any,  # noqa: ANN401
) -> None:
    """One key for all, so that a run that nothing stopped is the oracle."""
    monkeypatch.setattr("dpgen.privacy.lineage.keys.new_key", lambda: b"k" * 32)
    monkeypatch.setenv("DPGEN_HOME", str(tmp_path / "oracle home"))
    oracle = tiny(name).fit(dataset(records), out=tmp_path / "oracle", seed=1)
    monkeypatch.setenv("DPGEN_HOME", str(tmp_path / "home"))

    data = dataset(records)
    with monkeypatch.context() as patch:
        stop_after(patch, lambda names: len(names) == after)
        with pytest.raises(Stopped):
            tiny(name).fit(data, out=tmp_path / "run", seed=1)
    generator = tiny(name).fit(dataset(records), out=tmp_path / "run", seed=1)
    assert not any(check.failed for check in verify(tmp_path / "run"))
    assert generator.privacy["data_set"]["runs"] == 1
    assert {k: v["executed"] for k, v in generator.privacy["releases"].items()} == dict.fromkeys(
        STAGES[name], 1
    )
    assert not list(tmp_path.rglob("*.key"))
    assert_same_networks(oracle, generator)


@pytest.mark.parametrize("name", ["labelled", "spectrum"])
def test_what_is_loaded_draws_the_same_images_however_many_are_asked_for(
    name: str,
    tmp_path: Path,
    dataset: Callable[..., PrivateDataset],
    records: Any,  # noqa: ANN401
) -> None:
    generator = tiny(name).fit(dataset(records), out=tmp_path / "run", seed=1)
    again = load(tmp_path / "run")
    assert isinstance(again.networks["proposals"], Proposer)
    assert "Hamiltonian" in repr(generator.default_sampler())  # draws noise on its way
    few = generator.sample(20, generator=torch.Generator().manual_seed(3))
    many = again.sample(BLOCK + 10, generator=torch.Generator().manual_seed(3))
    assert torch.equal(few.pixels, many.pixels[:20])
    assert torch.equal(few.labels, many.labels[:20])


def test_the_default_sampler_starts_at_proposals_given_or_not_and_in_files_too(
    tmp_path: Path,
    dataset: Callable[..., PrivateDataset],
    records: Any,  # noqa: ANN401
) -> None:
    generator = tiny("labelled").fit(dataset(records), out=tmp_path / "run", seed=1)
    rng = torch.Generator().manual_seed
    silent = generator.sample(BLOCK, generator=rng(3))
    given = generator.sample(BLOCK, generator=rng(3), sampler=generator.default_sampler())
    assert torch.equal(silent.pixels, given.pixels)
    synthesise(tmp_path / "run", BLOCK, tmp_path / "set", layout="npz", seed=3)
    written = read_images(tmp_path / "set", split="all")
    assert torch.equal(to_uint8(written.pixels), to_uint8(silent.pixels))
    synthetic = json.loads((tmp_path / "set" / "privacy.json").read_text())["synthetic_dataset"]
    assert synthetic["start"] == "proposals" and "labeller" in synthetic["filters"]
    other = generator.sample(BLOCK, generator=rng(3), sampler=DDIM2)
    assert not torch.allclose(other.pixels, silent.pixels, atol=1e-3)


def test_guidance_by_the_labeller_raises_its_own_opinion_and_is_written_down(
    tmp_path: Path,
    dataset: Callable[..., PrivateDataset],
    records: Any,  # noqa: ANN401
) -> None:
    generator = tiny("labelled").fit(dataset(records), out=tmp_path / "run", seed=1)
    assert generator.labeller is not None
    rng = torch.Generator().manual_seed

    def opinion(weight: float) -> float:
        drawn = generator.sample(60, generator=rng(3), sampler=DDIM2, labeller_guidance=weight)
        logits = generator.labeller(drawn.pixels).log_softmax(1)
        return float(logits.gather(1, drawn.labels[:, None]).mean())

    # A small weight: a labeller of 40 records is loud, and steps are only first order.
    less, none, more = (opinion(weight) for weight in (-1e-4, 0.0, 1e-4))
    assert more - none > 1 and none - less > 1
    assert more - none == pytest.approx(none - less, rel=0.3)
    synthesise(tmp_path / "run", 5, tmp_path / "set", Draw(labeller_guidance=2.0), seed=3)
    synthetic = json.loads((tmp_path / "set" / "privacy.json").read_text())["synthetic_dataset"]
    assert synthetic["labeller_guidance"] == 2.0
    with pytest.raises(ValueError, match="guidance must be a finite number, got nan"):
        generator.sample(5, guidance=float("nan"))


def test_guidance_by_a_labeller_that_is_not_there_is_refused(
    tmp_path: Path,
    dataset: Callable[..., PrivateDataset],
    records: Any,  # noqa: ANN401
) -> None:
    tiny("sketch").fit(dataset(records), out=tmp_path / "bare", seed=1)
    with pytest.raises(ValueError, match="labeller_guidance must be 0, got 2.0"):
        synthesise(tmp_path / "bare", 5, tmp_path / "none", Draw(labeller_guidance=2.0))
    assert not (tmp_path / "none").exists()


def test_every_share_of_the_budget_is_spent_and_no_more() -> None:
    facts = PublicFacts((1, 8, 8), ("a", "b"), 900)
    for name in STAGES:
        plan = tiny(name).plan(facts)
        assert {stage.label for stage in plan.stages} == STAGES[name]
        assert 2.99 <= plan.epsilon(1e-3) <= 3.0


def test_settings_of_another_mode_are_refused() -> None:
    with pytest.raises(ValueError, match=r"sketch\.\* are settings of mode sketch"):
        PGESettings(mode="dpsgd", sketch=SketchSettings())
    with pytest.raises(ValueError, match="n_steps must be 2 numbers"):
        SketchSettings(n_steps=(5,))


@pytest.mark.parametrize(
    ("shape", "n", "spectral"),
    [
        ((1, 8, 8), 1437, False),
        ((1, 28, 28), 60_000, False),
        ((1, 28, 28), 4708, True),
        ((1, 32, 40), 60_000, True),
        ((3, 8, 8), 60_000, True),
    ],
)
def test_images_that_are_unlike_the_digits_have_a_spectrum_unless_something_else_is_set(
    shape: tuple[int, int, int], n: int, spectral: bool
) -> None:
    facts = PublicFacts(shape, ("a", "b"), n)
    filled = SpectrumSettings(bands=14, own_spread=True)
    chosen = (
        SketchSettings(kind="spectrum", augment="none", spectrum=filled) if spectral
        else SketchSettings(kind="decoder", augment="warp")
    )  # fmt: skip
    resolved = PGESettings(mode="sketch").resolved(facts)
    assert resolved.sketch == chosen
    asked = PGESettings(mode="sketch", sketch=SketchSettings(labeller_share=0.2))
    assert asked.resolved(facts).sketch == dataclasses.replace(chosen, labeller_share=0.2)
    decoded = SketchSettings(kind="decoder", n_frequencies=100, augment="mirror")
    assert PGESettings(mode="sketch", sketch=decoded).resolved(facts).sketch == decoded
    assert PGESettings.resolved(resolved, facts) == resolved
    assert resolved.sampler.sigma_max == (0.02 if spectral else 0.3)


def test_a_configuration_from_before_the_spectrum_gives_the_stages_that_it_gave() -> None:
    facts = PublicFacts((3, 8, 8), ("a", "b"), 900)
    held = plain(dataclasses.asdict(PGESettings(mode="sketch", sketch=SketchSettings())))
    for later in ("spectrum", "kind", "augment"):
        del held["sketch"][later]
    settings = from_dict(PGESettings, held, held=True).resolved(facts)
    labels = [stage.label for stage in settings.plan(facts, Budget(1.0, 1e-5)).stages]
    assert labels == ["sketch 1", "sketch 2"]
    assert settings.sketch is not None and settings.sketch.augment == "warp"
    held["sketch"]["spectrum"] = dataclasses.asdict(SpectrumSettings(bands=4, own_spread=False))
    settings = from_dict(PGESettings, held, held=True).resolved(facts)
    assert settings.sketch is not None and settings.sketch.kind == "spectrum"
    held["sketch"]["n_steps"] = [5, 5]  # which a spectrum took, and took no notice of
    assert from_dict(PGESettings, held, held=True).resolved(facts) == settings
    assert (settings.sketch.augment, settings.sketch.warps) == ("none", 0.0)


def test_a_setting_that_the_images_have_no_use_for_is_refused() -> None:
    colour, digits = (PublicFacts(shape, ("a", "b"), 900) for shape in ((3, 8, 8), (1, 8, 8)))
    asked = PGESettings(mode="sketch", sketch=SketchSettings(n_frequencies=100))
    with pytest.raises(ValueError, match=r"n_frequencies is .* 3x8x8 .* sketch.kind=decoder"):
        asked.resolved(colour)
    assert asked.resolved(digits).sketch is not None
    with pytest.raises(ValueError, match="augment must be one of none, warp, mirror, both"):
        SketchSettings(augment="flip")
    with pytest.raises(ValueError, match="spectrum.* are settings of kind spectrum"):
        SketchSettings(kind="decoder", spectrum=SpectrumSettings())


@pytest.mark.parametrize("name", ["sketch", "score"])
def test_fewer_samples_than_two_of_each_class_are_refused_before_anything_is_paid(
    name: str,
) -> None:
    facts = PublicFacts((1, 8, 8), ("a", "b", "c"), 900)
    generator = tiny("labelled")
    part = dataclasses.replace(getattr(generator.settings, name), n_samples=5)
    few = PGE(
        budget=generator.budget, settings=dataclasses.replace(generator.settings, **{name: part})
    )
    with pytest.raises(ValueError, match=rf"{name}.n_samples must be .* 6, got 5"):
        few.plan(facts)
    warm = TeacherSettings(warm_start="sketch", sketch=SketchSettings(n_samples=5))
    with pytest.raises(ValueError, match="sketch.n_samples"):
        PGE(budget=generator.budget, settings=PGESettings(teacher=warm)).plan(facts)
