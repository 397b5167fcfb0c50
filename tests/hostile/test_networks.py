"""Weights of others: a network is built only when its file holds exactly that network, and a run is
loaded only when all of it is of one piece; a forger who makes every hash fit is no exception.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from dpgen.methods.loading import load
from dpgen.networks.denoiser import Denoiser
from dpgen.networks.student import ClassifierConfig, Student
from dpgen.privacy.statements.certificate import CertificateError, read_statement
from dpgen.privacy.verification.verify import verify
from dpgen.runs.released import load_network
from dpgen.synthetic.synthesise import synthesise
from tests.hostile.children import in_child
from tests.hostile.run_formats import covered, sealed
from tests.hostile.tensor_formats import denoiser, proposer, tensor_file

pytestmark = pytest.mark.usefixtures("one_thread")

Change = Callable[[dict[str, Tensor]], object]


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy of a finished run to spoil."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


def write(
    folder: Path, tensors: dict[str, Tensor], numbers: object, kind: str = "denoiser"
) -> Path:
    path = folder / "a.safetensors"
    path.write_bytes(tensor_file(tensors)({kind: json.dumps(numbers)}))
    return path


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda w: w.pop("unet.conv_out.bias"), r"'unet\.conv_out\.bias' must be Layout.*got None"),
        (lambda w: w.update(extra=torch.zeros(1)), "'extra' must be None, got Layout"),
        (lambda w: w.update({"unet.conv_out.bias": torch.zeros(2)}), r"must be .*\(1,\)\), got"),
        (lambda w: w.update({"unet.conv_out.bias": torch.zeros(1, 1)}), r"got .*\(1, 1\)"),
        (lambda w: w.update({"unet.conv_out.bias": torch.zeros(1).double()}), "got .*float64"),
        (lambda w: w.update({"unet.conv_out.bias": torch.zeros(1).long()}), "got .*int64"),
        (lambda w: w["prior.rest"].fill_(float("inf")), r"weight prior\.rest is not finite"),
        (lambda w: w["prior.means"][1, 0, 3].fill_(float("nan")), "weight prior.means is not fin"),
    ],
    ids=["absent", "extra", "length", "rank", "float64", "int64", "infinite", "not a number"],
)
def test_a_file_must_hold_the_very_tensors_of_its_network(
    tmp_path: Path, change: Change, word: str
) -> None:
    tensors, numbers = denoiser()
    tensors = {name: tensor.clone() for name, tensor in tensors.items()}
    assert isinstance(load_network(write(tmp_path, tensors, numbers)), Denoiser)
    change(tensors)
    with pytest.raises(ValueError, match=rf"a\.safetensors: .*{word}"):
        load_network(write(tmp_path, tensors, numbers))


HUGE: list[dict[str, Any]] = [
    {"shape": [1, 2**40, 2**40]}, {"shape": [3, 4096, 4096]}, {"shape": [1, 8, 8, 8]},
    {"shape": []}, {"shape": "188"}, {"shape": [1, 8.0, "8"]}, {"shape": None},
    {"n_classes": 2**31}, {"n_classes": 60_000}, {"n_classes": "2"}, {"n_classes": -1},
    {"block_out_channels": [65_536, 65_536]}, {"block_out_channels": [8] * 10_000},
    {"block_out_channels": [0, 0]}, {"block_out_channels": 3}, {"block_out_channels": [8] * 16},
    {"layers_per_block": 10**9}, {"layers_per_block": 60_000}, {"layers_per_block": 1.5},
    {"norm_groups": 0}, {"norm_groups": None}, {"attention_levels": [0, 1]},
    {"attention_levels": [9]}, {"sigma_data": 1e200}, {"sigma_data": 0}, {"sigma_data": []},
    {"prior_bands": 60_000}, {"prior_bands": 2.5}, {"n_reserved": 65_536}, {"nonsense": 1},
    {"prior_bands": 180, "shape": [1, 4096, 4096]},
    {"prior_bands": 60_000, "shape": [1, 4096, 4096]},
]  # fmt: skip


@pytest.mark.parametrize("change", HUGE, ids=lambda c: json.dumps(c)[:50])
def test_a_network_that_the_file_does_not_hold_is_never_built(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    tensors, numbers = denoiser()
    path = write(tmp_path, tensors, numbers | change)
    outcome = in_child(lambda: load_network(path))
    assert outcome.refused and "a.safetensors" in outcome.message, outcome.message


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("decoder", None), ("labeller", 3), ("warp", "a"), ("warp", -1), ("warp", 1e99),
        ("decoder.channels", []), ("decoder.channels", [65_536]), ("decoder.width", 65_536),
        ("decoder.shape", [1, 4096, 4096]), ("decoder.shape", [1, 8]), ("decoder.n_classes", 3),
        ("labeller.n_axes", 65_536), ("labeller.n_classes", 3), ("labeller.features.grid", 65_536),
        ("labeller.features.shape", [3, 8, 8]), ("labeller.features.grid", 0),
        ("labeller.features", []),
    ],
)  # fmt: skip
def test_a_proposer_that_the_file_does_not_hold_is_never_built(
    tmp_path: Path, place: str, value: object
) -> None:
    tensors, numbers = proposer()
    numbers = json.loads(json.dumps(numbers))
    *groups, name = place.split(".")
    at = numbers
    for group in groups:
        at = at[group]
    at[name] = value
    path = write(tmp_path, tensors, numbers, "proposer")
    outcome = in_child(lambda: load_network(path))
    assert outcome.refused and "a.safetensors" in outcome.message, outcome.message


@pytest.mark.parametrize(
    "change",
    [
        {"width": 65_536}, {"width": 12}, {"width": -8}, {"n_classes": 0}, {"n_classes": 65_536},
        {"shape": [1, 4096, 4096]}, {"shape": [1, 8]}, {"shape": [1, 2, 2]}, {"names": ["a"]},
    ],
    ids=json.dumps,
)  # fmt: skip
def test_a_student_that_the_file_does_not_hold_is_never_built(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    numbers: dict[str, Any] = {"shape": [1, 8, 8], "n_classes": 2, "width": 8}
    tensors = dict(Student(ClassifierConfig((1, 8, 8), 2, 8)).state_dict())
    assert isinstance(load_network(write(tmp_path, tensors, numbers, "classifier")), Student)
    path = write(tmp_path, tensors, numbers | change, "classifier")
    with pytest.raises(ValueError, match=r"a\.safetensors"):
        load_network(path)


def forge(run: Path, name: str, content: bytes) -> None:
    """Puts another content in a run, with a statement that covers it."""
    statement = covered(run, name, content)
    (run / name).write_bytes(content)
    (run / "privacy.json").write_bytes(statement)


@pytest.mark.parametrize(
    ("content", "word"),
    [
        ([], r"config\.json has schema None"),
        ({"schema": ["dpgen-config/1"]}, "has schema"),
        ({"schema": "dpgen-config/1"}, r"config\.json is not what a run writes: KeyError"),
        ({"method": []}, "is not what a run writes"),
        ({"method": "x"}, "unknown method 'x'"),
        ({"budget": 1}, "budget must be a table"),
        ({"budget": {"epsilon": 1}}, r"setting 'budget\.delta' is missing"),
        ({"budget": {"epsilon": "1", "delta": 0.1}}, r"'budget\.epsilon' must be a number, got"),
        ({"budget": {"epsilon": 1, "delta": 0.1, "x": 1}}, r"unknown setting 'budget\.x'"),
        ({"settings": []}, "settings must be a table"),
        ({"settings": {"mode": "paper"}}, "mode"),
        ({"settings": {"teacher": {"bands": "3"}}}, r"'teacher\.bands' must be"),
        ({"settings": {"sampling_steps": 0}}, "n_levels must be at least 1"),
    ],
)
def test_a_configuration_that_no_run_wrote_is_refused(run: Path, content: Any, word: str) -> None:  # noqa: ANN401
    whole = json.loads((run / "config.json").read_text())
    only = isinstance(content, list) or list(content) == ["schema"]
    forge(run, "config.json", json.dumps(content if only else whole | content).encode())
    with pytest.raises(ValueError, match=word):
        load(run)


@pytest.mark.parametrize(
    ("content", "word"),
    [
        ([], r"facts\.json must be a table"),
        ({"class_names": ["a", "b"]}, r"must be a denoiser of \(1, 8, 8\) images in 2 classes"),
        ({"shape": [1, 16, 16]}, r"must be a denoiser of \(1, 16, 16\) images"),
        ({"shape": [1, 2**40, 2**40]}, "must be a denoiser of"),
        ({"n_records": 10**30}, r"below 2\*\*63"),
    ],
)
def test_networks_must_be_of_the_images_that_the_facts_say(
    run: Path, content: Any, word: str  # noqa: ANN401
) -> None:
    whole = json.loads((run / "facts.json").read_text())
    text = json.dumps(content if isinstance(content, list) else whole | content)
    forge(run, "facts.json", text.encode())
    with pytest.raises(ValueError, match=word):
        load(run)


def test_a_run_without_its_model_is_refused(run: Path) -> None:
    statement = json.loads((run / "privacy.json").read_text())
    files = statement["artifact"]["files"]
    files["teacher.safetensors"] = files.pop("model.safetensors")
    (run / "model.safetensors").rename(run / "teacher.safetensors")
    (run / "privacy.json").write_bytes(sealed(statement))
    with pytest.raises(ValueError, match=r"must hold 'model'\.safetensors"):
        load(run)


@pytest.mark.parametrize(
    "files",
    [[["a", "b"]], "ab", None, {"..": ""}, {"": ""}, {"a/b": ""}, {"x" * 300: ""}, {"a\0": ""}],
)
@pytest.mark.parametrize("kind", ["model", 5, None])
def test_a_statement_whose_files_are_none_is_refused(
    run: Path, files: object, kind: object
) -> None:
    statement = json.loads((run / "privacy.json").read_text())
    statement["artifact"] = {"kind": kind, "files": files}
    (run / "privacy.json").write_bytes(sealed(statement))
    with pytest.raises(CertificateError):
        load(run)


def test_a_run_of_terabytes_is_refused_before_it_is_hashed(run: Path) -> None:
    with (run / "model.safetensors").open("r+b") as file:
        file.truncate(2**40)
    outcome = in_child(lambda: load(run))
    assert outcome.refused and "must have at most 2147483648 bytes" in outcome.message


@pytest.mark.parametrize("name", ["guarantee", "facts", "releases"])
def test_nothing_is_drawn_under_a_statement_that_nothing_can_be_inherited_from(
    run: Path, name: str, tmp_path: Path
) -> None:
    statement = json.loads((run / "privacy.json").read_text())
    del statement[name]
    (run / "privacy.json").write_bytes(sealed(statement))
    if name == "guarantee":
        with pytest.raises(CertificateError, match="lacks or misplaces 'guarantee'"):
            synthesise(run, 2, tmp_path / "out")
        assert not list(tmp_path.glob("*out*"))
    with pytest.raises(CertificateError):
        verify(run)


def test_a_copy_of_a_run_takes_nothing_that_lies_beside_it(run: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (run / "link").symlink_to(tmp_path / "secret")
    (run / "zeros").symlink_to("/dev/zero")
    generator = load(run)
    generator.save(tmp_path / "copy")
    known = {*read_statement(run)["artifact"]["files"], "privacy.json"}
    assert {path.name for path in (tmp_path / "copy").iterdir()} == known
    assert load(tmp_path / "copy").privacy == generator.privacy
