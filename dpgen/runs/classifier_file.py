"""A classifier in one file, with the names of its classes: what a silo hands over."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import nn

from dpgen.runs.kinds import kind_of, numbers_of
from dpgen.runs.released import LARGEST_NETWORK, not_finite, refuse_unloadable
from dpgen.storage.canonical import canonical
from dpgen.storage.durable import replace_durably
from dpgen.storage.files import parse_json
from dpgen.storage.tensors import TensorFile

CLASSIFIERS = ("classifier", "labeller")  # kinds, as `dpgen.runs.kinds` names them
CLASS_NAMES = "class_names"  # in the metadata of the file


def save_classifier(network: nn.Module, path: str | Path, class_names: Sequence[str]) -> None:
    """Writes a classifier to one safetensors file, whole or not at all: its kind and numbers, its
    weights, and the names of its classes. Nothing about how it was trained.

    Args:
        network: a `Student`, or the labeller of a run.
        path: the file, NAME.safetensors.
        class_names: one per class, in the order of its scores.

    Raises:
        ValueError: the network is no classifier, has weights that are not finite or another number
            of classes, or the name of the file ends in something else.
    """
    path, names = Path(path), list(class_names)
    if path.suffix != ".safetensors":
        raise ValueError(f"the file of a classifier must end in .safetensors, got {path.name!r}")
    kind, held = kind_of(network), network.state_dict()
    if kind not in CLASSIFIERS:
        raise ValueError(f"network must be a classifier, got a {kind}")
    n_classes: Any = network.n_classes
    if len(set(names)) != len(names) or len(names) != n_classes:
        raise ValueError(
            f"class_names must be {n_classes} different names, as the network has classes, got "
            f"{names!r:.200}"
        )
    if (weight := not_finite(held)) is not None:
        raise ValueError(f"weight {weight} of the classifier must be finite, and is not")
    refuse_unloadable(network)
    whole = {name: tensor.detach().cpu().contiguous() for name, tensor in held.items()}
    told = {kind: canonical(numbers_of(network)), CLASS_NAMES: json.dumps(names)}
    replace_durably(path, save(whole, metadata=told))


def class_names_of(path: Path) -> tuple[str, ...] | None:
    """Reads the class names in the file of a classifier; None where it states none.

    Raises:
        ValueError: it is no safetensors file, or states something else there.
    """
    with TensorFile(path, LARGEST_NETWORK) as file:
        text = file.metadata.get(CLASS_NAMES)
    if text is None:
        return None
    names = parse_json(text, f"the class names in {path}")
    if not isinstance(names, list) or any(type(name) is not str for name in names):
        raise ValueError(f"{CLASS_NAMES} in {path} must be a list of names, got {names!r:.60}")
    return tuple(names)
