"""An exported classifier, run by onnxruntime alone, gives the logits of the released one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from dpgen.exports import onnx as exported
from dpgen.generator.fitted import Fitted
from dpgen.images.images import PublicFacts
from dpgen.networks.student import ClassifierConfig, Student
from dpgen.privacy.statements.document import Certificate, Notice
from samplers import make_sampler
from tests.exports.test_diffusers import CERTIFICATE

NAMES = ("ill, or so", "well", "été")


class Toy(Fitted):
    """A student of random weights, as if a run had released it."""

    facts = PublicFacts((3, 9, 7), NAMES, 30, origin="stated")

    def __init__(self, document: Any = None) -> None:  # noqa: ANN401
        torch.manual_seed(0)
        student = Student(ClassifierConfig((3, 9, 7), 3, 8))
        self.networks = {"student": student.eval().requires_grad_(False)}
        self._document = document or Certificate(CERTIFICATE)

    def default_sampler(self, network: str = "model") -> None:
        return None

    @property
    def document(self) -> Certificate | Notice:
        return self._document


def test_a_runtime_computes_the_logits_of_any_number_of_images(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    toy = Toy()
    exported.export(toy, None, None, tmp_path)
    session = onnxruntime.InferenceSession(tmp_path / exported.FILE)
    for n in (1, 2, 7):
        x = torch.rand(n, 3, 9, 7) * 2 - 1
        (logits,) = session.run(None, {"images": x.numpy()})
        expected = toy.networks["student"](x)
        assert torch.allclose(torch.from_numpy(logits), expected, atol=1e-5)
    with pytest.raises(Exception, match="Got invalid dimensions"):
        session.run(None, {"images": np.zeros((1, 3, 8, 8), np.float32)})
    told = session.get_modelmeta().custom_metadata_map
    assert json.loads(told["class_names"]) == list(NAMES)
    assert (told["epsilon"], told["certificate_sha256"]) == ("1.0", "0" * 64)
    assert json.loads((tmp_path / "run-privacy.json").read_text()) == CERTIFICATE
    onnx.checker.check_model(str(tmp_path / exported.FILE), full_check=True)
    text = (tmp_path / "README.md").read_text()
    monkeypatch.chdir(tmp_path)
    exec(text.split("```python\n")[1].split("```")[0], {})  # noqa: S102 - what readers will run
    assert "ill, or so" in capsys.readouterr().out
    assert str(CERTIFICATE["statement"]) in text


def test_without_a_guarantee_file_and_page_say_so(tmp_path: Path) -> None:
    notice = Notice({"mechanism": {"id": "x/paper"}, "sha256": "0" * 64})
    exported.export(Toy(notice), "student", None, tmp_path)
    told = {one.key: one.value for one in onnx.load(tmp_path / exported.FILE).metadata_props}
    assert "NO PRIVACY GUARANTEE" in told["privacy"] and "epsilon" not in told
    assert "NO PRIVACY GUARANTEE" in (tmp_path / "README.md").read_text()


def test_what_has_no_form_in_onnx_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match="this run has none of that name: name another"):
        exported.export(Toy(), "model", None, tmp_path)
    sampler = make_sampler("ddim", n_steps=2, sigma_min=0.1, sigma_max=1.0)
    with pytest.raises(ValueError, match="a classifier has none: drop it"):
        exported.export(Toy(), None, sampler, tmp_path)
    monkeypatch.setattr(exported, "NEEDED", ("onnx", "no_such_package"))
    with pytest.raises(ModuleNotFoundError, match="pip install no_such_package"):
        exported.export(Toy(), None, None, tmp_path)
    assert not list(tmp_path.iterdir())
