"""The command line: every bad input is one clear line and status 2 with nothing written, and the
whole
way from plan to verify works on a small archive and on the digits."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import Result
from PIL import Image

from dpgen.data.formats.table import written
from dpgen.data.sources import read_images
from dpgen.methods.dp_sad import DPSAD
from dpgen.networks.denoiser_config import PRESETS
from dpgen.privacy.verification.verify import verify
from samplers import SAMPLERS
from tests.commands import dpgen

pytestmark = pytest.mark.usefixtures("one_thread", "home", "remembering_accountant")

TINY = [
    f"--set={name}={value}"
    for name, value in {
        "teacher.n_steps": 2,
        "teacher.n_draws": 1,
        "teacher.batch": 10,
        "teacher.bands": 3,
        "teacher.warm_start_share": 0.5,
        "student.n_steps": 1,
        "student.n_iterations": 2,
        "student.pool_size": 10,
        "student.batch_size": 5,
    }.items()
]
BUDGET = ["--epsilon", "0.3", "--delta", "1e-3"]
CPU = ["--device", "cpu"]
ONE = {"class_names": np.array(["0"])}
GUARANTEE = "satisfies (0.3, 0.001"  # delta may be rounded up in the last digit


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Forty images of 8x8 in two classes."""
    rng = np.random.default_rng(0)
    path = tmp_path / "private.npz"
    pixels = rng.integers(0, 256, (40, 8, 8), dtype=np.uint8)
    np.savez(path, images=pixels, labels=np.arange(40) % 2, class_names=np.array(["0", "1"]))
    return path


_TRAINED: list[tuple[str, bytes]] = []


@pytest.fixture
def run(archive: Path, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A finished DP-SAD run on the archive, trained once; its ledger is not of this installation.
    """
    folder = tmp_path / "run"
    if not _TRAINED:
        with monkeypatch.context() as patch:
            patch.setenv("DPGEN_HOME", str(tmp_path / "elsewhere"))
            done = dpgen(
                "train", "dp-sad", "--data", archive, *BUDGET, *TINY, *CPU, "--out", folder
            )
        assert done.exit_code == 0, done.stderr
        _TRAINED.extend((p.name, p.read_bytes()) for p in folder.iterdir())
        shutil.rmtree(tmp_path / "elsewhere")
    folder.mkdir(exist_ok=True)
    for name, content in _TRAINED:
        (folder / name).write_bytes(content)
    return folder


def tree(folder: Path) -> dict[str, bytes | None]:
    """Everything under a folder but the installation's key and empty shelf of ledgers."""
    return {
        str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None
        for p in sorted(folder.rglob("*"))
        if p.relative_to(folder).parts[0] != "home" or p.suffix == ".jsonl"
    }


def assert_refused(result: Result, *words: str) -> None:
    """Status 2 and one line that holds all the words; nothing on standard output, no traceback."""
    assert result.exit_code == 2, (result.exit_code, result.output)
    assert result.stdout == ""
    lines = [x for x in result.stderr.splitlines() if not x.startswith("dpgen: note: ")]
    said = [line for line in lines if line.startswith(("dpgen: ", "Error: "))]
    assert len(said) == 1, result.stderr
    assert "Traceback" not in result.stderr
    for word in words:
        assert word in said[0], said[0]


# --- what loads, what shows ----------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["train", "--help"], ["methods"]])
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    heavy = ["torch", "diffusers", "accelerate", "numpy", "scipy", "dp_accounting", "opacus", "PIL"]
    code = (
        "import sys\nfrom dpgen.commands.cli import main\n"
        f"try: main({arguments!r})\nexcept SystemExit as end: assert not end.code, end.code\n"
        f"print('LOADED', [m for m in {heavy!r} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "LOADED []"
    assert len(done.stdout.splitlines()) > 1


def test_help_shows_the_first_run_and_every_command() -> None:
    said = dpgen("--help").stdout
    for command in (
        "plan", "train", "sample", "evaluate", "benchmark", "verify", "methods", "ledger",
    ):  # fmt: skip
        assert f"dpgen {command}" in said or f"  {command} " in said
        assert dpgen(command, "--help").exit_code == 0


def test_methods_are_listed_with_what_they_guarantee() -> None:
    said = dpgen("methods").stdout
    assert "dp-sad" in said and "dpdm" in said and "(epsilon, delta)-DP" in said
    listed = json.loads(dpgen("methods", "--json").stdout)
    named = {"dp-sad", "pge", "dpdm", "dpdfd", "dfkd", "m3d", "dpsd", "dgd"}
    assert set(listed) == named
    assert "sealed" in listed["dp-sad"]["modes"] and "dpsgd" in listed["pge"]["modes"]
    for method in listed.values():
        for mode, promise in method["modes"].items():
            assert promise.startswith("no guarantee" if mode == "paper" else "(epsilon, delta)-DP")
            assert f"{mode}: {promise}" in said


# --- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["dpsad", *BUDGET], ["unknown method 'dpsad'", "the nearest is 'dp-sad'"]),
        (["dp-sad", "--epsilom", "1"], ["--epsilom", "--epsilon"]),
        (["dp-sad"], ["--epsilon"]),
        (["dp-sad", "--epsilon", "0"], ["epsilon must be a number greater than 0, got 0"]),
        (["dp-sad", "--epsilon", "-1"], ["epsilon must be a number greater than 0, got -1"]),
        (["dp-sad", "--epsilon", "inf"], ["epsilon must be a number greater than 0, got inf"]),
        (["dp-sad", "--epsilon", "nan"], ["epsilon must be a number greater than 0, got nan"]),
        (["dp-sad", "--epsilon", "x"], ["--epsilon", "'x'"]),
        (["dp-sad", "--epsilon", "1", "--delta", "0"], ["delta must lie in (0, 1), got 0"]),
        (["dp-sad", "--epsilon", "1", "--delta", "-1"], ["delta must lie in (0, 1), got -1"]),
        (["dp-sad", "--epsilon", "1", "--delta", "1"], ["delta must lie in (0, 1), got 1"]),
        (
            ["dp-sad", "--epsilon", "1", "--delta", "0.025"],
            ["delta must lie below 1 / n_records = 0.025, got 0.025", "choose at most"],
        ),
        (
            ["dp-sad", *BUDGET, "--set", "teacher.n_step=3"],
            ["unknown setting 'teacher.n_step'", "the nearest is 'teacher.n_steps'"],
        ),
        (["dp-sad", *BUDGET, "--set", "teacher"], ["--set takes name=value, got 'teacher'"]),
        (
            ["dp-sad", *BUDGET, "--set", "teacher.n_steps=x"],
            ["setting 'teacher.n_steps' must be a whole number, got 'x'"],
        ),
        (
            ["dp-sad", *BUDGET, "--set", "student.n_steps=3"],
            ["n_steps of the student must be 1, 2, 4 or 8, got 3"],
        ),
        (["dp-sad", *BUDGET, "--set", "mode=proper"], ["must be 'sealed' or 'paper'"]),
        (["dp-sad", *BUDGET, "--set", "paper.batch=8"], ["paper.* are settings of mode paper"]),
        (["pge", *BUDGET, "--set", "paper.batch=8"], ["paper.* are settings of mode paper"]),
        (
            ["dp-sad", *BUDGET, "--set", "mode=paper", "--set", "student.n_steps=1"],
            ["student.* are settings of mode sealed"],
        ),
        (
            ["pge", *BUDGET, "--set", "mode=paper", "--set", "teacher.n_steps=1"],
            ["teacher.* are settings of mode dpsgd"],
        ),
        (
            ["dp-sad", *BUDGET, "--set", "teacher.batch=41"],
            ["batch must lie in [1, n_records = 40], got 41"],
        ),
        (["dp-sad", *BUDGET, "--set", "teacher.n_draws=0"], ["n_draws must be at least 1, got 0"]),
        (
            ["dp-sad", *BUDGET, "--set", "teacher.learning_rate=0"],
            ["learning_rate must be a number greater than 0, got 0"],
        ),
        (
            ["dp-sad", *BUDGET, "--set", "teacher.ema_decay=1"],
            ["ema_decay must lie in [0, 1), got 1"],
        ),
        (
            ["dp-sad", *BUDGET, "--set", "student.ema_decay=1"],
            ["ema_decay must lie in [0, 1), got 1"],
        ),
        (
            ["dp-sad", *BUDGET, "--set", "teacher.warm_start_share=1.5"],
            ["warm_start_share must lie in [0, 1], got 1.5"],
        ),
        (
            ["dp-sad", *BUDGET, "--set", "teacher.preset=huge"],
            [f"preset must be one of {', '.join(PRESETS)}, got 'huge'"],
        ),
        (["dp-sad", *BUDGET, "--set", "teacher.batch=0"], ["batch must lie in [1,"]),
        (["dp-sad", *BUDGET, "--set", "teacher.clip_norm=0"], ["clip_norm must be a number"]),
        (["dp-sad", *BUDGET, "--set", "teacher.bands=0"], ["bands must be at least 1, got 0"]),
        (["dp-sad", *BUDGET, "--micro-batch", "0"], ["--micro-batch", "0"]),
        (["dp-sad", *BUDGET, "--device", "tpu"], ["--device", "'tpu'"]),
        (["dp-sad", *BUDGET, "--value-range", "0"], ["--value-range takes LOW,HIGH", "'0'"]),
        (["dp-sad", *BUDGET, "--config", "absent.toml"], ["absent.toml"]),
        (["dp-sad", *BUDGET, "--facts", "absent.toml"], ["absent.toml"]),
    ],
)
@pytest.mark.parametrize("command", ["plan", "train"])
def test_a_bad_argument_is_refused_in_one_line_and_nothing_is_written(
    command: str, arguments: list[str], words: list[str], archive: Path, tmp_path: Path
) -> None:
    before = tree(tmp_path)
    out = ["--out", tmp_path / "out"] if command == "train" else []
    result = dpgen(command, *CPU, *arguments, "--data", archive, *out)
    assert_refused(result, *words)
    assert tree(tmp_path) == before


@pytest.mark.parametrize("command", ["plan", "train"])
@pytest.mark.parametrize("method", [[], ["dp-sad"]])
@pytest.mark.parametrize(
    ("epsilon", "delta", "word"),
    [("0", "1e-5", "epsilon must be a number"), ("1", "1", "delta must lie in (0, 1), got 1")],
)
def test_a_budget_of_no_data_set_is_refused_before_any_data_are_opened(
    command: str, method: list[str], epsilon: str, delta: str, word: str, tmp_path: Path
) -> None:
    out = ["--out", tmp_path / "out"] if command == "train" else []
    typed = ["--epsilon", epsilon, "--delta", delta, "--data", tmp_path / "absent"]
    assert_refused(dpgen(command, *method, *typed, *out), word)


def test_an_unverified_mode_is_refused_before_any_data_are_opened(tmp_path: Path) -> None:
    typed = ["train", "dp-sad", *BUDGET, "--set", "mode=paper", "--data", tmp_path / "absent"]
    result = dpgen(*typed, "--out", tmp_path / "out")
    assert result.exit_code == 1 and "dp-sad/paper has no privacy guarantee" in result.stderr


def png(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "png")
    return buffer.getvalue()


def _missing(folder: Path) -> Path:
    return folder / "absent"


def _empty_folder(folder: Path) -> Path:
    return folder


def _empty_file(folder: Path) -> Path:
    (folder / "x.npz").touch()
    return folder / "x.npz"


def _truncated_archive(folder: Path) -> Path:
    images = np.zeros((30, 8, 8), np.uint8)
    np.savez(folder / "x.npz", images=images, labels=np.zeros(30, int), **ONE)
    whole = (folder / "x.npz").read_bytes()
    (folder / "x.npz").write_bytes(whole[: len(whole) // 2])
    return folder / "x.npz"


def _no_records(folder: Path) -> Path:
    np.savez(folder / "x.npz", images=np.zeros((0, 8, 8), np.uint8), labels=np.zeros(0, int), **ONE)
    return folder / "x.npz"


def _floats_without_range(folder: Path) -> Path:
    np.savez(folder / "x.npz", images=np.zeros((30, 8, 8)), labels=np.zeros(30, int), **ONE)
    return folder / "x.npz"


def _pictures(folder: Path) -> Path:
    for name in ("cat", "dog"):
        (folder / name).mkdir()
        for i in range(3):
            (folder / name / f"{i}.png").write_bytes(png(np.full((8, 8), 40 * i, np.uint8)))
    return folder


def _mixed_sizes(folder: Path) -> Path:
    (_pictures(folder) / "cat" / "2.png").write_bytes(png(np.zeros((9, 8), np.uint8)))
    return folder


def _class_without_images(folder: Path) -> Path:
    (_pictures(folder) / "owl").mkdir()
    return folder


def _corrupt_picture(folder: Path) -> Path:
    path = _pictures(folder) / "dog" / "1.png"
    path.write_bytes(path.read_bytes()[:40])
    return folder


def _no_picture(folder: Path) -> Path:
    (_pictures(folder) / "dog" / "1.png").write_bytes(b"not a picture at all")
    return folder


def _classes_not_said(folder: Path) -> Path:
    np.savez(folder / "x.npz", images=np.zeros((30, 8, 8), np.uint8), labels=np.zeros(30, int))
    return folder / "x.npz"


def _odd_shape(folder: Path) -> Path:
    images = np.zeros((30, 9, 9), np.uint8)
    np.savez(folder / "x.npz", images=images, labels=np.zeros(30, int), **ONE)
    return folder / "x.npz"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (_missing, ["no data at", "absent"]),
        (_empty_folder, ["holds no data"]),
        (_empty_file, ["x.npz", "is empty"]),
        (_truncated_archive, ["x.npz", "is damaged or truncated"]),
        (_no_records, ["npz", "at least one record"]),
        (_floats_without_range, ["x.npz", "--value-range"]),
        (_mixed_sizes, ["2.png", "--size"]),
        (_class_without_images, ["owl", "holds no images", "remove the folder or fill it"]),
        (_corrupt_picture, ["1.png"]),
        (_no_picture, ["1.png"]),
        (_classes_not_said, ["--classes N or --classes NAME,NAME", "a facts file", "archive"]),
        (_odd_shape, ["divisible", "9"]),
    ],
)
def test_bad_data_are_refused_by_name_and_no_run_folder_is_left(
    make: Callable[[Path], Path], words: list[str], tmp_path: Path
) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    data = make(folder)
    before = tree(tmp_path)
    settings = [t for t in TINY if "batch=10" not in t] + ["--set=teacher.batch=2"]
    result = dpgen(
        "train", "dp-sad", "--data", data, *BUDGET, *settings, *CPU, "--out", tmp_path / "out"
    )
    assert_refused(result, *words)
    assert tree(tmp_path) == before


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1.5])
def test_pixels_outside_the_stated_range_are_refused(value: float, tmp_path: Path) -> None:
    pixels = np.full((30, 8, 8), 0.5, np.float32)
    pixels[7, 3, 3] = value
    np.savez(tmp_path / "x.npz", images=pixels, labels=np.zeros(30, int), **ONE)
    before = tree(tmp_path)
    result = dpgen(
        "train", "dp-sad", "--data", tmp_path / "x.npz", "--value-range", "0,1", *BUDGET, *TINY,
        *CPU, "--out", tmp_path / "out",
    )  # fmt: skip
    assert_refused(result, "x.npz")
    assert tree(tmp_path) == before


def test_config_and_facts_files_are_read_strictly(archive: Path, tmp_path: Path) -> None:
    config, facts = tmp_path / "c.toml", tmp_path / "f.toml"
    good = "shape = [1, 8, 8]\nclass_names = ['a', 'b']\nn_records = 40\n"
    for text, words in (
        ("[teacher]\nn_stepps = 2", ["unknown setting 'teacher.n_stepps'", "'teacher.n_steps'"]),
        ("[teacher", ["c.toml must be TOML"]),
        ("teacher = 3", ["setting 'teacher' is a group"]),
    ):
        config.write_text(text)
        result = dpgen("plan", "dp-sad", "--data", archive, *BUDGET, "--config", config)
        assert_refused(result, *words)
    for text, words in (
        (good.replace("n_records", "n_record"), ["unknown key 'n_record'", "'n_records'"]),
        (good.replace("40", "0"), ["n_records must be a whole number of at least 1, got 0"]),
        (good.replace("8, 8", "9, 8"), ["the facts say shape (1, 9, 8), the data have (1, 8, 8)"]),
        (good.replace("'a', 'b'", "'a'"), ["the facts name 1 classes, the data 2"]),
        (good.replace("40", "5"), ["delta must lie below 1 / n_records = 0.2, got 0.5"]),
    ):
        facts.write_text(text)
        delta = "0.5" if "= 5" in text else "1e-3"
        result = dpgen(
            "train", "dp-sad", "--data", archive, "--epsilon", "0.3", "--delta", delta, "--facts",
            facts, "--out", tmp_path / "out", *TINY,
        )  # fmt: skip
        assert_refused(result, *words)
    assert not (tmp_path / "out").exists()


def test_a_data_set_that_spent_its_limit_is_refused_and_digits_never_are(
    archive: Path, tmp_path: Path, home: Path
) -> None:
    train = ["train", "dp-sad", *BUDGET, *TINY, *CPU, "-q"]
    assert dpgen(*train, "--data", archive, "--out", tmp_path / "one").exit_code == 0
    before = tree(tmp_path)
    result = dpgen(*train, "--data", archive, "--out", tmp_path / "two")
    assert_refused(result, "limit of epsilon = 0.3", "0.3 is spent", "dpgen ledger --raise")
    assert tree(tmp_path) == before
    # The same images in another file, in another order, are the same data.
    with np.load(archive) as held:
        order = np.arange(40)[::-1]
        np.savez_compressed(
            tmp_path / "again.npz", images=held["images"][order], labels=held["labels"][order],
            class_names=held["class_names"],
        )  # fmt: skip
    result = dpgen(*train, "--data", tmp_path / "again.npz", "--out", tmp_path / "two")
    assert_refused(result, "limit of epsilon = 0.3")
    ledger = next((home / "ledgers").glob("*.jsonl"))
    assert_refused(dpgen("ledger", "--raise", "9"), "--raise needs --ledger FILE")
    assert_refused(dpgen("ledger", "--raise", "0.1", "--ledger", ledger), "the limit must rise")
    shown = dpgen("ledger", "--raise", "0.6", "--ledger", ledger)
    assert shown.exit_code == 0 and " 0.6 " in shown.stdout and " 0.3 " in shown.stdout
    assert dpgen(*train, "--data", archive, "--out", tmp_path / "two").exit_code == 0
    told = dpgen("ledger").stdout
    assert " 2  40, 1x8x8" in told and told.count("epsilon = 0.3 alone, finished\n") == 2
    assert told.count("stages class means") == 2
    assert "\n\ndata set: a random name, the one that certificates state." in told
    for path in (archive, tmp_path / "one", tmp_path / "two", ledger):
        assert told.count(f" {path}\n") + told.endswith(f" {path}\n") >= 1


def test_a_limit_may_be_set_above_the_budget_of_the_first_run(
    archive: Path, tmp_path: Path
) -> None:
    train = ["train", "dpdm", *BUDGET, *[t for t in TINY if "student" not in t], *CPU, "-q"]
    train += ["--data", archive, "--set", "sampling_steps=1"]
    for name in ("one", "two"):
        done = dpgen(*train, "--limit", "0.5", "--out", tmp_path / name, "--yes")
        assert done.exit_code == 0, done.stderr
    assert_refused(dpgen(*train, "--out", tmp_path / "three"), "limit of epsilon = 0.5")
    statement = json.loads((tmp_path / "two" / "privacy.json").read_text())
    assert statement["data_set"]["runs"] == 2
    assert statement["guarantee"]["epsilon"] <= 0.3 < statement["data_set"]["total_epsilon"] <= 0.5


def test_a_folder_in_the_way_is_refused(archive: Path, run: Path, tmp_path: Path) -> None:
    full = tmp_path / "full"
    full.mkdir()
    (full / "mine.txt").write_text("mine")
    before = tree(tmp_path)
    train = ["train", "dp-sad", "--data", archive, *BUDGET, *TINY, *CPU]
    assert_refused(dpgen(*train, "--out", full), "must be empty or an unfinished run", "choose")
    assert_refused(dpgen(*train, "--out", full / "mine.txt"), "must be a folder")
    result = dpgen("sample", run, "-n", 2, "--out", full)
    assert_refused(result, "must be absent or an empty folder", "choose an empty folder")
    assert tree(tmp_path) == before


def test_sampling_needs_a_trained_run_with_all_its_files_as_they_were(
    run: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert_refused(dpgen("sample", tmp_path / "absent", "-n", 2, "--out", out), "does not exist")
    empty = tmp_path / "empty"
    empty.mkdir()
    assert_refused(dpgen("sample", empty, "-n", 2, "--out", out), "no privacy.json")
    for command in (["sample", run, "-n", "0"], ["sample", run]):
        assert_refused(dpgen(*command, "--out", out), "'-n'")
    assert_refused(dpgen("sample", run, "-n", 2, "--out", out, "--sampler", "hein"), "hein", "heun")
    assert_refused(
        dpgen("sample", run, "-n", 2, "--out", out, "--preview", tmp_path / "p.jpg"), ".png"
    )
    assert_refused(
        dpgen("sample", run, "-n", 2, "--out", out, "--preview", tmp_path / "no" / "p.png"),
        "--preview",
    )
    for name, old, new in (
        ("model.safetensors", b"denoiser", b"densoier"),
        ("config.json", b'"seed":', b'"seed":1'),
        ("privacy.json", b'"epsilon": 0.3', b'"epsilon": 0.2'),
    ):
        whole = (run / name).read_bytes()
        assert old in whole
        (run / name).write_bytes(whole.replace(old, new))
        result = dpgen("sample", run, "-n", 2, "--out", out)
        assert_refused(result, f"{name} missing or changed")
        checked = dpgen("verify", run)
        assert checked.exit_code == 1 and "Traceback" not in checked.output
        (run / name).write_bytes(whole)
    assert not out.exists()
    assert dpgen("verify", run).exit_code == 0


def test_verify_of_a_run_plans_it_again_and_loads_no_torch(run: Path) -> None:
    code = (
        "import sys\nfrom dpgen.commands.cli import main\n"
        "try: main(['verify', sys.argv[1], '--json'])\nexcept SystemExit as end: print(end.code)\n"
        "print([m for m in ('torch', 'diffusers', 'accelerate', 'PIL') if m in sys.modules])"
    )
    command = [sys.executable, "-c", code, str(run)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    report, status, loaded = done.stdout.rstrip().rsplit("\n", 2)
    states = {check["name"]: check["state"] for check in json.loads(report)["checks"]}
    assert states["plan of the configuration"] == "ok"
    assert (status, loaded) == ("0", "[]")


def test_verify_fails_where_there_is_nothing_to_verify(tmp_path: Path) -> None:
    assert_refused(dpgen("verify", tmp_path / "absent"), "absent does not exist")
    result = dpgen("verify", tmp_path)
    assert (
        result.exit_code == 1 and "FAILED" in result.stderr and "no privacy.json" in result.stderr
    )
    (tmp_path / "privacy.json").write_text('{"schema": "dpgen-privacy/2"}')
    result = dpgen("verify", tmp_path)
    assert result.exit_code == 1 and "FAILED" in result.stderr


@pytest.mark.parametrize("layout", written())
def test_too_little_disk_is_refused_before_anything_is_written(
    layout: str, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = tree(tmp_path)
    usage = shutil.disk_usage(tmp_path)._replace(free=100_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    out = tmp_path / "deep" / "out"
    result = dpgen("sample", run, "-n", 100_000, "--out", out, "--format", layout)
    assert_refused(result, "100000 images need up to", "0.1 MiB are free", "make space")
    assert tree(tmp_path) == before


def test_evaluation_refuses_what_it_cannot_compare(
    run: Path, archive: Path, tmp_path: Path
) -> None:
    assert_refused(dpgen("evaluate", tmp_path / "no", "--reference", "digits"), "no data at")
    assert_refused(dpgen("evaluate", "--reference", "digits"), "SETS")
    assert dpgen("sample", run, "-n", 4, "--out", tmp_path / "set", "-q").exit_code == 0
    evaluate = ["evaluate", tmp_path / "set", "-q", "--reference"]
    assert_refused(dpgen(*evaluate, tmp_path / "no"), "no data at")
    assert_refused(dpgen(*evaluate, "digits"), "the classes of", "must be the same")
    assert_refused(dpgen(*evaluate, archive, "--json", tmp_path / "no" / "s.json"), "--json")
    assert_refused(dpgen(*evaluate, archive, "--preview", tmp_path / "no" / "s.png"), "--preview")


# --- interruption, resume ------------------------------------------------------------------------


def test_control_c_is_130_and_the_same_command_goes_on(
    archive: Path, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = ["train", "dp-sad", "--data", archive, *BUDGET, *TINY, *CPU, "--out", tmp_path / "run"]

    def interrupted(*_: Any) -> None:  # noqa: ANN401
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(DPSAD, "_distil", interrupted)
        result = dpgen(*train)
    assert result.exit_code == 130
    assert "goes on where this one stopped" in result.stderr
    assert "Traceback" not in result.output and not (tmp_path / "run" / "privacy.json").exists()
    ledger = next((home / "ledgers").glob("*.jsonl"))
    charges = [line for line in ledger.read_text().splitlines() if '"kind":"charge"' in line]
    # No --seed the second time either: the run keeps its own.
    assert dpgen(*train).exit_code == 0
    again = [line for line in ledger.read_text().splitlines() if '"kind":"charge"' in line]
    assert again == charges and len(charges) == 3
    finished = dpgen(*train)
    assert finished.exit_code == 0
    assert "is finished already; nothing was charged" in finished.stderr
    assert GUARANTEE in finished.stdout
    result = dpgen(*train, "--set", "teacher.n_steps=3")
    assert_refused(result, "finished run of another configuration", "choose another folder")
    assert not any(check.failed for check in verify(tmp_path / "run"))


def test_a_machine_that_fails_is_3(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:  # noqa: ANN401
        raise OSError(28, "No space left on device")

    def short(*_: Any) -> None:  # noqa: ANN401
        raise MemoryError

    def no_room(*_: Any) -> None:  # noqa: ANN401
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nSee there.")

    train = ["train", "dp-sad", "--data", archive, *BUDGET, *TINY, *CPU, "--out", tmp_path / "run"]
    for failure, words in ((full, "make space, then run the same command again"),
                           (short, "out of memory: free some, then run the same command again"),
                           (no_room, "out of memory (CUDA out of memory. Tried to allocate 2 GiB.)"
                                     ": free some, then run the same command again")):  # fmt: skip
        with monkeypatch.context() as patch:
            patch.setattr(DPSAD, "_distil", failure)
            result = dpgen(*train)
        assert result.exit_code == 3 and words in result.stderr
        assert "Traceback" not in result.stderr
    assert dpgen(*train).exit_code == 0


def test_verbose_shows_the_traceback() -> None:
    result = dpgen("-v", "verify", "absent")
    assert result.exit_code == 2 and "Traceback" in result.stderr


# --- the whole way -------------------------------------------------------------------------------


def test_a_plan_is_the_price_that_train_pays(archive: Path, run: Path, tmp_path: Path) -> None:
    before = tree(tmp_path)
    arguments = ["plan", "dp-sad", "--data", archive, *BUDGET, *TINY, *CPU]
    said = dpgen(*arguments).stdout
    assert "dp-sad/sealed on 40 records of 1x8x8 in 2 classes" in said
    assert "nothing was charged" in said and "teacher" in said
    planned = json.loads(dpgen(*arguments, "--json").stdout)
    assert tree(tmp_path) == before
    paid = json.loads((run / "privacy.json").read_text())
    assert planned["epsilon"] == paid["guarantee"]["epsilon"] == 0.3
    events = [leaf for stage in planned["stages"] for leaf in stage["events"]]
    assert events == paid["accounting"]["events"]
    assert [stage["label"] for stage in planned["stages"]] == list(paid["releases"])
    assert planned["settings"]["teacher"]["n_steps"] == 2
    assert planned["rehearsal"]["n_parameters"] > 1000
    facts = tmp_path / "facts.toml"
    facts.write_text("shape = [1, 8, 8]\nclass_names = ['0', '1']\nn_records = 40\n")
    stated = dpgen("plan", "dp-sad", "--facts", facts, *BUDGET, *TINY, *CPU, "--json")
    assert json.loads(stated.stdout)["stages"] == planned["stages"], "a plan needs no data"


def test_classes_that_no_header_says_are_declared(archive: Path, tmp_path: Path) -> None:
    with np.load(archive) as held:
        np.savez(tmp_path / "bare.npz", images=held["images"], labels=held["labels"])
    plan = ["plan", "dp-sad", *BUDGET, *TINY, *CPU]
    bare = [*plan, "--data", tmp_path / "bare.npz"]
    assert_refused(dpgen(*bare), "does not say which classes there are", "--classes N")
    assert "40 records of 1x8x8 in 3 classes" in dpgen(*bare, "--classes", "3").stdout
    assert "40 records of 1x8x8 in 2 classes" in dpgen(*bare, "--classes", "ill,well").stdout
    assert_refused(dpgen(*bare, "--classes", "two"), "--classes takes N or NAME,NAME")
    assert_refused(dpgen(*bare, "--classes", "1"), "labels must be in 0..0, got 1 at record 1")
    stated = [*plan, "--data", archive, "--classes", "3"]
    assert_refused(dpgen(*stated), "classes must be what the npz data state, got 3")
    facts = tmp_path / "facts.toml"
    facts.write_text("shape = [1, 8, 8]\nclass_names = ['0', '1']\nn_records = 40\n")
    assert "in 2 classes" in dpgen(*bare, "--facts", facts).stdout
    refused = dpgen(*bare, "--facts", facts, "--classes", "5")
    assert_refused(refused, "classes must be what the facts state, got 5")


def test_a_run_says_what_it_declared_and_what_it_guarantees(archive: Path, tmp_path: Path) -> None:
    done = dpgen(
        "train", "dp-sad", "--data", archive, *BUDGET, *TINY, *CPU, "--out", tmp_path / "run",
        "--seed", 4,
    )  # fmt: skip
    assert done.exit_code == 0
    assert "declared public by you: 40 records, shape (1, 8, 8), 2 classes" in done.stderr
    assert GUARANTEE in done.stdout
    assert "adding or removing one record" in done.stdout
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == [
        "class_counts.json", "config.json", "facts.json", "ledger.jsonl", "model.safetensors",
        "preview.png", "privacy.json", "teacher.safetensors",
    ]  # fmt: skip
    assert json.loads((tmp_path / "run" / "config.json").read_text())["seed"] == 4


@pytest.mark.parametrize("layout", written())
def test_every_format_is_written_verified_and_read_back(
    layout: str, run: Path, tmp_path: Path
) -> None:
    out, preview = tmp_path / "set", tmp_path / "set.png"
    sample = [
        "sample", run, "-n", 7, "--labels", "uniform", "--seed", 3, "--format", layout, "-q", *CPU
    ]  # fmt: skip
    done = dpgen(*sample, "--out", out, "--preview", preview)
    assert done.exit_code == 0, done.stderr
    assert "7 images in" in done.stdout
    assert "This synthetic dataset " + GUARANTEE in done.stdout
    assert [line.split(":")[0] for line in done.stderr.splitlines()] == ["next"]
    images = read_images(out)
    assert images.pixels.shape == (7, 1, 8, 8)
    assert sorted(images.labels.tolist()) == [0, 0, 0, 0, 1, 1, 1]
    assert Image.open(preview).size[0] > 8
    statement = json.loads((out / "privacy.json").read_text())
    assert statement["synthetic_dataset"]["samples"] == 7
    assert statement["synthetic_dataset"]["seed"] == 3
    checked = dpgen("verify", out)
    assert checked.exit_code == 0 and "FAILED" not in checked.stdout
    assert "Not checked: authenticity" in checked.stdout
    # The seed is all it takes to draw them again.
    again = dpgen(*sample, "--out", tmp_path / "again")
    assert again.exit_code == 0
    assert torch.equal(read_images(tmp_path / "again").pixels, images.pixels)
    victim = next(p for p in sorted(out.rglob("*")) if p.is_file() and p.name != "privacy.json")
    victim.write_bytes(victim.read_bytes() + b" ")
    tampered = dpgen("verify", out, "--json")
    assert tampered.exit_code == 1
    assert json.loads(tampered.stdout)["passed"] is False


def test_options_of_a_sampler_are_listed_taken_and_recorded(run: Path, tmp_path: Path) -> None:
    shown = " ".join(dpgen("sample", "--help").stdout.split())
    for name, (_, options) in SAMPLERS.items():
        assert f"{name} {', '.join((*options, 'rho'))}" in shown
    drawn = []
    for k, chosen in enumerate((["sigma_max=9"], ["sigma_max=9", "eta=0.5", "rho=3"])):
        out = tmp_path / str(k)
        given = [part for text in chosen for part in ("--set", text)]
        done = dpgen(
            "sample", run, "-n", 2, "--seed", 1, "--sampler", "ddim", "--steps", 2, *given,
            "--format", "npz", "--out", out, "-q", *CPU,
        )  # fmt: skip
        assert done.exit_code == 0, done.stderr
        drawn.append(read_images(out).pixels)
        said = json.loads((out / "privacy.json").read_text())["synthetic_dataset"]["sampler"]
        assert "sigma_max=9" in said and ("eta=0.5" in said and "rho=3" in said) == bool(k)
    assert not torch.equal(*drawn)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["--set", "eta=1"], ["--set eta", "--sampler"]),
        (["--sampler", "ddim", "--set", "etta=1"], ["options of ddim are eta, rho", "'eta'"]),
        (["--sampler", "ddim", "--set", "eta=yes"], ["eta must be a number, got 'yes'"]),
        (["--sampler", "ddim", "--set", "sigma_min=true"], ["sigma_min must be a number"]),
        (["--sampler", "heun", "--set", "n_steps=3"], ["--steps"]),
        (["--steps", "3"], ["--steps 3 is for a sampler", "--sampler"]),
        (["--sampler", "langevin", "--set", "n_kernel_steps=1.5"], ["whole number, got 1.5"]),
    ],
)
def test_options_that_a_sampler_cannot_have_are_refused_before_anything_is_drawn(
    given: list[str], words: list[str], run: Path, tmp_path: Path
) -> None:
    assert_refused(dpgen("sample", run, "-n", 2, "--out", tmp_path / "out", *given), *words)
    assert not (tmp_path / "out").exists()


def test_any_sampler_draws_from_a_run(run: Path, tmp_path: Path) -> None:
    drawn = {}
    for name in ("ddim", "ddpm", "heun", "edm"):
        out = tmp_path / name
        done = dpgen(
            "sample", run, "-n", 4, "--seed", 1, "--sampler", name, "--steps", 3, "--guidance",
            0.5, "--format", "npz", "--out", out, "-q", *CPU,
        )  # fmt: skip
        assert done.exit_code == 0, done.stderr
        drawn[name] = read_images(out).pixels
        stated = json.loads((out / "privacy.json").read_text())["synthetic_dataset"]
        assert stated["guidance"] == 0.5
    assert len({tuple(pixels.flatten().tolist()) for pixels in drawn.values()}) == 4


@pytest.mark.slow
def test_the_first_run_of_the_manual_works_on_the_digits(tmp_path: Path) -> None:
    budget = ["--epsilon", "0.3"]
    train = ["train", "dp-sad", "--data", "digits", *budget, *TINY, *CPU, "-q"]
    assert dpgen("plan", "dp-sad", "--data", "digits", *budget, *TINY, *CPU).exit_code == 0
    for name in ("one", "two"):
        # Everyone has the digits: their ledger goes with the run, a second run is not refused.
        done = dpgen(*train, "--out", tmp_path / name)
        assert done.exit_code == 0, done.stderr
        assert "declared public" not in done.stderr
    statement = json.loads((tmp_path / "one" / "privacy.json").read_text())
    assert statement["data_set"]["ledger"] == "run folder (public data)"
    sample = ["sample", tmp_path / "one", "-n", 200, "--out", tmp_path / "set", "-q", *CPU]
    assert dpgen(*sample).exit_code == 0
    scores = tmp_path / "scores.json"
    done = dpgen(
        "evaluate", tmp_path / "set", "--reference", "digits", "--network", "mlp", "--json", scores,
        "--preview", tmp_path / "eyes.png", "-q",
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr
    assert "Against 360 real images (digits, test)" in done.stdout
    assert json.loads(scores.read_text())["private"] is False
    assert Image.open(tmp_path / "eyes.png").size[0] > 8
    for folder in ("one", "two", "set"):
        assert dpgen("verify", tmp_path / folder).exit_code == 0


def test_the_installed_program_ends_with_the_status_it_says(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "dpgen", "verify", str(tmp_path)],
        capture_output=True,
        text=True,
        env=os.environ,
        check=False,
    )
    assert done.returncode == 1 and done.stderr.startswith("FAILED: ")
