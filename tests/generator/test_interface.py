"""PrivateGenerator: samples are a function of weights, labels and seed, and weights are checked."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import dpgen
from dpgen.generator.draw import Draw
from dpgen.generator.drawing import BLOCK, Drawing, draw_blocks
from dpgen.generator.interface import PrivateGenerator
from dpgen.generator.released import NotFitted
from dpgen.methods.loading import load
from dpgen.privacy.statements.certificate import CertificateError
from dpgen.privacy.statements.notice import UnverifiedClaim
from dpgen.privacy.verification.verify import verify
from dpgen.runs.context import Hardware
from dpgen.runs.released import load_network
from dpgen.synthetic.synthesise import synthesise

pytestmark = pytest.mark.usefixtures("one_thread", "home", "remembering_accountant")


@pytest.fixture
def fitted(
    untrained: Callable[..., Any],
    dataset: Callable[..., Any],
    records: Any,  # noqa: ANN401
    tmp_path: Path,
) -> Callable[[str], PrivateGenerator]:
    def make(method: str) -> PrivateGenerator:
        generator: PrivateGenerator = untrained(method)
        return generator.fit(
            dataset(records), out=tmp_path / "run", seed=1, hardware=Hardware("cpu")
        )

    return make


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_a_saved_and_loaded_generator_draws_the_same_images_bit_by_bit(
    fitted: Callable[[str], PrivateGenerator], tmp_path: Path
) -> None:
    for method in ("dp-sad",):
        generator = fitted(method)
        generator.save(tmp_path / "copy")
        again = load(tmp_path / "copy")
        assert type(again) is type(generator)
        assert again.settings == generator.settings
        assert again.facts == generator.facts
        assert again.privacy == generator.privacy
        one, other = (g.sample(5, generator=seeded(3), guidance=0.5) for g in (generator, again))
        assert torch.equal(one.pixels, other.pixels)
        assert not any(check.failed for check in verify(tmp_path / "copy"))


def test_sampling_is_a_function_of_its_generator_in_blocks_that_ignore_how_many_are_asked_for(
    fitted: Callable[[str], PrivateGenerator],
) -> None:
    generator = fitted("dp-sad")
    many = generator.sample(BLOCK + 44, generator=seeded(5))
    block = generator.sample(BLOCK, generator=seeded(5))
    few = generator.sample(7, generator=seeded(5))
    assert many.pixels.shape == (300, 1, 8, 8)
    assert torch.equal(many.pixels[:BLOCK], block.pixels)
    assert torch.equal(many.pixels[:7], few.pixels)
    assert torch.equal(many.labels, torch.arange(300) % 3)
    assert many.pixels.abs().max() <= 1
    other = generator.sample(BLOCK, generator=seeded(6))
    assert not torch.equal(block.pixels, other.pixels)
    # The second block has noise of its own, not the first one's.
    assert not torch.allclose(many.pixels[BLOCK : BLOCK + 42], many.pixels[:42], atol=1e-3)


def test_labels_reach_the_images_and_bad_ones_are_refused(
    fitted: Callable[[str], PrivateGenerator],
) -> None:
    generator = fitted("dpdm")
    ones = generator.sample(4, labels=torch.ones(4, dtype=torch.int64), generator=seeded(1))
    twos = generator.sample(4, labels=torch.full((4,), 2), generator=seeded(1))
    assert ones.labels.tolist() == [1] * 4
    assert not torch.equal(ones.pixels, twos.pixels)
    with pytest.raises(ValueError, match="n must be at least 1, got 0"):
        generator.sample(0)
    for labels in (torch.tensor([0, 3]), torch.tensor([-1, 0]), torch.tensor([0])):
        with pytest.raises(ValueError, match=r"labels must (lie in \[0, 2\]|be as many as n = 2)"):
            generator.sample(2, labels=labels)


def test_the_teacher_is_drawn_from_with_its_own_path_when_it_is_named(
    fitted: Callable[[str], PrivateGenerator], tmp_path: Path
) -> None:
    generator = fitted("dp-sad")
    student, teacher = (
        generator.sample(4, generator=seeded(1), network=name) for name in ("model", "teacher")
    )
    path = generator.default_sampler("teacher")
    assert path.n_evaluations > generator.default_sampler().n_evaluations
    by_hand = list(
        draw_blocks(
            Drawing(generator.networks["teacher"], path),
            torch.arange(4) % 3,
            int(torch.randint(2**62, (), generator=seeded(1))),
        )
    )
    assert torch.equal(by_hand[0].pixels, teacher.pixels)
    assert not torch.allclose(student.pixels, teacher.pixels, atol=1e-3)
    with pytest.raises(ValueError, match="network must be model or teacher, got 'student'"):
        generator.sample(4, network="student")
    with pytest.raises(ValueError, match="network must be model or teacher, got 'student'"):
        synthesise(tmp_path / "run", 4, tmp_path / "set", Draw(network="student"))
    assert not (tmp_path / "set").exists()
    synthesise(tmp_path / "run", 4, tmp_path / "set", Draw(network="teacher"), seed=1)
    stated = json.loads((tmp_path / "set" / "privacy.json").read_text())["synthetic_dataset"]
    assert stated["network"] == "teacher" and stated["sampler"] == repr(path)


def test_a_precision_is_stated_and_an_unknown_one_is_refused(
    fitted: Callable[[str], PrivateGenerator], tmp_path: Path
) -> None:
    generator = fitted("dpdm")
    rest, half = (generator.sample(4, seed=1, precision=p).pixels for p in ("no", "bf16"))
    assert not torch.equal(rest, half)
    for precision, stated in (("no", "float32"), ("bf16", "bf16")):
        out, draw = tmp_path / stated, Draw(precision=precision)
        found = synthesise(tmp_path / "run", 4, out, draw, seed=1, layout="npz")
        held = json.loads((out / "privacy.json").read_text())["synthetic_dataset"]
        assert held == found["synthetic_dataset"] and held["precision"] == stated
    with pytest.raises(ValueError, match="precision must be no or bf16, got 'half'"):
        generator.sample(4, precision="half")


def test_no_generator_draws_a_fresh_seed(fitted: Callable[[str], PrivateGenerator]) -> None:
    generator = fitted("dpdm")
    torch.manual_seed(0)
    first = generator.sample(2).pixels
    torch.manual_seed(0)
    assert not torch.equal(first, generator.sample(2).pixels)


def test_what_was_not_fitted_says_so(untrained: Callable[..., Any], tmp_path: Path) -> None:
    generator = untrained("dpdm")
    for use in (
        lambda: generator.sample(1),
        lambda: generator.privacy,
        lambda: generator.save(tmp_path / "x"),
    ):
        with pytest.raises(NotFitted, match=r"needs fit\(\) or load\(\) first"):
            use()
    assert not (tmp_path / "x").exists()


def test_save_fills_an_empty_folder_and_no_other(
    fitted: Callable[[str], PrivateGenerator], tmp_path: Path
) -> None:
    generator = fitted("dpdm")
    full = tmp_path / "full"
    full.mkdir()
    (full / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match="is not empty: choose another"):
        generator.save(full)
    assert [p.name for p in full.iterdir()] == ["mine.txt"]
    empty = tmp_path / "empty"
    empty.mkdir()
    generator.save(empty)
    assert {p.name for p in empty.iterdir()} == {p.name for p in (tmp_path / "run").iterdir()}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["empty", "full", "home", "run"]


def rewrite(path: Path, change: Callable[[dict[str, Tensor]], None]) -> None:
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    weights = load_file(path)
    change(weights)
    save_file(weights, path, metadata=metadata)


def test_changed_weights_are_not_loaded(
    fitted: Callable[[str], PrivateGenerator], tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    fitted("dp-sad")

    def nudge(weights: dict[str, Tensor]) -> None:
        next(iter(weights.values())).view(-1)[0] += 1e-3

    statement = (folder / "privacy.json").read_text()
    for name in ("model.safetensors", "teacher.safetensors"):
        whole = (folder / name).read_bytes()
        rewrite(folder / name, nudge)
        with pytest.raises(CertificateError, match=f"{name} missing or changed"):
            load(folder)
        (folder / name).unlink()
        with pytest.raises(CertificateError, match=f"{name} missing or changed"):
            load(folder)
        (folder / name).write_bytes(whole)
    load(folder)
    cheaper = json.loads(statement)
    cheaper["guarantee"]["epsilon"] = 0.01
    (folder / "privacy.json").write_text(json.dumps(cheaper))
    with pytest.raises(CertificateError, match="privacy.json missing or changed"):
        load(folder)


def test_weights_that_are_no_numbers_are_refused(
    fitted: Callable[[str], PrivateGenerator], tmp_path: Path
) -> None:
    path = tmp_path / "run" / "model.safetensors"
    fitted("dpdm")

    def poison(weights: dict[str, Tensor]) -> None:
        weights["unet.conv_out.bias"][0] = float("nan")

    rewrite(path, poison)
    with pytest.raises(ValueError, match=r"weight unet\.conv_out\.bias is not finite"):
        load_network(path)


def test_only_a_trained_run_is_loaded(tmp_path: Path) -> None:
    with pytest.raises(CertificateError, match="absent does not exist: name the folder of a"):
        load(tmp_path / "absent")
    other = tmp_path / "set"
    other.mkdir()
    statement = {
        "schema": "dpgen-privacy/2",
        "artifact": {"kind": "synthetic_dataset", "files": {}},
    }
    for text, message in (
        (statement | {"sha256": ""}, "holds a synthetic dataset, not a trained run"),
        ({"schema": "dpgen-privacy/2"}, "not a statement of a run"),
        ({"schema": "dpgen-privacy/1"}, "this version reads dpgen-privacy/3 and dpgen-privacy/2"),
    ):
        (other / "privacy.json").write_text(json.dumps(text))
        with pytest.raises(CertificateError, match=message):
            load(other)
    (other / "notice.json").write_text("{}")
    with pytest.raises(UnverifiedClaim, match="its privacy claim is not verified"):
        load(other)
    with pytest.raises(CertificateError, match="one of them is false"):
        load(other, allow_unverified=True)


def test_a_fit_that_fails_lets_go_of_the_run_folder(
    untrained: Callable[..., Any],
    dataset: Callable[..., Any],
    records: Any,  # noqa: ANN401
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fit = untrained("dpdm").fit
    with monkeypatch.context() as patch:
        patch.setattr("dpgen.stages.teacher.train", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            fit(dataset(records), out=tmp_path / "run", hardware=Hardware("cpu"))
    # The lock went with the failure: the same process may go on.
    fit(dataset(records), out=tmp_path / "run", hardware=Hardware("cpu"))
    assert not (tmp_path / "run" / "checkpoint").exists()


def test_a_refused_budget_leaves_nothing_behind(
    fitted: Callable[[str], PrivateGenerator],
    untrained: Callable[..., Any],
    dataset: Callable[..., Any],
    records: Any,  # noqa: ANN401
    tmp_path: Path,
) -> None:
    fitted("dpdm")
    with pytest.raises(dpgen.BudgetExceeded, match="Nothing was read"):
        untrained("dpdm").fit(dataset(records), out=tmp_path / "again", hardware=Hardware("cpu"))
    assert not (tmp_path / "again").exists()
