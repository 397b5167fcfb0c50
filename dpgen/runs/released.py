"""Writes and reads a finished run folder: weights and a statement, each as it was written."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from dpgen.privacy.statements.certificate import (
    CERTIFICATE,
    COPY,
    CertificateError,
    intact,
    sha256_file,
)
from dpgen.privacy.statements.document import Certificate, Notice, read_document
from dpgen.runs.kinds import KINDS, kind_of, numbers_of
from dpgen.settings import from_dict
from dpgen.storage.canonical import canonical
from dpgen.storage.durable import replace_durably
from dpgen.storage.files import parse_json, read_json, refuse_bomb
from dpgen.storage.tensors import Layout, TensorFile

FACTS_BYTES = 2**22
LARGEST_NETWORK = 2**30  # bytes of a file; those of this package have some twenty million
LARGEST_RUN = 2**31  # bytes of all files that a statement covers
LARGEST_IMAGE = 2**24  # pixels of all channels
LARGEST_NUMBER = 2**16  # the largest number in a configuration
MOST_NUMBERS = 16  # the longest list in a configuration
_UNBUILDABLE = (
    ValueError, TypeError, LookupError, ArithmeticError, AttributeError, RuntimeError,
)  # fmt: skip


def write_files(
    folder: Path,
    config: Mapping[str, Any],
    facts: Mapping[str, Any],
    networks: Mapping[str, nn.Module],
) -> None:
    """Writes configuration, facts and networks of a run folder, each file atomically.

    Refuses weights that are not finite, and networks of no known kind, before anything is written.
    """
    kinds = {name: kind_of(network) for name, network in networks.items()}
    for name, network in networks.items():
        if (weight := not_finite(network.state_dict())) is not None:
            raise ValueError(
                f"{folder}: training ended with weight {weight} of {name} not finite; what it "
                "spent stays spent: train in another folder, with a smaller learning rate"
            )
    for partial in folder.glob(".*.partial"):
        partial.unlink()  # left by a kill during a write
    replace_durably(folder / "config.json", canonical(config).encode())
    replace_durably(folder / "facts.json", canonical(facts).encode())
    for name, network in networks.items():
        partial = folder / f".{name}.partial"
        metadata = {kinds[name]: canonical(numbers_of(network))}
        save_file(network.state_dict(), partial, metadata=metadata)
        partial.replace(folder / f"{name}.safetensors")


def hashes(folder: Path) -> dict[str, str]:
    """Hashes the files written so far (SHA-256), except copy and statement, which are written
    later.
    """
    paths = sorted(p for p in folder.iterdir() if p.is_file() and p.name not in (CERTIFICATE, COPY))
    return {path.name: sha256_file(path) for path in paths}


def write_copy(
    folder: Path, lines: Sequence[Mapping[str, Any]], files: Mapping[str, str]
) -> dict[str, str]:
    """Writes the copy of the run's ledger lines, and returns ``files`` with its hash added, sorted.
    """
    text = "".join(canonical(line) + "\n" for line in lines)
    replace_durably(folder / COPY, text.encode())
    return dict(sorted({**files, COPY: sha256_file(folder / COPY)}.items()))


def copy_run(folder: Path, document: Certificate | Notice, target: Path) -> None:
    """Copies the files of a finished run, and no others, to ``target``, which appears complete.
    Raises ValueError unless it is absent or empty.
    """
    if target.exists() and any(target.iterdir()):
        raise ValueError(f"the folder {target} is not empty: choose another")
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for name in (*document.content["artifact"]["files"], document.name):
        shutil.copyfile(folder / name, partial / name)
    if target.exists():
        target.rmdir()
    partial.replace(target)


def read_facts(folder: Path) -> Mapping[str, Any]:
    """Reads the public facts of a finished run."""
    facts = read_json(folder / "facts.json", FACTS_BYTES)
    if not isinstance(facts, Mapping):
        raise ValueError(f"{folder / 'facts.json'} must be a table of facts")
    return facts


def load_network(path: Path) -> nn.Module:
    """Loads a released network from its safetensors file.

    Guarantee: memory is allocated only after the described network was built without any, on the
    meta device, and the file was found to hold exactly its tensors. Raises ValueError for any other
    file, and for weights that are not finite.
    """
    with TensorFile(path, LARGEST_NETWORK) as file:
        kind = next((kind for kind in KINDS if kind in file.metadata), None)
        if kind is None:
            raise ValueError(f"{path} holds no {' or '.join(KINDS)}: it is not a file of a run")
        build = KINDS[kind].network
        try:
            config = _config_of(kind, file.metadata[kind])
            with torch.device("meta"):
                planned = build(config)
        except _UNBUILDABLE as error:
            raise ValueError(
                f"{path} describes no {kind} that can be built: {error!s:.200}"
            ) from None
        wanted = {k: Layout(t.dtype, tuple(t.shape)) for k, t in planned.state_dict().items()}
        for name in sorted({*wanted, *file.layouts}):
            if wanted.get(name) != file.layouts.get(name):
                raise ValueError(
                    f"{path}: tensor {name!r:.80} must be {wanted.get(name)}, got "
                    f"{file.layouts.get(name)}"
                )
        unpacked = sum(b.numel() * b.element_size() for b in planned.buffers())
        refuse_bomb(unpacked, file.n_bytes, str(path), "it is not a file of a run")
        weights = file.tensors()
    if (weight := not_finite(weights)) is not None:
        raise ValueError(f"{path}: weight {weight} is not finite")
    network: nn.Module = build(config)
    network.load_state_dict(weights)
    return network.eval().requires_grad_(False)


def _config_of(kind: str, text: str) -> Any:  # noqa: ANN401
    """Reads the configuration of a network, and refuses numbers large enough to exhaust a machine.
    """
    values = parse_json(text, "its configuration")
    level = [values]
    while level:
        inner: list[Any] = []
        for value in level:
            if isinstance(value, list | dict):
                if len(value) > MOST_NUMBERS:
                    raise ValueError(f"a list must hold at most {MOST_NUMBERS}, got {len(value)}")
                inner += value.values() if isinstance(value, dict) else value
            elif isinstance(value, int | float) and not abs(value) <= LARGEST_NUMBER:
                raise ValueError(f"numbers must be at most {LARGEST_NUMBER}, got {value}")
        level = inner
    config = from_dict(KINDS[kind].config, values)
    if math.prod(config.shape) > LARGEST_IMAGE:
        raise ValueError(f"images must be of at most {LARGEST_IMAGE} numbers, got {config.shape}")
    return config


def refuse_unloadable(network: nn.Module) -> None:
    """Refuses a network that `load_network` would not read again, for its size or its numbers:
    before a run is charged that would end with it. The network may lie on the meta device.
    """
    kind = kind_of(network)
    _config_of(kind, canonical(numbers_of(network)))
    n_bytes = sum(t.numel() * t.element_size() for t in network.state_dict().values())
    if n_bytes > LARGEST_NETWORK:
        raise ValueError(
            f"a network of kind {kind} must take at most {LARGEST_NETWORK:,} bytes, got "
            f"{n_bytes:,}: make it smaller"
        )


def load_networks(
    folder: Path,
    names: Iterable[str],
    kinds: Mapping[str, str],
    shape: tuple[int, int, int],
    n_classes: int,
) -> dict[str, nn.Module]:
    """Loads the networks of a run by name. Raises ValueError for a network that is not of the kind
    that its name requires, or not for images of this shape and number of classes.

    Args:
        folder: the run folder.
        names: names of its files.
        kinds: keys of `dpgen.runs.kinds.KINDS` by name of the network.
        shape: (C, H, W) of the images.
        n_classes: number of classes.
    """
    networks: dict[str, nn.Module] = {}
    for file in sorted(name for name in names if name.endswith(".safetensors")):
        name = file.removesuffix(".safetensors")
        network: Any = load_network(folder / file)
        kind, made_for = kind_of(network), (network.config.shape, network.n_classes)
        wanted = kinds.get(name, kind)
        if kind != wanted or made_for != (shape, n_classes):
            raise ValueError(
                f"{folder / file} must be a {wanted} of {shape} images in {n_classes} classes, "
                f"got a {kind} of {made_for}"
            )
        networks[name] = network
    return networks


def not_finite(weights: Mapping[str, torch.Tensor]) -> str | None:
    """Returns the name of the first weight that is infinite or NaN; None if there is none."""
    return next((name for name, t in weights.items() if not torch.isfinite(t).all()), None)


def checked_document(folder: Path) -> Certificate | Notice:
    """Reads the certificate or the notice of a finished run, and checks it and every file that it
    covers. Raises CertificateError naming what was changed.
    """
    document = read_document(folder)
    _check_files(folder, document.content, document.name)
    return document


def _check_files(folder: Path, statement: Mapping[str, Any], name: str) -> None:
    try:
        artifact, whole = statement["artifact"], intact(statement)
        kind, files = artifact["kind"], artifact["files"]
        if not isinstance(kind, str) or not isinstance(files, dict):
            raise TypeError
    except (KeyError, TypeError, ValueError):
        raise CertificateError(f"{folder / name} is not a statement of a run") from None
    if kind != "model":
        raise CertificateError(f"{folder} holds a {kind.replace('_', ' ')}, not a trained run")
    sizes = {file: _size(folder / file) for file in files if Path(file).name == file}
    n_bytes = sum(size or 0 for size in sizes.values())
    if n_bytes > LARGEST_RUN:
        raise CertificateError(
            f"{folder} must have at most {LARGEST_RUN} bytes, got {n_bytes}: it is not a run"
        )
    changed = [] if whole else [name]
    for file, stated in files.items():
        if sizes.get(file) is None or sha256_file(folder / file) != stated:
            changed.append(file)
    if changed:
        raise CertificateError(
            f"{folder}: {', '.join(changed):.200} missing or changed since the statement was "
            "written: restore the folder from a copy"
        )


def _size(path: Path) -> int | None:
    """Returns the bytes of a plain file; None if there is none, or none can have this name."""
    try:
        return path.stat().st_size if path.is_file() else None
    except OSError:
        return None
