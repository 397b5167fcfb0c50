"""A method, a sampler, an input format, an output format, a metric and a preset are each one file
and one row: a toy of each kind is added through the public tables alone, and used by the commands.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from dpgen.data.formats.table import FORMATS, Row
from dpgen.evaluation import metrics
from dpgen.evaluation.metrics import METRICS
from dpgen.methods import METHODS, Method
from dpgen.networks.denoiser_config import PRESETS, Preset
from samplers import SAMPLERS
from tests.additions import input_format, metric, sampler
from tests.commands import dpgen

pytestmark = pytest.mark.usefixtures("home", "one_thread")

CPU = ["--device", "cpu"]


@pytest.fixture(autouse=True)
def toys(monkeypatch: pytest.MonkeyPatch) -> None:
    """One row each, and nothing else."""
    place = "tests.additions"
    home = f"{place}.method:Toy"
    summary = Method(home, f"{home}Settings", "a toy", {"means": "(epsilon, delta)-DP: toy means"})
    monkeypatch.setitem(METHODS, "toy", summary)
    monkeypatch.setitem(SAMPLERS, "toy-euler", (sampler.euler, ("gain",)))
    read = Row(f"{place}.input_format:FORMAT", ("TOY",), "toy files")
    monkeypatch.setitem(FORMATS, "toy-in", read)
    written = Row(f"{place}.output_format:FORMAT", ("TOYS",), "toy sets", writes=True)
    monkeypatch.setitem(FORMATS, "toy-out", written)
    row = metrics.Row("brightness gap", "low", of_images=metric.brightness_gap)
    monkeypatch.setitem(METRICS, "brightness_gap", row)
    small = Preset((8,), 1, 8, 99, 0, "toys", default_up_to=8)
    monkeypatch.setitem(PRESETS, "toy-preset", small)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Forty images of 8x8 in two classes, one dark and one bright."""
    rng = np.random.default_rng(0)
    labels = np.arange(40) % 2
    pixels = (rng.integers(0, 60, (40, 8, 8)) + 150 * labels[:, None, None]).astype(np.uint8)
    path = tmp_path / "private.toyin"
    path.write_bytes(input_format.to_bytes(pixels, labels))
    return path


def done(*arguments: object) -> str:
    result = dpgen(*arguments)
    assert result.exit_code == 0, result.stderr
    return result.stdout


def test_a_toy_of_each_kind_goes_from_plan_to_evaluation(data: Path, tmp_path: Path) -> None:
    run, made = tmp_path / "run", tmp_path / "set"
    private = ["toy", "--data", data, "--classes", "dark,bright"]
    private += ["--epsilon", 5, "--delta", 1e-3, *CPU]
    planned = json.loads(done("plan", *private, "--json"))
    assert [stage["label"] for stage in planned["stages"]] == ["class means"]
    done("train", *private, "--out", run, "--seed", 1, "-q")
    assert json.loads((run / "config.json").read_text())["settings"]["preset"] == "toy-preset"
    sample = ["sample", run, "-n", 30, "--seed", 2, "-q", *CPU, "--format", "toy-out"]
    chosen = ["--sampler", "toy-euler", "--steps", 4, "--set", "gain=0.9"]
    done(*sample, *chosen, "--out", made)
    stated = json.loads((made / "privacy.json").read_text())["synthetic_dataset"]
    assert "gain=0.9" in stated["sampler"] and stated["format"] == "toy-out"
    for folder in (run, made):
        assert "FAILED" not in done("verify", folder)
    scores = tmp_path / "scores.json"
    judged = ["--reference", data, "--split", "all", "--classes", "dark,bright", "-q"]
    table = done(
        "evaluate", made, *judged, "--features", "none", "--network", "logistic", "--json", scores
    )
    assert "\nbrightness gap      lower  " in table
    (found,) = json.loads(scores.read_text())["sets"].values()
    assert 0 < found["metrics"]["brightness_gap"] < 0.2
    assert found["metrics"]["accuracy_logistic"] > 0.9  # dark and bright were learned


def test_a_run_is_drawn_from_by_the_methods_own_sampler_unless_another_is_named(
    data: Path, tmp_path: Path
) -> None:
    private = ["toy", "--data", data, "--classes", "dark,bright", "--epsilon", 5, *CPU]
    done("train", *private, "--delta", 1e-3, "--out", tmp_path / "run", "-q")
    done("sample", tmp_path / "run", "-n", 2, "--out", tmp_path / "set", "-q", *CPU)
    stated = json.loads((tmp_path / "set" / "privacy.json").read_text())["synthetic_dataset"]
    assert "gain=1.0" in stated["sampler"]


def test_an_option_of_a_sampler_is_a_setting_of_a_method_without_a_field_of_its_own(
    data: Path, tmp_path: Path
) -> None:
    private = ["toy", "--data", data, "--classes", "dark,bright", "--epsilon", 5, *CPU]
    private += ["--delta", 1e-3, "--out", tmp_path / "run", "-q"]
    refused = dpgen("train", *private, "--set", "sampler.gian=0.8")
    assert refused.exit_code == 2
    assert "options of toy-euler are gain, rho, got 'gian'; the nearest is" in refused.stderr
    assert not (tmp_path / "run" / "config.json").exists()
    done("train", *private, "--set", "sampler.gain=0.8")
    done("sample", tmp_path / "run", "-n", 2, "--out", tmp_path / "set", "-q", *CPU)
    stated = json.loads((tmp_path / "set" / "privacy.json").read_text())["synthetic_dataset"]
    assert "gain=0.8" in stated["sampler"]


def test_help_and_messages_name_the_toys(tmp_path: Path) -> None:
    assert "toy" in done("methods")
    shown = " ".join(done("sample", "--help").split())
    assert "toy-euler gain, rho" in shown and "parquet|toy-out|webdataset" in shown
    (tmp_path / "a.toyin").write_bytes(b"something else")
    refused = dpgen("plan", "toy", "--data", tmp_path, "--epsilon", 1)
    assert refused.exit_code == 2 and "PGM, DICOM, TOY or TOYS" in refused.stderr
    refused = dpgen("plan", "toy", "--data", "digits", "--epsilon", 1, "--set", "preset=toys")
    assert refused.exit_code == 2 and "toy-preset" in refused.stderr
