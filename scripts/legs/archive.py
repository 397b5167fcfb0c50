"""Packs a folder of runs into parts that are small enough to be copied between machines."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Sequence
from pathlib import Path

PART = 15 * 2**20  # the most bytes of a part
REMADE = ("features", "pairs.safetensors")  # files that are made again instead of copied


def pack(folder: Path, into: Path) -> None:
    """Packs everything that another machine needs to continue, in parts of at most 15 MiB: an
    archive for each run, and one for the files that they share.
    """
    into.mkdir(parents=True, exist_ok=True)
    for old in into.glob("*.tar.gz.*"):
        old.unlink()
    entries = sorted(folder.iterdir())
    runs = [p for p in entries if (p / "run").is_dir()]
    _pack(folder, [p for p in entries if p not in runs], into / "shared.tar.gz")
    for one in runs:
        _pack(folder, [one], into / f"{one.name}.tar.gz")


def _pack(folder: Path, entries: Sequence[Path], archive: Path) -> None:
    def kept(info: tarfile.TarInfo) -> tarfile.TarInfo | None:
        path = Path(info.name)
        # The weights before DP-SGD are not needed once it has a checkpoint.
        begun = path.name == "score.safetensors" and (
            folder / path.with_name("teacher.safetensors")
        ).exists()
        return None if path.name in REMADE or begun else info

    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w:gz", compresslevel=6) as file:
        for entry in entries:
            file.add(entry, arcname=str(entry.relative_to(folder)), filter=kept)
    content = whole.getvalue()
    for k, first in enumerate(range(0, len(content), PART)):
        part = archive.with_name(f"{archive.name}.{k:02d}")
        part.write_bytes(content[first : first + PART])


def unpack(parts: Path, folder: Path) -> None:
    """Unpacks the parts of `pack` to a folder, which must not exist."""
    if folder.exists():
        raise ValueError(f"--out must not exist when it is unpacked, {folder} does")
    found = sorted(parts.glob("*.tar.gz.*"))
    for name in sorted({p.name.rpartition(".")[0] for p in found}):
        content = b"".join(p.read_bytes() for p in found if p.name.rpartition(".")[0] == name)
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as file:
            file.extractall(folder, filter="data")
