"""Safetensors files: read strictly, each tensor into memory of its own.

The safetensors library maps a file into memory; if the file were cut short meanwhile, that would
end the process. Here every number of the header is checked against the file before a tensor is
made.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor

from dpgen.storage.files import open_file, parse_json

__all__ = ["Layout", "TensorFile", "tensors_digest"]

HEADER_BYTES = 2**22  # the most bytes of a header, which has about a hundred for each tensor
MOST_AXES = 8
DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


def tensors_digest(tensors: Mapping[str, Tensor], *, begun: bytes = b"") -> bytes:
    """Computes the SHA-256 of tensors: names, types, shapes and every bit, whatever their order.

    Args:
        tensors: by name.
        begun: what is hashed before them.
    """
    found = hashlib.sha256(begun)
    for name, tensor in sorted(tensors.items()):
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        found.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        found.update(flat.view(torch.uint8).numpy().data)
    return found.digest()


class Layout(NamedTuple):
    """The type and shape of a tensor, without its values."""

    dtype: torch.dtype
    shape: tuple[int, ...]


class TensorFile:
    """An open safetensors file.

    Guarantees: its tensors fill the file after the header without gap or overlap; any other file
    raises a ValueError that names it.

    n_bytes: size of the file.
    metadata: text by name.
    layouts: type and shape of every tensor, in the order of the file.

    Args:
        path: a plain file.
        limit: the most bytes that it may have; None for as many as the machine's memory.
    """

    metadata: Mapping[str, str]
    layouts: Mapping[str, Layout]

    def __init__(self, path: Path, limit: int | None = None) -> None:
        self._path, self._file = path, open_file(path)
        self.n_bytes = os.fstat(self._file.fileno()).st_size
        most = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if limit is None else limit
        try:
            if self.n_bytes > most:
                raise ValueError(f"it must have at most {most} bytes, got {self.n_bytes}")
            self.metadata, self.layouts = self._read_header()
        except ValueError as error:
            self._file.close()
            raise ValueError(f"{path} must be a safetensors file: {error}") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def tensors(self) -> dict[str, Tensor]:
        """Reads every tensor to the CPU; it can be called once."""
        found: dict[str, Tensor] = {}
        for name, (dtype, shape) in self.layouts.items():
            memory = bytearray(math.prod(shape) * dtype.itemsize)
            if self._file.readinto(memory) != len(memory):  # type: ignore[attr-defined]
                raise ValueError(f"{self._path} was cut short while it was read")
            found[name] = (
                torch.frombuffer(memory, dtype=dtype) if memory else torch.empty(0, dtype=dtype)
            ).reshape(shape)
        return found

    def _read_header(self) -> tuple[dict[str, str], dict[str, Layout]]:
        size = self.n_bytes
        length = int.from_bytes(self._file.read(8), "little")
        if not 2 <= length <= min(HEADER_BYTES, size - 8):
            raise ValueError(
                f"its header must have 2 to {HEADER_BYTES} of its {size} bytes, got {length}"
            )
        header = parse_json(self._file.read(length).decode(), "its header")
        if not isinstance(header, dict):
            raise ValueError("its header must be a table")
        metadata = header.pop("__metadata__", {})
        if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
            raise ValueError("its metadata must be text by name")
        spans = {name: _span(entry, name) for name, entry in header.items()}
        ordered = sorted(spans, key=lambda name: spans[name][1:])
        end = 0
        for name in ordered:
            layout, start, stop = spans[name]
            if start != end or stop - start != math.prod(layout.shape) * layout.dtype.itemsize:
                raise ValueError(
                    f"tensor {name!r:.60} must begin at byte {end} and be as long as its shape "
                    f"{layout.shape} says, got {start} to {stop}"
                )
            end = stop
        if 8 + length + end != size:
            raise ValueError(f"it must have {8 + length + end} bytes, got {size}")
        return metadata, {name: spans[name][0] for name in ordered}


def _span(entry: Any, name: str) -> tuple[Layout, int, int]:  # noqa: ANN401
    """Reads a header's entry: layout, first byte and end of a tensor."""
    try:
        dtype, shape, (start, stop) = DTYPES[entry["dtype"]], entry["shape"], entry["data_offsets"]
        numbers = [*shape, start, stop]
    except (KeyError, TypeError, ValueError):
        raise ValueError(f"the entry of tensor {name!r:.60} cannot be read") from None
    if len(shape) > MOST_AXES or not all(type(n) is int and n >= 0 for n in numbers):
        raise ValueError(
            f"tensor {name!r:.60} must have at most {MOST_AXES} axes, and no number below 0"
        )
    return Layout(dtype, tuple(shape)), start, stop
