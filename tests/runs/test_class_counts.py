"""Class counts of a run: what its noisy tables hold, weighted by precision, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from dpgen.networks.fixed.colour_cosines import ColourCosines
from dpgen.networks.fixed.fourier import FourierFeatures
from dpgen.networks.fixed.gabor import GaborFeatures
from dpgen.networks.labeller import Axes
from dpgen.privacy.mechanisms.declared import NoisySum
from dpgen.privacy.mechanisms.noisy_sum import add_statistic
from dpgen.runs.checkpoint import Checkpoints
from dpgen.runs.class_counts import (
    ClassCounts,
    keep_class_counts,
    read_class_counts,
    released_counts,
)
from dpgen.stages.embedding import ClassEmbeddings
from dpgen.stages.label_moments import LabelMoments
from dpgen.stages.moments import ClassMeans
from dpgen.stages.spectrum_moments import SpectrumCentre

NAMES = ("ill", "well", "unclear")
FEATURES = FourierFeatures(16, 10, (0.5,))
STAGES = {
    "one": NoisySum(ClassEmbeddings(FEATURES, 3), 2.0),
    "two": NoisySum(ClassMeans((1, 4, 4), 3, 0.0, 8.0, 1.0), 3.0),
}


@pytest.mark.parametrize("name", [*STAGES, "labeller", "spectrum"])
def test_the_last_column_of_every_counting_statistic_counts_the_records_of_a_class(
    name: str,
) -> None:
    pixels = torch.rand(60, 1, 4, 4, generator=torch.Generator().manual_seed(0)) * 2 - 1
    labels = torch.tensor([0] * 10 + [1] * 20 + [2] * 30)
    if name == "labeller":
        gabor = GaborFeatures((1, 4, 4))
        axes = Axes.fitted(gabor(pixels), 5)
        stage = NoisySum(LabelMoments(gabor, 3, 5).along(axes), 2.0)
    elif name == "spectrum":
        stage = NoisySum(SpectrumCentre(ColourCosines((1, 4, 4), 3), 3), 2.0)
    else:
        stage = STAGES[name]
    tables = {
        k: torch.zeros(shape, dtype=torch.float64) for k, shape in stage.statistic.tables.items()
    }
    add_statistic(stage, tables, pixels, labels, torch.ones(60, dtype=torch.bool))
    held = tables["counts" if name == "spectrum" else "sums"]
    counts = held[:, -1] / stage.statistic.count_scale
    assert counts.tolist() == pytest.approx([10, 20, 30], rel=1e-4)


@pytest.fixture
def checkpoints(tmp_path: Path) -> Checkpoints:
    """Both stages finished, with counts 10, 20, 30 in the first and 16, 26, 36 in the second."""
    held = Checkpoints(tmp_path / "checkpoint")
    for (label, stage), first in zip(STAGES.items(), (10.0, 16.0), strict=True):
        sums = torch.randn(stage.statistic.tables["sums"], dtype=torch.float64)
        sums[:, -1] = stage.statistic.count_scale * torch.tensor([first, first + 10, first + 20])
        held.save(label, {"sums": sums}, step=1)
    return held


def test_counts_of_several_releases_are_weighted_by_their_precision(
    checkpoints: Checkpoints,
) -> None:
    counts = released_counts(STAGES, checkpoints)
    assert counts is not None
    first, second = (s.noise_std / s.statistic.count_scale for s in STAGES.values())
    assert counts.standard_deviation == pytest.approx((first**-2 + second**-2) ** -0.5)
    shift = 6 * second**-2 / (first**-2 + second**-2)
    step = counts.standard_deviation / 16
    for found, true in zip(counts.counts, (10, 20, 30), strict=True):
        assert abs(found - true - shift) <= step / 2
        assert found / step == pytest.approx(round(found / step))


def test_counts_wait_for_every_release_that_has_them(checkpoints: Checkpoints) -> None:
    with pytest.raises(RuntimeError, match="'three' is not finished"):
        released_counts({**STAGES, "three": STAGES["one"]}, checkpoints)
    assert released_counts({}, checkpoints) is None


def test_the_file_is_read_as_it_was_written_and_one_class_has_none(
    checkpoints: Checkpoints, tmp_path: Path
) -> None:
    keep_class_counts(tmp_path, STAGES, checkpoints, NAMES)
    assert read_class_counts(tmp_path, NAMES) == released_counts(STAGES, checkpoints)
    keep_class_counts(tmp_path / "checkpoint", STAGES, checkpoints, ("all",))
    assert not (tmp_path / "checkpoint" / "class_counts.json").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": "dpgen-class-counts/2"}, "must be a table of schema dpgen-class-counts/1"),
        ({"counts": {"ill": 1.0}}, "must count each class"),
        ({"counts": [1.0, 2.0, 3.0]}, "must count each class"),
        ({"counts": dict.fromkeys(NAMES, True)}, "must hold numbers, got True"),
        ({"standard_deviation": 0}, "must be greater than 0"),
        ({"standard_deviation": None}, "must hold numbers, got None"),
    ],
    ids=["schema", "few", "list", "truth", "zero", "none"],
)
def test_a_file_that_no_run_writes_is_refused(
    change: dict[str, object], message: str, tmp_path: Path
) -> None:
    table = {"schema": "dpgen-class-counts/1", "counts": dict.fromkeys(NAMES, 2.5),
             "standard_deviation": 1.5}  # fmt: skip
    path = tmp_path / "class_counts.json"
    path.write_text(json.dumps(table))
    assert read_class_counts(tmp_path, NAMES).counts == (2.5, 2.5, 2.5)
    path.write_text(json.dumps(table | change))
    with pytest.raises(ValueError, match=message):
        read_class_counts(tmp_path, NAMES)


def test_shares_are_proportions_and_nearly_equal_where_the_noise_hides_the_counts() -> None:
    assert ClassCounts((600.0, 300.0, 100.0), 0.01).shares(1000) == pytest.approx((0.6, 0.3, 0.1))
    assert ClassCounts((360.0, 290.0, 340.0), 60.0).shares(990) == pytest.approx([1 / 3] * 3)
    assert ClassCounts((990.0, -40.0, 40.0), 1.0).shares(990)[1] == 0.0
    assert ClassCounts((-9.0, -9.0), 0.1).shares(1) == (0.5, 0.5)


def test_counts_that_have_a_table_of_their_own_are_read_there(tmp_path: Path) -> None:
    held = Checkpoints(tmp_path / "checkpoint")
    stages = {"spectrum centre": NoisySum(SpectrumCentre(ColourCosines((1, 4, 4), 3), 3), 2.0)}
    scale = stages["spectrum centre"].statistic.count_scale
    table = scale * torch.tensor([[10.0], [20.0], [30.0]], dtype=torch.float64)
    held.save("spectrum centre", {"sum": torch.ones(1, 6), "counts": table}, step=1)
    counts = released_counts(stages, held)
    assert counts is not None and counts.standard_deviation == pytest.approx(2.0 / scale)
    assert counts.counts == pytest.approx((10, 20, 30), abs=counts.standard_deviation / 32)
