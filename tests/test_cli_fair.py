"""`dpgen evaluate --fair`: groups stand in the table and in JSON, beside those of real images."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dpgen.data.export import write_images
from dpgen.data.sources import read_images
from dpgen.evaluation import utility
from dpgen.images.images import Images
from tests.commands import dpgen

OPTIONS = ("--reference", "digits", "--network", "logistic", "--features", "none", "-q")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Even and odd digits, in the groups below 5 and from 5 on."""
    lines = [f'{k} = ["{"odd" if k % 2 else "even"}", "{"high" if k > 4 else "low"}"]\n'
             for k in range(10)]  # fmt: skip
    (tmp_path / "fair.toml").write_text("[classes]\n" + "".join(lines))
    return tmp_path / "fair.toml"


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setitem(utility.RECIPES, "logistic", {"n_steps": 40, "learning_rate": 0.02})
    digits = read_images("digits", split="train")
    some = Images(digits.pixels[:200], digits.labels[:200])
    return write_images([some], tmp_path / "set", format="npz", n_images=200,
                        class_names=[str(k) for k in range(10)])  # fmt: skip


def test_groups_stand_beside_those_of_real_images(made: Path, file: Path, tmp_path: Path) -> None:
    done = dpgen("evaluate", made, *OPTIONS, "--fair", file, "--json", tmp_path / "scores.json")
    assert done.exit_code == 0, done.stderr
    rows = {line[:30].strip(): line[30:].split() for line in done.stdout.splitlines()}
    told = json.loads((tmp_path / "scores.json").read_text())["fairness"]
    assert (told["targets"], told["groups"]) == (["even", "odd"], ["low", "high"])
    assert sum(map(sum, told["n_images"])) == 360
    ours, real = (told["columns"][name]["logistic"][0] for name in (str(made), ""))
    for title, name in (("parity gap", "parity_gap"), ("equalised-odds gap", "odds_gap")):
        assert rows[f"{title}, logistic"] == ["lower", f"{ours[name]:.3f}", f"{real[name]:.3f}"]
    low = ours["accuracies"][0]
    assert 0.6 < low < 1 and rows["in group low"][1:3] == [f"{100 * low:.1f}", "%"]
    words = " ".join(done.stdout.split())
    assert f"labels have a parity gap of {told['parity_gap_of_reference']:.3f}" in words


def test_a_file_of_other_classes_and_classifiers_alone_are_refused(
    made: Path, file: Path
) -> None:
    file.write_text(file.read_text().replace("9 = ", "nine = "))
    refused = dpgen("evaluate", made, *OPTIONS, "--fair", file)
    assert refused.exit_code == 2 and "--fair: there is no class 'nine'" in refused.stderr
    from dpgen.evaluation.evaluate import scores
    from dpgen.images.fair_classes import FairClasses
    from tests.images.test_fair_classes import CLASSES

    with pytest.raises(ValueError, match="--fair measures classifiers of synthetic images"):
        scores([], "digits", fair=FairClasses(CLASSES))
