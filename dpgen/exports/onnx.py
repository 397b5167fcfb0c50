"""Exports to ONNX: the classifier that a run releases, for any runtime."""

from __future__ import annotations

import importlib.util
import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dpgen.exports.stated import origin, stated
from dpgen.generator.fitted import Fitted
from dpgen.networks.student import Student
from dpgen.runs.kinds import kind_of
from samplers import Sampler

FILE = "classifier.onnx"
NEEDED = ("onnx", "onnxscript")
USE = """import numpy as np
import onnxruntime

session = onnxruntime.InferenceSession("classifier.onnx")
names = session.get_modelmeta().custom_metadata_map["class_names"]  # a JSON list
pixels = np.zeros((1, {shape}), np.uint8)  # images (B, C, H, W)
(logits,) = session.run(None, {{"images": pixels.astype(np.float32) / 127.5 - 1}})
print(names, logits.argmax(1))
"""


def export(
    generator: Fitted, network: str | None, sampler: Sampler | None, folder: Path
) -> None:  # fmt: skip
    """Writes ``classifier.onnx``, ``README.md`` and the statement of the run.

    The network maps ``images``, float32 (B, C, H, W) in [-1, 1], B free, to ``logits``, (B, K). Its
    metadata hold the class names, as a JSON list, and what the statement says.

    Args:
        generator: a fitted generator.
        network: name of a released classifier; None for the student.
        sampler: None; a classifier has none.
        folder: an empty folder.

    Raises:
        ValueError: the run released no such network, or it has no form in ONNX.
        ModuleNotFoundError: onnx or onnxscript is missing.
    """
    if sampler is not None:
        raise ValueError("--sampler draws images, and a classifier has none: drop it")
    released = _classifier(generator, network or "student")
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise ModuleNotFoundError(
            f"--to onnx needs the package {missing[0]}: pip install {' '.join(missing)}"
        )
    facts = generator.facts
    assert facts is not None
    told = {**stated(generator.document), "class_names": json.dumps(facts.class_names)}
    _save(released, facts.shape, told, folder / FILE)
    document = generator.document
    (folder / f"run-{document.name}").write_bytes(document.to_bytes())
    readme = "\n".join(_readme(generator, facts.shape))
    (folder / "README.md").write_text(readme, encoding="utf-8")


def _classifier(generator: Fitted, name: str) -> Student:
    """Returns a released classifier. Raises ValueError for any other network."""
    released: nn.Module | None = generator.networks.get(name)
    if isinstance(released, Student):
        return released
    found = "none of that name" if released is None else f"a {kind_of(released)} of that name"
    raise ValueError(
        f"network {name!r} must be a convolutional classifier, as runs of dpdfd release as "
        f"student, and this run has {found}: name another by --network, or train dpdfd"
    )


def _save(classifier: Student, shape: tuple[int, ...], told: dict[str, str], path: Path) -> None:
    """Writes one file with weights and metadata."""
    example = torch.zeros(2, *shape)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of torch about torch
        program: Any = torch.onnx.export(
            classifier.eval(), (example,), input_names=["images"], output_names=["logits"],
            dynamic_shapes={"x": {0: torch.export.Dim("batch")}}, verbose=False,
        )  # fmt: skip
    program.model.metadata_props.update(told)
    program.save(path, external_data=False)


def _readme(generator: Fitted, shape: tuple[int, ...]) -> Iterator[str]:
    content = generator.document.content
    yield f"# A classifier of {content['mechanism']['id']}, for ONNX runtimes\n"
    yield from origin(generator.document)
    yield f"## Use of `{FILE}`\n"
    yield (
        "It maps `images`, float32 (B, C, H, W) in [-1, 1], to `logits` (B, K), in the order of "
        "the class names in its metadata.\n"
    )
    yield f"```python\n{USE.format(shape=', '.join(map(str, shape)))}```\n"
