"""NumPy archives of images, labels and class names, by split or not, in shards; never a pickle."""

from __future__ import annotations

import bisect
import errno
import itertools
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from dpgen.data.formats import npy
from dpgen.data.formats.archive_keys import CLASS_NAMES, Keys, keys_by_split
from dpgen.data.formats.arrays import image_array
from dpgen.data.formats.blocks import Pieces
from dpgen.data.formats.damage import UNREADABLE_ZIP
from dpgen.data.formats.format import Format, Head, Writer
from dpgen.data.formats.labels import settled
from dpgen.data.formats.location import Located
from dpgen.data.formats.npy import npy_header, read_array
from dpgen.data.formats.records import Records, array_records, as_labels
from dpgen.data.formats.shards import Shard, new_file
from dpgen.data.formats.splits import chosen_splits
from dpgen.data.formats.unit_ids import unit_name, unit_values
from dpgen.images.classes import MAX_CLASSES, NO_CLASSES
from dpgen.storage.files import InPieces

ZIP_MAGIC = b"PK\x03\x04"


@dataclass(frozen=True)
class Archive:
    """One split of an archive, or all of it: ``pixels`` uint8 (N, H, W, C), None where they are not
    read; ``labels`` int64, bool or text (N,), if any; ``units`` the ids of its records, if asked
    for.
    """

    path: Path
    split: str
    pixels: np.ndarray | None
    labels: np.ndarray | None
    class_names: tuple[str, ...] | None
    units: list[str] | None = None


def recognise(head: Head) -> bool:
    """Returns whether a file is a zip of arrays alone; one called .zip is no npz whatever it holds.
    """
    if head.path.suffix.lower() == ".zip" or not head.data.startswith(ZIP_MAGIC):
        return False
    names = _names(head.path)
    return bool(names) and all(name.endswith(".npy") for name in names)


def hint(head: Head) -> str | None:
    """Says what is wrong with a zip that is no npz, and with a lone array."""
    suffix = head.path.suffix.lower()
    if suffix == ".npy" and head.data.startswith(b"\x93NUMPY"):
        return (
            "is one array, and labels would lie in another: save both in one file, as "
            "numpy.savez('x.npz', images=..., labels=...)"
        )
    if suffix not in (".zip", ".npz") or not head.data.startswith(ZIP_MAGIC):
        return None
    if suffix == ".zip":
        return "is a zip archive: unpack it and point at the folder"
    return f"must hold arrays (.npy) only, got {_names(head.path)[:3]!s:.200}"


def _names(path: Path) -> list[str]:
    with InPieces(path) as file, zipfile.ZipFile(file) as archive:
        return archive.namelist()


def npz_records(
    located: Located, value_range: tuple[float, float] | None, classes: tuple[str, ...] | None
) -> Records:
    """Reads archives of uint8 (N, H, W) or (N, H, W, C); floats by their value range.

    Uncompressed archives above 1 GiB are mapped, not loaded. Without labels every label is 0.
    """
    shards = _read_shards(located, value_range)
    first = shards[0]
    for shard in shards:
        if shard.class_names != first.class_names:
            raise ValueError(
                f"{shard.path} must have the class names of {first.path.name}, got others"
            )
        if (shard.labels is None) != (first.labels is None):
            raise ValueError(
                f"{shard.path} and {first.path.name}: one has labels and the other has none"
            )
    root = located.name
    names = first.class_names or NO_CLASSES
    declared = first.class_names is None and first.labels is not None
    arrays = [shard.pixels for shard in shards if shard.pixels is not None]
    for shard in shards:
        if shard.pixels is not None and shard.pixels.shape[1:] != arrays[0].shape[1:]:
            raise ValueError(f"{shard.path} must have the image shape of the other archives")
    kept = np.zeros(sum(map(len, arrays)), np.int64)
    values = [value for shard in shards for value in _listed(shard.labels)]
    if values:
        found, names = settled(
            values, classes, name=root, stated=first.class_names,
            place="class_names in the archive",
        )  # fmt: skip
        read = [shard.pixels is not None for shard in shards for _ in _listed(shard.labels)]
        kept = found[np.array(read, bool)]
    units = [one for shard in shards if shard.pixels is not None for one in shard.units or ()]
    whose = None if located.unit is None else tuple(units)
    if len(arrays) == 1 or sum(a.nbytes for a in arrays) <= npy.MAPPED_BYTES:
        whole = arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
        held = array_records("npz", whole, kept, names, root, classes_declared=declared)
        return replace(held, units=whose)
    ends = list(itertools.accumulate(len(array) for array in arrays))

    def decode(index: int) -> np.ndarray:
        shard = bisect.bisect_right(ends, index)
        return np.asarray(arrays[shard][index - ends[shard]])  # counted from the shard's end

    return Records(
        "npz", kept, names, decode, lambda i: f"{root} record {i}", classes_declared=declared,
        units=whose,
    )  # fmt: skip


def _read_shards(located: Located, value_range: tuple[float, float] | None) -> list[Archive]:
    """Returns the archives, by split where they hold several, the images of those that are read
    alone.
    """
    unit = unit_name(located, "an npz stand in an array")
    keys = {
        file.path: keys_by_split(_arrays(file.path), file.path, unit) for file in located.files
    }
    found = {split for one in keys.values() for split in one}
    if "" in found and len(found) > 1:
        bare = next(path for path, one in keys.items() if "" in one)
        raise ValueError(f"{bare} must tell the splits of its arrays like the other archives")
    for file in located.files:
        if file.split and not keys[file.path].keys() <= {"", file.split}:
            raise ValueError(
                f"{file.path} is named for {file.split} and holds {sorted(keys[file.path])}: "
                "rename it"
            )
    wanted = chosen_splits(found, located.split, located.name)
    chosen = {file.path for file in located.chosen}
    return [
        read_shard(path, value_range, path in chosen and split in wanted, split, one[split])
        for path, one in keys.items()
        for split in sorted(one)
    ]


def _listed(labels: np.ndarray | None) -> list[int | str]:
    return [] if labels is None else labels.tolist()


def _arrays(path: Path) -> list[str]:
    """Returns the names of an archive's arrays."""
    names = [name.removesuffix(".npy") for name in _names(path)]
    if len(set(names)) < len(names):
        raise ValueError(f"{path} must hold each array once, got {sorted(names)!s:.200}")
    return names


def read_shard(
    path: Path, value_range: tuple[float, float] | None, with_pixels: bool, split: str, keys: Keys
) -> Archive:
    """Reads and checks one archive, or the arrays of one of its splits; ``with_pixels`` False
    leaves the images where they are.
    """
    try:
        with InPieces(path) as file, zipfile.ZipFile(file) as archive:
            file.limit = None  # the directory is read, what follows is held against its headers
            names = archive.namelist()
            found = _labels(archive, keys.labels, path) if keys.labels else None
            classes = (
                read_array(archive, CLASS_NAMES, path) if f"{CLASS_NAMES}.npy" in names else None
            )
            pixels = (
                _images(archive, keys.images, path, value_range, found) if with_pixels else None
            )
            units = (
                _units(archive, keys.units, path, pixels)
                if keys.units and pixels is not None
                else None
            )
    except (OSError, *UNREADABLE_ZIP) as error:
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise  # of the machine; EINVAL is a place before the start of the file
        raise ValueError(f"{path} is damaged or truncated: {error}") from error
    if classes is not None and (
        classes.ndim != 1 or classes.dtype.kind != "U" or len(classes) > MAX_CLASSES
    ):
        raise ValueError(
            f"{path}: class_names must be a list of text, {MAX_CLASSES} at most, got "
            f"{classes.dtype} {classes.shape}"
        )
    if found is not None and pixels is not None and len(found) != len(pixels):
        raise ValueError(
            f"{path} must hold one label per image, got {len(pixels)} images and {len(found)} "
            "labels"
        )
    stated = None if classes is None else _texts(classes, f"{path}: {CLASS_NAMES}")
    return Archive(path, split, pixels, found, stated, units)


def _texts(array: np.ndarray, name: str) -> tuple[str, ...]:
    try:
        return tuple(array.tolist())
    except (ValueError, SystemError) as error:  # numbers that are no letters
        raise ValueError(f"{name} must be text: {error}") from None


def _labels(archive: zipfile.ZipFile, key: str, path: Path) -> np.ndarray:
    array = read_array(archive, key, path)
    if array.dtype.kind == "U" and array.ndim == 1:
        return np.array(_texts(array, f"{path}: {key}"))
    if array.dtype.kind == "b" and array.size == len(array):
        return array.reshape(-1)
    return as_labels(array, f"{path}: {key}")


def _units(
    archive: zipfile.ZipFile, key: str, path: Path, pixels: np.ndarray
) -> list[str]:  # fmt: skip
    array, name = read_array(archive, key, path), f"{path}: {key}"
    array = array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array
    if array.shape != pixels.shape[:1]:
        raise ValueError(
            f"{name} must hold one unit id per image, got {array.shape} ids and {len(pixels)} "
            "images"
        )
    values = _texts(array, name) if array.dtype.kind == "U" else array.tolist()
    return unit_values(values, name)


def _images(
    archive: zipfile.ZipFile, key: str, path: Path, value_range: tuple[float, float] | None,
    labels: np.ndarray | None,
) -> np.ndarray:  # fmt: skip
    array = read_array(archive, key, path)
    return image_array(array, f"{path}: {key}", value_range, labels is not None)


def write_npz(shard: Shard, pieces: Pieces) -> None:
    """Writes ``images-00000.npz``: ``images`` uint8 NHWC, ``labels`` int64, ``class_names`` text.

    Uncompressed, so that a reader can map it.
    """
    labels = []
    with new_file(shard.folder / f"images-{shard.number:05d}.npz") as file:
        with zipfile.ZipFile(file, "w") as archive:
            with archive.open(zipfile.ZipInfo("images.npy"), "w", force_zip64=True) as member:
                member.write(npy_header((shard.n_images, *shard.shape), "|u1"))
                for pixels, found in pieces:
                    member.write(np.ascontiguousarray(pixels).data)
                    labels.append(found)
            for name, array in (
                ("labels.npy", np.concatenate(labels)),
                ("class_names.npy", np.array(shard.class_names)),
            ):
                with archive.open(zipfile.ZipInfo(name), "w") as member:
                    np.lib.format.write_array(member, array, allow_pickle=False)


NPZ = Format(
    (".npz", ".npy", ".zip"), recognise, npz_records, takes_value_range=True, takes_unit=True,
    whole_files=True, hint_fn=hint,
    writer=Writer(write_npz, lambda raw: raw + 8),
)  # fmt: skip
