"""Legs: what is carried comes back as it was, recipes are settings that the methods take, and a
rate is of the steps between checkpoints."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from legs import archive
from legs.archive import PART, pack, unpack
from legs.judge import views
from legs.recipes import recipe
from legs.row import Row
from legs.watch import Watch, steps_done

from dpgen.images.images import PublicFacts
from dpgen.methods import find
from dpgen.privacy.accounting.accountant import Budget
from dpgen.runs.checkpoint import Checkpoints
from dpgen.settings import from_dict

SHAPES = {"mnist": (1, 28, 28), "cifar10": (3, 32, 32)}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_folder_comes_back_as_it_was_without_what_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "PART", 1000)
    run, early = (tmp_path / "out" / row / "run" / "checkpoint" for row in ("row", "early"))
    for path in (
        run / "state" / "teacher.safetensors", run / "keys" / "secret.key",
        run / "state" / "score.safetensors", run / "state" / "pairs.safetensors",
        early / "state" / "score.safetensors", tmp_path / "out" / "home" / "key",
    ):  # fmt: skip
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(torch.randn(500).numpy().tobytes())
    (run / "keys" / "secret.key").chmod(0o600)
    (tmp_path / "out" / "features").mkdir()
    (tmp_path / "out" / "features" / "real").write_bytes(b"x")
    pack(tmp_path / "out", tmp_path / "parts")
    n_parts = len(list((tmp_path / "parts").iterdir()))
    unpack(tmp_path / "parts", tmp_path / "back")
    # Once DP-SGD has a checkpoint, the weights that it began with are not needed.
    state = "row/run/checkpoint/state"
    left = {"features/real", f"{state}/pairs.safetensors", f"{state}/score.safetensors"}
    expected = {k: v for k, v in contents(tmp_path / "out").items() if k not in left}
    assert contents(tmp_path / "back") == expected and len(expected) == 4
    key = tmp_path / "back" / "row" / "run" / "checkpoint" / "keys" / "secret.key"
    assert key.stat().st_mode & 0o777 == 0o600
    assert n_parts > 2 and all(p.stat().st_size <= 1000 for p in (tmp_path / "parts").iterdir())
    # A later, smaller pack leaves no part of this one behind.
    (run / "state" / "teacher.safetensors").write_bytes(b"")
    pack(tmp_path / "out", tmp_path / "parts")
    assert len(list((tmp_path / "parts").iterdir())) < n_parts
    unpack(tmp_path / "parts", tmp_path / "again")
    assert contents(tmp_path / "again")[f"{state}/teacher.safetensors"] == b""
    with pytest.raises(ValueError, match="must not exist"):
        unpack(tmp_path / "parts", tmp_path / "again")


def test_parts_leave_room_below_what_a_mail_or_a_store_takes() -> None:
    assert PART <= 15 * 2**20


@pytest.mark.parametrize("dataset", sorted(SHAPES))
@pytest.mark.parametrize("method", ["dpdm", "dp-sad", "pge"])
@pytest.mark.parametrize("epsilon", [0.2, 10.0])
def test_every_recipe_is_one_that_its_method_resolves(
    dataset: str, method: str, epsilon: float
) -> None:
    kind, facts = find(method), PublicFacts(SHAPES[dataset], tuple("0123456789"), 50_000)
    settings = from_dict(kind.Settings, recipe(dataset, method, epsilon))
    teacher = kind(budget=Budget(epsilon, 1e-5), settings=settings).resolve(facts).teacher
    assert teacher.batch * teacher.n_draws * teacher.n_steps < 576e6 / 100
    # Images of colour come from a Gaussian, grey ones from the sketch, which may have a labeller.
    assert (teacher.sketch is not None) == (dataset == "mnist")


def test_rows_are_read_from_words() -> None:
    assert Row.parse("mnist:dp-sad:0.2") == Row("mnist", "dp-sad", 0.2)
    assert Row.parse("mnist:dp-sad:10").name == "mnist-dp-sad-10"
    for wrong in ("mnist:dpdm", "mnist:dpdm:ten", "mnist:dpdm:1:2"):
        with pytest.raises(ValueError, match="DATASET:METHOD:EPSILON"):
            Row.parse(wrong)
    with pytest.raises(ValueError, match="cifar10 or mnist|mnist or cifar10"):
        recipe("svhn", "dpdm", 1.0)


def test_a_dp_sad_run_is_judged_as_its_student_and_as_the_other_methods_on_its_teacher() -> None:
    found = views("dp-sad", (1, 28, 28))
    assert [(method, network) for method, network, _ in found] == [
        ("dpdm", "teacher"), ("dp-sad", "model"), ("pge", "teacher"),
    ]  # fmt: skip
    assert [method for method, _, _ in views("pge", (1, 28, 28))] == ["pge"]


def test_the_rate_is_of_the_steps_between_the_first_checkpoint_and_the_last(
    tmp_path: Path,
) -> None:
    watch = Watch(tmp_path, "row", images=100, until=None)
    watch.seen = [(10.0, 5)]
    assert watch.rate is None
    watch.seen += [(12.0, 9), (20.0, 25)]
    assert math.isclose(watch.rate or 0, 20 * 100 / 10)
    assert steps_done(tmp_path / "teacher.safetensors") is None
    Checkpoints(tmp_path).save("teacher", {"x": torch.zeros(1)}, step=7)
    assert steps_done(tmp_path / "teacher.safetensors") == 7
