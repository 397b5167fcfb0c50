"""A folder in parts that are small enough to be carried from machine to machine."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

NAME = "legs.tar.gz.{}"
PART = 15 * 2**20  # bytes of a part, at most
UNPACKED = ("features", "pairs.safetensors")  # what is made again rather than carried


def pack(folder: Path, into: Path) -> None:
    """Everything that another machine needs to go on, in parts of at most 15 MiB."""

    def kept(info: tarfile.TarInfo) -> tarfile.TarInfo | None:
        return None if Path(info.name).name in UNPACKED else info

    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w:gz", compresslevel=6) as archive:
        archive.add(folder, arcname=".", filter=kept)
    into.mkdir(parents=True, exist_ok=True)
    for old in into.glob(NAME.format("*")):
        old.unlink()
    content = whole.getvalue()
    for k, first in enumerate(range(0, len(content), PART)):
        (into / NAME.format(f"{k:02d}")).write_bytes(content[first : first + PART])


def unpack(parts: Path, folder: Path) -> None:
    """What `pack` wrote, in a folder that is not there yet."""
    if folder.exists():
        raise ValueError(f"--out must not exist when it is unpacked, {folder} does")
    content = b"".join(p.read_bytes() for p in sorted(parts.glob(NAME.format("*"))))
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as archive:
        archive.extractall(folder, filter="data")
