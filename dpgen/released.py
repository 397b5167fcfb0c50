"""What a finished run folder holds: weights and a statement, each as it was written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from dpgen.networks.denoiser import Denoiser, DenoiserConfig
from dpgen.privacy.certificate import (
    CertificateError,
    intact,
    read_statement,
    sha256_file,
)


def load_denoiser(path: Path) -> Denoiser:
    """A released network from its safetensors file. Refuses weights that are no numbers."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        config = DenoiserConfig.from_dict(json.loads(file.metadata()["denoiser"]))
    network = Denoiser(config)
    weights = load_file(path)
    for name, tensor in weights.items():
        if not torch.isfinite(tensor).all():
            raise ValueError(f"{path}: weight {name} is not finite")
    network.load_state_dict(weights)
    return network.eval().requires_grad_(False)


def checked_statement(folder: Path) -> dict[str, Any]:
    """The privacy statement of a finished run, itself and every file that it covers as written.

    Raises CertificateError naming what was changed: such weights are not those that epsilon is of.
    """
    statement = read_statement(folder)
    try:
        artifact, whole = statement["artifact"], intact(statement)
        kind, files = artifact["kind"], dict(artifact["files"])
    except (KeyError, TypeError, ValueError):
        raise CertificateError(f"{folder / 'privacy.json'} is no statement of a run") from None
    if kind != "model":
        raise CertificateError(f"{folder} holds a {kind.replace('_', ' ')}, not a trained run")
    changed = [] if whole else ["privacy.json"]
    for name, stated in files.items():
        path = folder / name
        if Path(name).name != name or not path.is_file() or sha256_file(path) != stated:
            changed.append(name)
    if changed:
        raise CertificateError(
            f"{folder}: {', '.join(changed)} missing or changed since the statement was written: "
            "restore the folder from a copy"
        )
    return statement


def plain(value: Any) -> Any:  # noqa: ANN401
    """Tuples as lists, as JSON will give them back."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value
