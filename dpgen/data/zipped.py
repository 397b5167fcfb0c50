"""Unpacks zip archives of data to a folder, or refuses them."""

from __future__ import annotations

import re
import shutil
import stat
import zipfile
from collections import Counter
from pathlib import Path, PurePosixPath

from dpgen.data.formats.damage import UNREADABLE_ZIP
from dpgen.data.formats.location import visible
from dpgen.data.formats.picture_files import SUFFIXES
from dpgen.storage.files import open_file, refuse_bomb, size_of

SUFFIX = ".zip"
PIECE = 2**20  # bytes that are unpacked at once
_UNREADABLE = (*UNREADABLE_ZIP, UnicodeError)


def unpack(path: Path, folder: Path) -> None:
    """Unpacks an archive into an empty folder; every member is compared with its checksum.

    Raises ValueError, before anything is written, for names that leave the folder or occur twice,
    links and devices, encrypted members, compression other than stored and deflated, archives that
    unpack to more than 64 MiB and 200 times their size, and archives that the disk cannot hold. A
    member that holds more than it announces is refused when this is found.
    """
    try:
        with open_file(path) as file, zipfile.ZipFile(file) as archive:
            members = [info for info in archive.infolist() if not info.is_dir()]
            names = _checked_names(members, path)
            total = sum(info.file_size for info in members)
            refuse_bomb(total, size_of(path), str(path), "unpack it and point at the folder")
            free = shutil.disk_usage(folder).free
            if total > free:
                raise ValueError(
                    f"{path} unpacks to {total / 2**30:.1f} GiB and {folder.parent} has "
                    f"{free / 2**30:.1f} GiB left: make space, or set DPGEN_HOME to another disk"
                )
            for info, name in zip(members, names, strict=True):
                _write(archive, info, folder / name, path)
    except _UNREADABLE as error:
        raise ValueError(f"{path} is damaged or truncated: {error}") from error


def top_folder(folder: Path) -> Path:
    """Returns the folder of the data in an unpacked archive: inside a single top folder that holds
    everything, as archivers make it. A single folder of pictures alone is a class, and one named
    for a split is a split.
    """
    entries = visible(folder)
    if len(entries) != 1:
        return folder
    if re.search("train|test|val", entries[0].name.lower()):
        return folder
    if entries[0].is_dir():
        inner = visible(entries[0])
        pictures = any(entry.suffix.lower() in SUFFIXES for entry in inner)
        return entries[0] if any(entry.is_dir() for entry in inner) or not pictures else folder
    return folder if entries[0].suffix.lower() in SUFFIXES else entries[0]


def _checked_names(members: list[zipfile.ZipInfo], path: Path) -> list[PurePosixPath]:
    names = []
    for info in members:
        name = PurePosixPath(info.filename)
        if name.is_absolute() or ".." in name.parts or "\\" in info.filename or not name.parts:
            raise ValueError(f"{path} must hold relative names only, got {info.filename!r:.200}")
        mode = stat.S_IFMT(info.external_attr >> 16)
        if mode not in (0, stat.S_IFREG):
            raise ValueError(
                f"{path} must hold plain files only, {info.filename!r:.200} is a link or a device"
            )
        if info.flag_bits & 1:
            raise ValueError(
                f"{path} is encrypted ({info.filename!r:.200}): unpack it with its password and "
                "point at the folder"
            )
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError(
                f"{path} must be stored or deflated, {info.filename!r:.200} is packed otherwise: "
                "unpack it and point at the folder"
            )
        names.append(name)
    if len(set(names)) < len(names):
        twice = Counter(names).most_common(1)[0][0]
        raise ValueError(f"{path} must hold each name once, got {str(twice)!r:.200} twice")
    return names


def _write(archive: zipfile.ZipFile, info: zipfile.ZipInfo, target: Path, path: Path) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with archive.open(info) as packed, target.open("xb") as file:
            n_bytes = 0
            while piece := packed.read(PIECE):
                n_bytes += len(piece)
                if n_bytes > info.file_size:
                    break
                file.write(piece)
    except (FileExistsError, NotADirectoryError) as error:
        raise ValueError(f"{path}: {info.filename!r:.200} is a file and a folder") from error
    if n_bytes != info.file_size:
        raise ValueError(
            f"{path} is damaged: {info.filename!r:.200} must have {info.file_size} bytes"
        )
