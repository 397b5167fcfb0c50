"""`dpgen evaluate` and `dpgen benchmark`, from files to tables, pictures and exit statuses."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from PIL import Image

from dpgen import progress
from dpgen.data.export import write_images
from dpgen.data.sources import read_images
from dpgen.evaluation.comparison import Value
from dpgen.evaluation.feature_networks import FEATURE_NETWORKS
from dpgen.evaluation.features import CLASSIFIER, classifier_features
from dpgen.evaluation.metrics import METRICS, Row
from dpgen.evaluation.utility import FEW, NETWORKS, UtilityProtocol
from dpgen.images.images import Images, to_uint8
from tests.test_cli import Result, assert_refused, dpgen

DIGITS = ["--reference", "digits", "--network", "logistic", "--no-real", "-q"]
NAMES = [str(k) for k in range(10)]

BENCHMARK = """
title = "Two of a kind"
data = "digits"
delta = 1e-4
epsilons = [3]
seeds = 1
n_samples = 40
networks = ["logistic"]
[[methods]]
label = "dp-sad"
method = "dp-sad"
[methods.settings]
teacher = { n_steps = 2, n_draws = 1, batch = 10, bands = 3 }
student = { n_steps = 1, n_iterations = 2, pool_size = 10, batch_size = 5 }
[[methods]]
label = "its teacher"
method = "dpdm"
teacher_of = "dp-sad"
"""


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache that holds the classifier of the digits, after a tenth of the usual steps."""
    folder = tmp_path_factory.mktemp("features")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dpgen.evaluation.features.CLASSIFIER", replace(CLASSIFIER, n_steps=100))
        classifier_features(read_images("digits", split="train"), 10, cache=folder)
        yield folder


@pytest.fixture
def fast(features: Path) -> list[object]:
    return [*DIGITS, "--cache", features]


def real_digits(n: int) -> Images:
    images = read_images("digits", split="train")
    return Images(images.pixels[:n], images.labels[:n])


@pytest.fixture
def sets(tmp_path: Path) -> tuple[Path, Path]:
    """Real digits, and the same with shuffled pixels."""
    images = real_digits(300)
    order = np.random.default_rng(0).permutation(64)
    shuffled = images.pixels.flatten(2)[:, :, order].reshape(images.pixels.shape)
    for name, pixels in (("real", images.pixels), ("shuffled", shuffled)):
        block = Images(pixels, images.labels)
        write_images([block], tmp_path / name, format="npz", n_images=300, class_names=NAMES)
    return tmp_path / "real", tmp_path / "shuffled"


def run_evaluate(*arguments: object) -> Result:
    done = dpgen("evaluate", *arguments)
    assert done.exit_code == 0, done.stderr
    return done


def test_sets_stand_side_by_side_and_the_worse_one_is_seen(
    sets: tuple[Path, Path], fast: list[object], tmp_path: Path
) -> None:
    done = run_evaluate(*sets, *fast, "--json", tmp_path / "s.json")
    lines = done.stdout.splitlines()
    assert lines[0].startswith("Against 360 real images (digits, test)")
    row = next(line for line in lines if line.startswith("classifier FID"))
    good, bad = (float(word) for word in row.split()[-2:])
    assert bad > 5 * good
    stated = json.loads((tmp_path / "s.json").read_text())
    assert stated["private"] is False and stated["n_reference"] == 360
    found = [stated["sets"][str(path)]["metrics"] for path in sets]
    assert found[0]["classifier_fid"] == pytest.approx(good, rel=0.01)
    assert found[0]["accuracy_logistic"] > 0.8 > 0.4 > found[1]["accuracy_logistic"]
    assert "fid" not in found[0]  # nobody takes these for Inception's
    assert stated["sets"][str(sets[0])]["fidelity"]["protocol"]["reference_split"] == "test"


def test_real_images_of_the_other_split_stand_beside_the_sets(
    sets: tuple[Path, Path], fast: list[object], tmp_path: Path
) -> None:
    fast.remove("--no-real")
    done = run_evaluate(sets[1], *fast, "--json", tmp_path / "s.json")
    rows = {line.split("  ")[0]: line.split() for line in done.stdout.splitlines()}
    assert rows["images"][-2:] == ["300", "300"]  # as many as the set has
    ours, real = (float(word) for word in rows["classifier FID"][-2:])
    assert real < 1 < 5 < ours
    stated = json.loads((tmp_path / "s.json").read_text())["real"]
    assert (stated["split"], stated["n_images"]) == ("train", 300)
    assert stated["metrics"]["classifier_fid"] == pytest.approx(real, rel=0.01)
    assert stated["metrics"]["accuracy_logistic"] > 0.8
    assert list(json.loads((tmp_path / "s.json").read_text())["sets"]) == [str(sets[1])]
    told = " ".join(done.stdout.split())
    assert "measured on 300 of the 1,437 real images of the train split" in told


def test_few_real_images_have_one_shorter_recipe_for_sets_and_real_images_alike(
    sets: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(FEW, "cnn", {"n_steps": 2, "batch_size": 16})
    reference = tmp_path / "reference"
    reference.mkdir()
    for split, pixels in (("train", slice(0, 40)), ("test", slice(40, 70))):
        real = real_digits(70)
        np.savez(
            reference / f"{split}.npz", images=to_uint8(real.pixels[pixels, 0]).numpy(),
            labels=real.labels[pixels].numpy(), class_names=np.array(NAMES),
        )  # fmt: skip
    plain = ["--features", "none", "-q", "--json", tmp_path / "s.json"]
    told = run_evaluate(sets[1], *plain, "--reference", reference).stdout
    assert "2 steps of 16 images (not 1,000" in " ".join(told.split())
    stated = json.loads((tmp_path / "s.json").read_text())
    ours, real_ones = stated["sets"][str(sets[1])], stated["real"]
    assert ours["n_images"] == 300 and real_ones["n_images"] == 40
    recipes = [one["utility"]["cnn"][0]["protocol"] for one in (ours, real_ones)]
    assert recipes[0] == recipes[1] == asdict(UtilityProtocol.of("cnn", 40))


def test_a_reference_of_one_split_has_no_other_real_images_and_says_so(
    sets: tuple[Path, Path],
) -> None:
    plain = ["--features", "none", "--network", "logistic", "-q", "--reference", sets[0]]
    told = " ".join(run_evaluate(sets[1], *plain).stdout.split())
    assert "no column of them for comparison, as the reference has one split only" in told
    assert "real images images" not in told
    told = " ".join(run_evaluate(sets[1], *plain, "--split", "all").stdout.split())
    assert "as every real image is in the reference" in told


def test_progress_is_told_unless_it_is_not_wanted(
    sets: tuple[Path, Path], fast: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "WORTH_SECONDS", 0.0)
    said = run_evaluate(sets[0], *fast[:-3], *fast[-2:]).stderr  # without -q
    for part in ("reading images: 2 of 2", "features, synthetic: 5 of 5", "metrics: 7 of 7",
                 "classifier 1 of 1, logistic: 1000 of 1000"):  # fmt: skip
        assert part in said
    assert "reading images" not in run_evaluate(sets[0], *fast).stderr


def test_features_of_ones_own_are_named_and_hashed_in_table_and_json(
    sets: tuple[Path, Path], tmp_path: Path
) -> None:
    class Corner(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images[:, :, :4, :4].flatten(1)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(Corner(), torch.rand(2, 3, 8, 8)).save(str(tmp_path / "corner.pt"))
    own = ["--features", tmp_path / "corner.pt", "--features-range", "-1,1"]
    done = run_evaluate(*sets, *DIGITS, *own, "--json", tmp_path / "s.json")
    row = next(x for x in done.stdout.splitlines() if x.startswith("custom corner FID"))
    good, bad = (float(word) for word in row.split()[-2:])
    assert good < bad
    stated = json.loads((tmp_path / "s.json").read_text())["sets"][str(sets[0])]
    network = stated["fidelity"]["network"]
    assert network["name"] == "custom_corner" and network["recipe"]["file"] == "corner.pt"
    assert network["recipe"]["values"] == "-1 to 1"
    told = " ".join(done.stdout.split())
    assert f"Features: custom_corner, SHA-256 {network['sha256'][:16]}..., 48 numbers" in told
    refused = dpgen("evaluate", sets[0], *DIGITS, "--features", tmp_path / "no.pt")
    assert_refused(refused, "no.pt, which is not there")
    refused = dpgen("evaluate", sets[0], *DIGITS, "--features-size", 32)
    assert_refused(refused, "are for a TorchScript file, got --features classifier")
    refused = dpgen("evaluate", sets[0], *DIGITS, *own[:2], "--features-range", "black")
    assert_refused(refused, "--features-range takes LOW,HIGH")


def test_features_may_be_left_out(
    sets: tuple[Path, Path], fast: list[object], tmp_path: Path
) -> None:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    done = run_evaluate(sets[0], *fast, "--features", "none", "--json", tmp_path / "s.json")
    assert not dist.is_initialized()  # a group that outlives Python may abort it
    assert "FID" not in done.stdout and "accuracy, logistic" in done.stdout
    scores = json.loads((tmp_path / "s.json").read_text())["sets"][str(sets[0])]
    assert scores["fidelity"] is None and list(scores["metrics"]) == ["accuracy_logistic"]


def test_a_reference_that_names_no_classes_has_those_of_the_sets(
    sets: tuple[Path, Path], tmp_path: Path
) -> None:
    with np.load(next(sets[0].glob("*.npz"))) as held:
        np.savez(tmp_path / "bare.npz", images=held["images"], labels=held["labels"])
    plain = ["--features", "none", "--network", "logistic", "-q", "--reference"]
    told = run_evaluate(sets[0], *plain, tmp_path / "bare.npz").stdout
    assert "Against 300 real images" in told and "weakest" in told
    assert_refused(dpgen("evaluate", tmp_path / "bare.npz", *plain, "digits"), "--classes N")
    told = run_evaluate(tmp_path / "bare.npz", *plain, "digits", "--classes", "10").stdout
    assert "Against 360 real images" in told
    wrong = dpgen("evaluate", sets[0], *plain, tmp_path / "bare.npz", "--classes", "12")
    assert_refused(wrong, "classes must be what the npz data state, got 12")


def test_a_reference_of_deep_grey_is_seen_through_the_declared_window(
    sets: tuple[Path, Path], tmp_path: Path
) -> None:
    images = real_digits(40)
    for i, (pixels, label) in enumerate(zip(images.pixels, images.labels, strict=True)):
        folder = tmp_path / "deep" / str(int(label))
        folder.mkdir(parents=True, exist_ok=True)
        deep = ((pixels[0] + 1) * 2047.5).round().numpy().astype(np.uint16)
        Image.fromarray(deep).save(folder / f"{i}.png")
    plain = ["--reference", tmp_path / "deep", "--features", "none", "--network", "logistic", "-q"]
    assert_refused(dpgen("evaluate", sets[0], *plain), "--value-range LOW,HIGH")
    told = run_evaluate(sets[0], *plain, "--value-range", "0,4095").stdout
    row = next(line for line in told.splitlines() if line.startswith("accuracy, logistic"))
    # These very digits were learned from; through a window of 0..65535 all would be black.
    assert float(row.replace("%", "").split()[-1]) > 80


def test_copies_show_beside_the_records_they_copy(
    sets: tuple[Path, Path], fast: list[object], tmp_path: Path
) -> None:
    """The first set *is* training records: nearly all lie nearer than held-out images do."""
    done = run_evaluate(*sets, *fast, "--nearest", tmp_path / "near", "--json", tmp_path / "s.json")
    assert "covered by no epsilon" in done.stderr
    row = next(line for line in done.stdout.splitlines() if line.startswith("as near as 1 %"))
    copied, shuffled = (float(word) for word in row.replace("%", "").split()[-2:])
    assert copied > 95 and shuffled < 5
    stated = json.loads((tmp_path / "s.json").read_text())["sets"]
    assert stated[str(sets[0])]["copying"]["private"] is True
    pictures = sorted(path.name for path in (tmp_path / "near").iterdir())
    assert pictures == ["1-real.png", "2-shuffled.png"]
    assert Image.open(tmp_path / "near" / "1-real.png").size[0] > 64
    assert_refused(
        dpgen("evaluate", sets[0], *fast, "--features", "none", "--nearest", tmp_path / "n"),
        "--features classifier",
    )


def test_a_private_reference_says_so_and_training_records_are_warned_of(
    sets: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reference is recognised by its fingerprint in the ledgers."""
    monkeypatch.setenv("DPGEN_HOME", str(tmp_path / "home"))
    run, private = tmp_path / "run", ["--reference", sets[0], "--network", "logistic", "-q"]
    train = ["train", "pge", "--data", sets[0], "--epsilon", 1, "--delta", 1e-4, "--out", run, "-q"]
    tiny = {"n_steps": 0, "bands": 2, "warm_start_share": 1.0, "residual": "added"}
    assert dpgen(*train, *(f"--set=teacher.{k}={v}" for k, v in tiny.items())).exit_code == 0
    assert dpgen("sample", run, "-n", 60, "--out", tmp_path / "set", "-q").exit_code == 0
    kept = run_evaluate(
        tmp_path / "set", sets[1], *private, "--features", "none", "--json", tmp_path / "s.json",
        "--preview", tmp_path / "p.png",
    )  # fmt: skip
    assert f"{tmp_path / 'p.png'} shows private records" in kept.stderr
    told = " ".join(kept.stdout.split())
    assert "not charged, for the owner's eyes only" in told
    assert "no epsilon covers these numbers: do not publish them" in told
    assert f"warning: {tmp_path / 'set'} comes from a generator that learned" in kept.stderr
    stated = json.loads((tmp_path / "s.json").read_text())
    assert stated["private"] is True and stated["charged"] is False
    learned = [
        stated["sets"][str(p)]["learned_from_reference"] for p in (tmp_path / "set", sets[1])
    ]
    assert learned == [True, False]
    other = run_evaluate(
        tmp_path / "set", "--reference", sets[1], "--network", "logistic", "-q", "--features",
        "none",
    )  # fmt: skip
    assert "warning" not in other.stderr


def test_what_cannot_be_compared_is_refused_in_one_line(
    sets: tuple[Path, Path], fast: list[object], tmp_path: Path
) -> None:
    one = Images(real_digits(1).pixels, real_digits(1).labels)
    write_images([one], tmp_path / "one", format="npz", n_images=1, class_names=NAMES)
    assert_refused(dpgen("evaluate", tmp_path / "one", *fast), "n_synthetic must be at least 2")
    large = Images(real_digits(30).pixels.repeat(1, 1, 2, 2), real_digits(30).labels)
    write_images([large], tmp_path / "large", format="npz", n_images=30, class_names=NAMES)
    assert_refused(dpgen("evaluate", tmp_path / "large", *fast), "1x8x8", "1x16x16", "--size 16")
    told = run_evaluate(tmp_path / "large", *DIGITS, "--size", 16, "--features", "none").stdout
    assert "Against 360 real images" in told
    assert_refused(
        dpgen("evaluate", sets[0], "--reference", "digits", "--network", "vgg", "-q"),
        "'vgg' is not one of logistic, mlp, ", "--network",
    )  # fmt: skip
    (tmp_path / "weights.pth").write_bytes(b"no weights")
    inception = ["--features", "inception", "--inception-weights", tmp_path / "weights.pth"]
    assert_refused(dpgen("evaluate", sets[0], *fast, *inception), "must have SHA-256", "got")
    missing = ["--features", "inception", "--inception-weights", tmp_path / "no.pth"]
    assert_refused(dpgen("evaluate", sets[0], *fast, *missing), "must be a file")


def test_the_help_of_evaluate_names_what_the_tables_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METRICS, "toy", Row("a toy", "low", of_images=lambda _: Value(0.0)))
    monkeypatch.setitem(FEATURE_NETWORKS, "other", FEATURE_NETWORKS["inception"])
    monkeypatch.setitem(NETWORKS, "linear", NETWORKS["logistic"])
    said = dpgen("evaluate", "--help").stdout
    assert all(f"{name} " in said for name in METRICS)
    assert f"[{'|'.join(NETWORKS)}]" in said and f"[{'|'.join(FEATURE_NETWORKS)}|none]" in said
    assert "Metrics of pixels and labels:\n  toy  a toy: lower is better" in said
    assert "kid        KID: lower is better; kernel distance" in said


def test_a_benchmark_runs_once_shares_the_teacher_and_shows_what_it_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of few digits, whose classifier for the features is soon trained."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("DPGEN_HOME", str(tmp_path / "home"))
    data, file, out = tmp_path / "few.npz", tmp_path / "b.toml", tmp_path / "out"
    some = {split: read_images("digits", split=split) for split in ("train", "test")}
    np.savez(
        data,
        class_names=NAMES,
        **{f"x_{name}": to_uint8(images.pixels[:100, 0]).numpy() for name, images in some.items()},
        **{f"y_{name}": images.labels[:100].numpy() for name, images in some.items()},
    )
    file.write_text(BENCHMARK.replace('"digits"', json.dumps(str(data))))
    done = dpgen("benchmark", file, "--out", out, "-q")
    assert done.exit_code == 0, done.stderr
    assert "| 3 | dp-sad |" in done.stdout and "its teacher" in done.stdout
    results = json.loads((out / "results.json").read_text())
    first, second = results["cells"]
    trained, drawn = results["methods"]
    assert drawn["settings"]["teacher"] == trained["settings"]["teacher"]
    assert drawn["settings"]["teacher"]["n_steps"] == 2
    assert (first["status"], second["status"]) == ("done", "done")
    assert second["shared"] == "dp-sad" and second["seconds"]["train"] == 0.0
    assert first["privacy"]["verified"] and first["privacy"] == second["privacy"]
    assert first["privacy"]["epsilon"] <= 3
    assert set(first["metrics"]) >= {"classifier_fid", "accuracy_logistic"}
    assert first["metrics"] != second["metrics"]
    assert not (out / "cells" / "its-teacher-eps3-seed0" / "run").exists()
    page = (out / "report.html").read_text()
    assert page.count("data:image/png") >= 2 and "Two of a kind" in page
    before = {p: p.read_bytes() for p in (out / "cells").rglob("cell.json")}
    assert dpgen("benchmark", file, "--out", out, "-q").exit_code == 0
    assert before == {p: p.read_bytes() for p in (out / "cells").rglob("cell.json")}


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('"dp-sad"\n[', '"dp-sda"\n[', "unknown method 'dp-sda': the nearest is 'dp-sad'"),
        ("n_draws", "n_drawz", "dp-sad.teacher.n_drawz"),
        ('["logistic"]', '["vgg"]', "got 'vgg'"),
        ('data = "digits"', 'data = "nowhere"', "no data at"),
        ("delta = 1e-4", "delta = 0.5", "delta"),
        (
            'teacher_of = "dp-sad"',
            'teacher_of = "dp-sad"\nsettings = { teacher = { n_steps = 3 } }',
            "settings of 'its teacher' must not hold teacher: it draws from what 'dp-sad' trains",
        ),
    ],
)
def test_a_bad_file_is_refused_before_a_cell_is_trained(
    tmp_path: Path, old: str, new: str, words: str
) -> None:
    assert old in BENCHMARK
    (tmp_path / "b.toml").write_text(BENCHMARK.replace(old, new, 1))
    assert_refused(dpgen("benchmark", tmp_path / "b.toml", "--out", tmp_path / "out", "-q"), words)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow  # a cell that fails says why in tests/benchmark/test_schedule.py
def test_a_cell_that_failed_ends_with_status_one(tmp_path: Path) -> None:
    # One sample has no covariance, which only the cell finds out. The first method alone.
    single = BENCHMARK.replace("n_samples = 40", "n_samples = 1").rpartition("[[methods]]")[0]
    (tmp_path / "b.toml").write_text(single)
    done = dpgen("benchmark", tmp_path / "b.toml", "--out", tmp_path / "out", "-q")
    assert done.exit_code == 1
    assert "failed: dp-sad, epsilon 3, seed 0: n_synthetic must be at least 2" in done.stderr
