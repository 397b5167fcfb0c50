"""Caches features in files: safetensors with a checksum, named by content.

Features of private records are as private as the records: files are readable by their owner only.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from dpgen.storage.durable import replace_durably
from dpgen.storage.tensors import TensorFile

__all__ = ["FeatureCache", "sha256_of"]

SCHEMA = "dpgen-features/1"


class FeatureCache:
    """A folder of named tensors, each file for one identity and under its hash.

    Guarantees: `load` returns bit for bit the tensors that `save` was given for an equal identity.
    A damaged file counts as absent, with a warning; a file of another origin raises ValueError; a
    crash leaves a complete file or none.

    Args:
        folder: the folder, which is made when the first file is written.
    """

    def __init__(self, folder: Path) -> None:
        if folder.exists() and not folder.is_dir():
            raise ValueError(f"cache must be a folder, got the file {folder}: name another folder")
        self._folder = folder

    def load(self, identity: Mapping[str, Any]) -> dict[str, Tensor] | None:
        """Loads the tensors of this identity to the CPU; None if there are none yet."""
        path = self.path(identity)
        if not path.exists():
            return None
        try:
            with TensorFile(path) as file:
                metadata, tensors = file.metadata, file.tensors()
        except (ValueError, OSError) as error:
            _warn_damaged(path, str(error))
            return None
        if metadata.get("schema") != SCHEMA or metadata.get("identity") != _text(identity):
            found = metadata.get("schema", "a file without schema")
            raise ValueError(
                f"cache file {path} must be what dpgen wrote for these images and this network "
                f"({SCHEMA}), got {found:.60}: remove it, or "
                "name another cache folder"
            )
        if metadata.get("sha256") != sha256_of(tensors):
            _warn_damaged(path, "its checksum does not match")
            return None
        return tensors

    def save(self, identity: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        """Writes or replaces the tensors of this identity, completely or not at all."""
        whole = {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
        metadata = {"schema": SCHEMA, "identity": _text(identity), "sha256": sha256_of(whole)}
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        replace_durably(self.path(identity), save(whole, metadata=metadata), mode=0o600)

    def path(self, identity: Mapping[str, Any]) -> Path:
        """Returns the path of this identity's file, whether or not it exists."""
        name = hashlib.sha256(_text(identity).encode()).hexdigest()[:32]
        return self._folder / f"{name}.safetensors"


def sha256_of(tensors: Tensor | Mapping[str, Tensor]) -> str:
    """Computes the SHA-256 of names, types, shapes and values, in hexadecimal digits. A single
    tensor has no name.

    Args:
        tensors: tensors on any device; the order of a mapping does not matter.
    """
    if isinstance(tensors, Tensor):
        tensors = {"": tensors}
    found = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        found.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        found.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def _text(identity: Mapping[str, Any]) -> str:
    return json.dumps(identity, sort_keys=True)


def _warn_damaged(path: Path, why: str) -> None:
    warnings.warn(f"cache file {path} is damaged ({why}): computed anew", stacklevel=3)
