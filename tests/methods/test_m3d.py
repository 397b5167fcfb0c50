"""M3D: neighbour replay of the whole fit, resuming, certificate, and images that are drawn in turn.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from dpgen.configurations.m3d import CondensedSettings, M3DSettings
from dpgen.data.private import PrivateDataset
from dpgen.data.sources import read_images
from dpgen.images.facts import PublicFacts
from dpgen.images.images import to_uint8
from dpgen.methods.loading import load
from dpgen.methods.m3d import M3D
from dpgen.methods.planned import planned_check
from dpgen.networks.condensed import Condensed
from dpgen.networks.fixed.random_encoder import RandomEncoder
from dpgen.networks.hidden_features import HiddenFeatures
from dpgen.privacy.accounting.accountant import Budget
from dpgen.privacy.mechanisms.declared import NoisySum
from dpgen.privacy.verification.verify import verify
from dpgen.runs.checkpoint import Checkpoints
from dpgen.settings import from_dict
from dpgen.stages.embedding import ClassEmbeddings, StackedFeatures
from dpgen.stages.stacked_plan import EmbeddingSettings
from dpgen.synthetic.synthesise import synthesise
from tests.commands import dpgen
from tests.methods import test_replay as replay
from tests.methods.stopped import Stopped, assert_same_networks, stop_after

live = replay.live
N = 3  # images of each class
ROUNDS = ("embeddings", "embeddings 2")


def tiny(name: str = "m3d") -> M3D:
    """The method with few features and images, by whether its stored images are cut in four."""
    settings = M3DSettings(
        embedding=EmbeddingSettings(
            n_pixel_frequencies=6, n_encoders=1, width=4, n_frequencies=6,
            n_hidden_frequencies=4, n_samples=40, classifier_steps=2,
        ),
        condensed=CondensedSettings(
            images_per_class=N, n_steps=3, factor=2 if name == "cut in four" else 1
        ),
    )
    return M3D(budget=Budget(3.0, 1e-3), settings=settings)


@pytest.fixture
def untrained() -> Callable[[str], M3D]:
    """What `live` fits."""
    return tiny


@pytest.fixture
def run(tmp_path: Path, dataset: Callable[..., PrivateDataset], records: Any) -> Path:  # noqa: ANN401
    tiny().fit(dataset(records), out=tmp_path / "run", seed=1)
    return tmp_path / "run"


def test_an_added_record_moves_the_release_by_at_most_its_bound_and_shows_in_nothing_released(
    live: Callable[..., replay.World],
    records: Any,  # noqa: ANN401
) -> None:
    without = live("cut in four", records)
    replay.assert_priced(without)
    for pixels, label in replay.CANARIES.values():
        world = live("cut in four", records.plus(pixels, label), forced=without)
        replay.assert_released_alike(without, world)
        moved = replay.movements(without, world)
        assert tuple(moved) == ROUNDS
        assert all(0.99 <= max(values) <= 1.0 for values in moved.values())


def test_a_replaced_record_moves_the_release_by_at_most_twice_its_bound(
    live: Callable[..., replay.World],
    records: Any,  # noqa: ANN401
) -> None:
    base, last = records.but_last(), replay.N_RECORDS - 1
    first = live("m3d", base.plus(replay.WHITE, 0), adjacency="replace_one", canary=last)
    other = base.plus(replay.BLACK, 1)
    world = live("m3d", other, adjacency="replace_one", canary=last, forced=first)
    replay.assert_released_alike(first, world)
    moved = replay.movements(first, world)
    assert tuple(moved) == ROUNDS
    assert all(1.0 < max(values) <= 2.0 for values in moved.values())


@pytest.mark.parametrize("after", [1, 2, 4, 5, 6, 8])
def test_a_run_stopped_after_any_checkpoint_goes_on_to_the_same_images_and_pays_once(
    after: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    dataset: Callable[..., PrivateDataset],
    records: Any,  # noqa: ANN401
) -> None:
    monkeypatch.setattr("dpgen.privacy.lineage.keys.new_key", lambda: b"k" * 32)
    monkeypatch.setattr(Checkpoints, "due", lambda states: True)
    monkeypatch.setenv("DPGEN_HOME", str(tmp_path / "oracle home"))
    oracle = tiny().fit(dataset(records), out=tmp_path / "oracle", seed=1)
    monkeypatch.setenv("DPGEN_HOME", str(tmp_path / "home"))

    with monkeypatch.context() as patch:
        saved = stop_after(patch, lambda names: len(names) == after)
        with pytest.raises(Stopped):
            tiny().fit(dataset(records), out=tmp_path / "run", seed=1)
    one, other = (f"condensed set {k}" for k in (1, 2))
    assert saved == ["embeddings", *3 * [one], "features 2", "embeddings 2", *3 * [other]][:after]
    generator = tiny().fit(dataset(records), out=tmp_path / "run", seed=1)
    assert not any(check.failed for check in verify(tmp_path / "run"))
    assert generator.privacy["data_set"]["runs"] == 1
    once = {"charged": 1, "executed": 1}
    assert generator.privacy["releases"] == dict.fromkeys(ROUNDS, once)
    assert_same_networks(oracle, generator)


def test_the_question_of_the_second_round_is_written_down_and_not_made_up_again(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    dataset: Callable[..., PrivateDataset],
    records: Any,  # noqa: ANN401
) -> None:
    """Made again on another machine it would be another question."""
    with monkeypatch.context() as patch:
        stop_after(patch, lambda names: names[-1] == "features 2")
        with pytest.raises(Stopped):
            tiny().fit(dataset(records), out=tmp_path / "run", seed=1)

    def again(*_: Any, **__: Any) -> Any:  # noqa: ANN401
        raise AssertionError("the question was made up again")

    monkeypatch.setattr(HiddenFeatures, "learned", again)
    tiny().fit(dataset(records), out=tmp_path / "run", seed=1)


def test_a_set_as_large_as_the_condensed_one_holds_each_image_once_and_a_larger_one_says_so(
    run: Path, tmp_path: Path
) -> None:
    generator = load(run)
    assert not any(check.failed for check in [*verify(run), planned_check(run)])
    assert f"next: dpgen sample {run} -n {3 * N} " in dpgen("verify", run).stderr
    network = generator.networks["model"]
    assert isinstance(network, Condensed) and generator.class_shares is not None
    assert generator.n_distinct == 3 * N
    once = synthesise(run, 3 * N, tmp_path / "once", layout="npz", seed=4)
    assert once["synthetic_dataset"]["repeats"] == "none"
    assert not any(check.failed for check in verify(tmp_path / "once"))
    written = read_images(tmp_path / "once", split="all")
    with torch.no_grad():
        held = network().transpose(0, 1).flatten(0, 1)
    assert torch.equal(to_uint8(written.pixels), to_uint8(held))
    assert written.labels.tolist() == [0, 1, 2] * N
    more = synthesise(run, 70, tmp_path / "more", layout="npz", seed=5)
    assert "one stands here up to 8 times, changed at" in more["synthetic_dataset"]["repeats"]
    drawn = read_images(tmp_path / "more", split="all")
    assert torch.equal(to_uint8(drawn.pixels[: 3 * N]), to_uint8(held))
    again = drawn.pixels[3 * N : 6 * N]
    assert not any(torch.equal(one, other) for one, other in zip(again, held, strict=True))
    page = (tmp_path / "more" / "README.md").read_text()
    assert "Images repeat: the model holds 3 images of each class" in page
    assert "Images repeat" not in (tmp_path / "once" / "README.md").read_text()


def test_the_first_images_are_the_same_however_many_are_drawn_and_by_however_many_parts(
    run: Path,
) -> None:
    """Blocks are of 32 images: images of the second block know how many were drawn before."""
    generator = load(run)
    few, many = (generator.sample(n, seed=3) for n in (40, 90))
    assert torch.equal(few.pixels, many.pixels[:40])
    second = generator.sample_blocks(
        90, generator=torch.Generator().manual_seed(3), blocks=range(1, 2)
    )
    assert torch.equal(next(iter(second)).pixels, many.pixels[32:64])


def test_commands_say_how_many_images_there_are_and_when_they_repeat(tmp_path: Path) -> None:
    fewer = [f"embedding.n_{name}=2" for name in ("pixel_frequencies", "hidden_frequencies")]
    fewer += ["embedding.n_samples=20", "embedding.classifier_steps=1", "condensed.n_steps=2"]
    small = [f"--set={setting}" for setting in fewer]
    train = ["train", "m3d", "--data", "digits", "--epsilon", 3, "--delta", 1e-4, *small, "-q"]
    trained = dpgen(*train, "--device", "cpu", "--yes", "--out", tmp_path / "run")
    assert trained.exit_code == 0, trained.output
    assert "500 images; whoever draws more gets them again" in trained.stdout
    assert f"next: dpgen sample {tmp_path / 'run'} -n 500 --out" in trained.stderr
    for n, repeats in ((500, False), (501, True)):
        more = ["--format", "npz", "--out", tmp_path / str(n), "-q"]
        drawn = dpgen("sample", tmp_path / "run", "-n", n, *more)
        assert drawn.exit_code == 0
        assert ("Images repeat: the model holds 50 images of each" in drawn.stdout) == repeats


def test_the_rounds_take_the_whole_budget_as_they_were_asked_to_share_it() -> None:
    facts = PublicFacts((1, 8, 8), ("a", "b"), 900)
    plan = tiny().plan(facts)
    assert tuple(stage.label for stage in plan.stages) == ROUNDS
    assert 2.99 <= plan.epsilon(1e-3) <= 3.0
    first, second = (plan.required(label, NoisySum).noise_multiplier for label in ROUNDS)
    assert (second / first) ** 2 == pytest.approx(0.6 / 0.4, rel=1e-3)
    alone = M3DSettings(embedding=EmbeddingSettings(rounds=(5.0,)))
    plan = M3D(budget=Budget(3.0, 1e-3), settings=alone).plan(facts)
    assert [stage.label for stage in plan.stages] == ["embeddings"]
    assert 2.99 <= plan.epsilon(1e-3) <= 3.0


def test_settings_of_a_run_from_before_there_were_rounds_plan_what_it_released() -> None:
    """One release of four random encoders, of the numbers that its folder holds."""
    facts, bandwidths = PublicFacts((1, 8, 8), ("a", "b"), 900), (0.4, 0.8)
    embedding = {"n_encoders": 4, "width": 8, "n_frequencies": 300, "bandwidths": [*bandwidths]}
    condensed = {"images_per_class": 50, "factor": 1, "n_steps": 200, "learning_rate": 0.1}
    values = {"mode": "release", "embedding": embedding, "condensed": condensed}
    (stage,) = from_dict(M3DSettings, values, held=True).plan(facts, Budget(3.0, 1e-3)).stages
    parts = [RandomEncoder((1, 8, 8), 300, bandwidths, 8, seed) for seed in range(4)]
    statistic = ClassEmbeddings(StackedFeatures(tuple(parts)), 2)
    assert isinstance(stage.mechanism, NoisySum)
    assert (stage.label, stage.mechanism.statistic) == ("embeddings", statistic)
    asked = from_dict(M3DSettings, values).plan(facts, Budget(3.0, 1e-3))
    assert len(asked.stages) == 2


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"mode": "sealed"}, "mode of m3d must be 'release', got 'sealed'"),
        ({"condensed": {"images_per_class": 0}}, "images_per_class must be at least 1, got 0"),
        ({"condensed": {"augment": "flip"}}, "augment must be one of none, warp, mirror, both"),
        ({"condensed": {"warp": -1.0}}, "warp must be at least 0, got -1.0"),
        ({"condensed": {"learning_rate": 0.0}}, "learning_rate must be greater than 0"),
        ({"condensed": {"smooth": -0.1}}, "smooth must be at least 0, got -0.1"),
        ({"condensed": {"fit_warp": math.inf}}, "fit_warp must be at least 0, got inf"),
        ({"embedding": {"n_encoders": -1}}, "n_encoders must be at least 0, got -1"),
        (
            {"embedding": {"n_pixel_frequencies": 0}},
            "n_pixel_frequencies or n_encoders must be at least 1",
        ),
        ({"embedding": {"rounds": []}}, "rounds must be shares greater than 0"),
        ({"embedding": {"rounds": [1.0, 0.0]}}, "rounds must be shares greater than 0"),
        ({"embedding": {"hidden_bandwidths": [0]}}, "hidden_bandwidths must be positive"),
        ({"embedding": {"bandwidths": []}}, "bandwidths must be positive"),
    ],
)
def test_settings_that_cannot_be_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_dict(M3DSettings, values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"condensed": {"factor": 9}}, "factor must be at most the shorter side .* 8, got 9"),
        ({"condensed": {"images_per_class": 70_000}}, "numbers must be at most 65536, got 70000"),
        ({"condensed": {"images_per_class": 65_536}}, "condensed must take at most 1,048,576"),
        (
            {"embedding": {"n_encoders": 1, "bandwidths": [1e-320, 0.4]}},
            "finite numbers.* take larger ones",
        ),
        ({"embedding": {"pixel_bandwidths": [1e-320]}}, "finite numbers.* take larger ones"),
        ({"embedding": {"n_samples": 5}}, "embedding.n_samples must be at least 2 for each of 3"),
    ],
    ids=["factor", "number", "size", "bandwidths", "bandwidths of pixels", "samples"],
)
def test_what_could_not_be_released_or_read_again_is_refused_before_anything_is_charged(
    values: dict[str, Any], message: str,
    tmp_path: Path, dataset: Callable[..., PrivateDataset], records: Any,  # noqa: ANN401
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("dpgen.runs.released.LARGEST_NETWORK", 2**20)
    generator = M3D(epsilon=3.0, settings=from_dict(M3DSettings, values))
    with pytest.raises(ValueError, match=message):
        generator.fit(dataset(records), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_warps_are_the_default_of_small_grey_images_alone() -> None:
    digits, colour = (PublicFacts(shape, ("a",), 900) for shape in ((1, 8, 8), (3, 32, 32)))
    assert M3DSettings().resolved(digits).condensed.warps == 1.0
    assert M3DSettings().resolved(colour).condensed.warps == 0.0
    both = M3DSettings(condensed=CondensedSettings(augment="both", warp=0.5)).resolved(colour)
    assert (both.condensed.warps, both.condensed.mirrors) == (0.5, True)
    assert both.condensed.changes == (0.5 * both.condensed.fit_warp, True)
    assert M3DSettings().resolved(colour).condensed.changes == (0.0, False)


def test_the_files_of_a_run_name_what_was_released(run: Path) -> None:
    stages = json.loads((run / "privacy.json").read_text())["mechanism"]["stages"]
    first, second = (stages[label]["statistic"]["features"]["parts"] for label in ROUNDS)
    assert [part["name"] for part in first] == ["FourierFeatures", "RandomEncoder"]
    assert [part["name"] for part in second] == ["HiddenFeatures"]
    assert (run / "class_counts.json").exists()
