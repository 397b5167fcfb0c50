"""What a finished run folder holds: weights and a statement, each as it was written."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from dpgen.networks.denoiser import Denoiser, DenoiserConfig
from dpgen.networks.proposer import Proposer, ProposerConfig
from dpgen.privacy.certificate import (
    CERTIFICATE,
    NOTICE,
    CertificateError,
    intact,
    read_statement,
    sha256_file,
)
from dpgen.privacy.chain import canonical, replace_durably
from dpgen.privacy.notice import read_notice

# What a run may release: by the word under which a file's metadata holds its numbers.
KINDS: dict[str, tuple[Any, Any]] = {
    "denoiser": (Denoiser, DenoiserConfig),
    "proposer": (Proposer, ProposerConfig),
}


def write_files(
    folder: Path,
    config: Mapping[str, Any],
    facts: Mapping[str, Any],
    lines: Sequence[Mapping[str, Any]],
    networks: Mapping[str, nn.Module],
) -> None:
    """Everything in a run folder that a statement covers, but its picture: each file whole.

    Refuses weights that are no numbers before anything is written.
    """
    for name, network in networks.items():
        if (weight := not_finite(network.state_dict())) is not None:
            raise ValueError(
                f"{folder}: training ended with weight {weight} of {name} not finite; what it "
                "spent stays spent: train in another folder, with a smaller learning rate"
            )
    for partial in folder.glob(".*.partial"):
        partial.unlink()  # left by a kill in the middle of a write
    replace_durably(folder / "config.json", canonical(config).encode())
    replace_durably(folder / "facts.json", canonical(facts).encode())
    text = "".join(canonical(line) + "\n" for line in lines)
    replace_durably(folder / "ledger.jsonl", text.encode())
    for name, network in networks.items():
        partial = folder / f".{name}.partial"
        kind = next(kind for kind, (cls, _) in KINDS.items() if isinstance(network, cls))
        metadata = {kind: canonical(plain(asdict(network.config)))}
        save_file(network.state_dict(), partial, metadata=metadata)
        partial.replace(folder / f"{name}.safetensors")


def load_network(path: Path) -> nn.Module:
    """A released network from its safetensors file. Refuses weights that are no numbers."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
    kind = next((kind for kind in KINDS if kind in metadata), None)
    if kind is None:
        raise ValueError(f"{path} holds no {' or '.join(KINDS)}: it is no file of a run")
    build, config = KINDS[kind]
    network = build(config.from_dict(json.loads(metadata[kind])))
    weights = load_file(path)
    if (weight := not_finite(weights)) is not None:
        raise ValueError(f"{path}: weight {weight} is not finite")
    network.load_state_dict(weights)
    return network.eval().requires_grad_(False)


def not_finite(weights: Mapping[str, torch.Tensor]) -> str | None:
    """The first weight that is infinite or no number; ``None``: there is none."""
    return next((name for name, t in weights.items() if not torch.isfinite(t).all()), None)


def checked_statement(folder: Path) -> dict[str, Any]:
    """The privacy statement of a finished run, itself and every file that it covers as written.

    Raises CertificateError naming what was changed: such weights are not those that epsilon is of.
    """
    statement = read_statement(folder)
    _check_files(folder, statement, CERTIFICATE)
    return statement


def checked_notice(folder: Path) -> dict[str, Any]:
    """The notice of a finished run without a guarantee, every file that it covers as written."""
    notice = read_notice(folder)
    _check_files(folder, notice, NOTICE)
    return notice


def _check_files(folder: Path, statement: Mapping[str, Any], name: str) -> None:
    try:
        artifact, whole = statement["artifact"], intact(statement)
        kind, files = artifact["kind"], dict(artifact["files"])
    except (KeyError, TypeError, ValueError):
        raise CertificateError(f"{folder / name} is no statement of a run") from None
    if kind != "model":
        raise CertificateError(f"{folder} holds a {kind.replace('_', ' ')}, not a trained run")
    changed = [] if whole else [name]
    for file, stated in files.items():
        path = folder / file
        if Path(file).name != file or not path.is_file() or sha256_file(path) != stated:
            changed.append(file)
    if changed:
        raise CertificateError(
            f"{folder}: {', '.join(changed)} missing or changed since the statement was written: "
            "restore the folder from a copy"
        )


def plain(value: Any) -> Any:  # noqa: ANN401
    """Tuples as lists, as JSON will give them back."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value
