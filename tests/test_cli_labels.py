"""`dpgen sample --labels`: counts typed, from CSV or TOML; the guarantee stays as it is."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from dpgen import PGE, load, open_images
from dpgen.commands.labels import parse_labels
from dpgen.data.sources import open_source
from tests.commands import dpgen
from tests.generator.test_budget import QUICK


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("labels") / "run"
    PGE(epsilon=3, settings=QUICK).fit(open_images("digits"), out=folder, seed=1)
    return folder


def test_counts_are_read_from_text_csv_and_toml_alike(tmp_path: Path) -> None:
    expected = {"ill": 100, "very well": 0}
    (tmp_path / "a.csv").write_text("class,count\nill,100\n\nvery well, 0\n")
    (tmp_path / "b.csv").write_text("ill,100\n very well,0\n")
    (tmp_path / "c.toml").write_text('ill = 100\n"very well" = 0\n')
    for text in ("ill=100,very well=0", *map(str, tmp_path.iterdir())):
        assert parse_labels(text) == expected
    assert parse_labels(None) is parse_labels("uniform") is None
    assert parse_labels("released") == "released"
    assert parse_labels("a=b=3") == {"a=b": 3}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("unifrom", "--labels takes uniform, released, counts as a=100,b=50, or a .csv or"),
        ("a=1,a=2", "must name each class once, got 'a' twice"),
        ("a=x", "count of class 'a' must be a whole number from 0 to"),
        ("a=-1", "must be a whole number"),
        ("a=1.0", "must be a whole number"),
        ("a=9999999999", "must be a whole number"),
        ("a=", "must be a whole number"),
    ],
)
def test_counts_that_cannot_be_read_are_refused_by_name(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_labels(text)


def test_a_set_has_the_counts_asked_for_and_the_guarantee_of_its_model(
    run: Path, tmp_path: Path
) -> None:
    drawn = dpgen("sample", run, "--labels", "3=5,7=2", "--out", tmp_path / "set", "--format",
                  "npz", "--seed", 4, "-q", "--device", "cpu")  # fmt: skip
    assert drawn.exit_code == 0 and "7 images in" in drawn.output
    _, labels = (source := open_source(tmp_path / "set")).read(range(7))
    assert Counter(labels.tolist()) == {3: 5, 7: 2} and len(source.class_names) == 10
    ours, theirs = (
        json.loads((folder / "privacy.json").read_text()) for folder in (tmp_path / "set", run)
    )
    assert ours["synthetic_dataset"]["labels"] == "chosen: 5 of 3, 2 of 7"
    assert ours["synthetic_dataset"]["samples"] == 7
    assert ours["guarantee"] == theirs["guarantee"]
    assert dpgen("verify", tmp_path / "set", "--model", run).exit_code == 0
    assert "chosen by whoever drew them" in (tmp_path / "set" / "README.md").read_text()
    images = load(run).sample(labels={"3": 5, "7": 2}, seed=4)
    pixels, _ = source.read(range(7))
    assert torch.equal(images.labels, labels)
    assert (images.pixels - (pixels / 127.5 - 1)).abs().max() <= 1 / 127.5


def test_equal_counts_give_the_images_of_uniform_labels(run: Path) -> None:
    generator = load(run)
    counted = generator.sample(labels=dict.fromkeys("0123456789", 2), seed=1)
    uniform = generator.sample(20, labels="uniform", seed=1)
    assert torch.equal(counted.pixels, uniform.pixels)
    assert uniform.class_names == tuple("0123456789")
    named = generator.sample(labels=["3", "0"], seed=1)
    assert named.labels.tolist() == [3, 0]
    with pytest.raises(ValueError, match="give seed= or generator=, not both"):
        generator.sample(1, seed=1, generator=torch.Generator())


def test_released_labels_follow_the_noisy_counts_that_the_run_keeps(
    run: Path, tmp_path: Path
) -> None:
    generator = load(run)
    shares = generator.class_shares
    assert shares is not None and sum(shares.values()) == pytest.approx(1)
    drawn = dpgen("sample", run, "--labels", "released", "-n", 40, "--out", tmp_path / "set",
                  "--seed", 4, "-q", "--device", "cpu")  # fmt: skip
    assert drawn.exit_code == 0 and "40 images in" in drawn.output
    found = Counter(generator.sample(40, labels="released", seed=4).labels.tolist())
    assert f"measured them, with noise: {found[0]} of 0" in drawn.output
    for k, share in enumerate(shares.values()):
        assert abs(found[k] - 40 * share) < 1
    statement = json.loads((tmp_path / "set" / "privacy.json").read_text())
    told = statement["synthetic_dataset"]["labels"]
    assert told.startswith("released: ") and f"{found[0]} of 0" in told
    assert "noise, under the same guarantee" in (tmp_path / "set" / "RELEASE.md").read_text()
    assert dpgen("verify", tmp_path / "set", "--model", run).exit_code == 0
    without = dpgen("sample", run, "--labels", "released", "--out", tmp_path / "no", "-q")
    assert without.exit_code == 2 and "'-n' is missing" in without.stderr


def test_a_run_without_released_counts_says_what_to_give_instead(
    run: Path, home: None, tmp_path: Path
) -> None:
    files = json.loads((run / "privacy.json").read_text())["artifact"]["files"]
    assert "class_counts.json" in files
    changed = tmp_path / "changed"
    load(run).save(changed)
    assert dpgen("verify", changed).exit_code == 0
    (changed / "class_counts.json").write_text('{"counts": {}}')
    assert dpgen("verify", changed).exit_code == 1
    with pytest.raises(ValueError, match=r"class_counts\.json missing or changed"):
        load(changed)
    pixels = np.random.default_rng(0).integers(0, 256, (30, 8, 8), np.uint8)
    bare = PGE(epsilon=3, settings=QUICK).fit(open_images(pixels))
    assert bare.class_shares is None
    with pytest.raises(ValueError, match=r"holds no released class counts.*\{'ill': 100"):
        bare.sample(9, labels="released")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--labels", "31=5"], "there is no class '31'"),
        (["--labels", "3=5", "-n", 6], "labels must be as many as n = 6"),
        ([], "'-n' is missing: how many images?"),
        (["--labels", "3=0"], "must count at least one image"),
        (["--labels", "3=999999999"], "space"),
        (["--labels", "nowhere.csv"], "nowhere.csv"),
    ],
)
def test_counts_that_do_not_fit_the_run_leave_nothing_behind(
    options: list[object], message: str, run: Path, tmp_path: Path
) -> None:
    refused = dpgen("sample", run, *options, "--out", tmp_path / "set", "-q")
    assert refused.exit_code in (2, 3) and message in refused.stderr
    assert list(tmp_path.iterdir()) == []
