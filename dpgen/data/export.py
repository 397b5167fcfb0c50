"""Writes a synthetic set: it appears under its name complete, or not at all."""

from __future__ import annotations

import errno
import fcntl
import itertools
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np

from dpgen.data.formats.blocks import Pieces, checked_blocks, cut_blocks
from dpgen.data.formats.location import CLASS_LIST, class_list
from dpgen.data.formats.shards import Shard
from dpgen.data.formats.table import writer
from dpgen.images.images import Images, check_class_names
from dpgen.privacy.statements.certificate import (
    CARDS,
    CERTIFICATE,
    NOTICE,
    PART,
    SIGNATURE,
    statement_bytes,
)
from dpgen.privacy.statements.outside import check_outside
from dpgen.storage.durable import still_named

_DOCUMENT = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*\.(json|jsonl|md|txt|toml)")


def write_images(
    blocks: Iterable[Images],
    out: str | Path,
    *,
    format: str,  # noqa: A002 - the word the command line uses
    n_images: int,
    class_names: Sequence[str],
    shard_size: int = 10_000,
    certificate: Mapping[str, Any] | Callable[[Path], Mapping[str, Any]] | None = None,
    certificate_name: Literal["privacy.json", "notice.json", "dpgen-part.json"] = "privacy.json",
    documents: Mapping[str, bytes] | None = None,
    pages_fn: Callable[[Path], Mapping[str, bytes]] | None = None,
) -> Path:
    """Writes images with their labels and returns the folder.

    Guarantees: ``out`` appears complete and on the disk, in one rename, or not at all; until then
    it lies in ``.NAME.partial`` beside it, which the next writer of that name clears. Two writers
    of one name exclude each other. ``open_source`` reads back the given images, rounded to uint8;
    in the folder format ordered by class name.

    Args:
        blocks: the images in order, any number at a time, one shape throughout.
        out: folder to make; absent or empty.
        format: one of `dpgen.data.formats.table.written()`; ``parquet`` needs pyarrow.
        n_images: number of images in all blocks together.
        class_names: one per class, in label order; ``("all",)`` without classes.
        shard_size: images per file, where a file holds many.
        certificate: content of ``certificate_name``, as JSON; a function gets the folder with all
            other files in it, so that it can state their hashes.
        certificate_name: ``privacy.json``; ``notice.json`` for sets that are not certified;
            ``dpgen-part.json`` for a part of a set.
        documents: further files by name, json, jsonl, md, txt or toml.
        pages_fn: gets the folder with everything in it, including the certificate, and returns the
            pages that are made from it, by name.

    Raises:
        ValueError: an argument is out of range, the blocks are not as announced, ``out`` is not
            empty or another process writes it.
        OSError: the disk has no room.
    """
    names = tuple(class_names)
    _check_arguments(format, n_images, names, shard_size, certificate_name, documents or {})
    texts = dict(documents or {})
    if writer(format).lists_classes:
        texts[CLASS_LIST] = class_list(names)
    target = Path(os.path.realpath(out))
    with _partial(target) as partial:
        _write_shards(
            checked_blocks(blocks, n_images, len(names)),
            partial,
            format,
            n_images,
            names,
            shard_size,
        )
        for name, data in texts.items():
            (partial / name).write_bytes(data)
        if certificate is not None:
            stated = certificate(partial) if callable(certificate) else certificate
            (partial / certificate_name).write_bytes(statement_bytes(stated))
            texts[certificate_name] = b""
        for name, data in (pages_fn(partial) if pages_fn is not None else {}).items():
            with (partial / name).open("xb") as file:
                file.write(data)
            texts[name] = b""
        _sync(partial, every_file=writer(format).many_files, documents=texts)
        try:
            os.rename(partial, target)
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                raise ValueError(
                    f"{target} was filled by someone else meanwhile: choose an empty folder"
                ) from error
            raise
        _sync_folder(target.parent)
    return target


def _write_shards(
    blocks: Pieces,
    folder: Path,
    format: str,
    n_images: int,
    names: tuple[str, ...],
    shard_size: int,
) -> None:
    first = next(blocks)
    shape = cast("tuple[int, int, int]", first[0].shape[1:])
    _check_space(folder, _needed(format, n_images, shape))
    n_shards = -(-n_images // shard_size)
    digits = max(6, len(str(n_images - 1)))
    cut = cut_blocks(itertools.chain([first], blocks), shard_size)
    for number, group in itertools.groupby(cut, key=lambda piece: piece[0]):
        start = number * shard_size
        n_here = min(shard_size, n_images - start)
        shard = Shard(folder, number, n_shards, start, n_here, shape, names, digits)
        writer(format).write_fn(shard, ((pixels, labels) for _, pixels, labels in group))


@contextmanager
def _partial(target: Path) -> Iterator[Path]:
    """Makes an empty ``.NAME.partial`` beside the target, under a lock that ends with the process.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.partial")
    lock = target.with_name(f".{target.name}.partial.lock")
    with _locked(lock, target):
        check_empty(target)
        if partial.is_symlink() or (partial.exists() and not partial.is_dir()):
            raise ValueError(f"{partial} must be a folder of a killed run or absent: remove it")
        if partial.exists():
            shutil.rmtree(partial)  # left by a killed run, as a running one would hold the lock
        partial.mkdir()
        try:
            yield partial
        finally:
            shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def _locked(lock: Path, target: Path) -> Iterator[None]:
    while True:
        if lock.is_symlink() or (lock.exists() and not lock.is_file()):
            raise ValueError(f"{lock} must be a file of a killed run or absent: remove it")
        with lock.open("ab") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ValueError(
                    f"{target} is being written by another process: choose another folder"
                ) from None
            if still_named(lock, file.fileno()):
                try:
                    yield
                finally:
                    lock.unlink()
                return


def check_empty(target: Path) -> None:
    """Refuses a target that is not absent or an empty folder, or that a run or a set holds."""
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ValueError(f"{target} must be absent or an empty folder: choose an empty folder")
    if os.path.ismount(target):
        raise ValueError(
            f"{target} is a mount point, which cannot be renamed to: choose a folder in it"
        )
    check_outside(target, "the folder")


def check_space(
    out: str | Path,
    format: str,  # noqa: A002 - as in write_images
    n_images: int,
    shape: tuple[int, int, int],
) -> None:
    """Refuses, before anything is drawn or written, a set that the disk cannot hold.

    Args:
        out: the folder that will be made.
        shape: (C, H, W) of the images.
    """
    folder = Path(os.path.realpath(out))
    while not folder.exists():
        folder = folder.parent
    n_bytes, free = _needed(format, n_images, shape), shutil.disk_usage(folder).free
    if n_bytes > free:
        raise ValueError(
            f"{n_images} images need up to {n_bytes / 2**20:.1f} MiB, {free / 2**20:.1f} MiB are "
            f"free at {folder}: make space, or choose another folder"
        )


def _needed(format: str, n_images: int, shape: Sequence[int]) -> int:  # noqa: A002
    return int(n_images * writer(format).image_bytes_fn(int(np.prod(shape))))


def _check_space(folder: Path, n_bytes: int) -> None:
    free = shutil.disk_usage(folder).free
    if n_bytes > free:
        raise OSError(
            errno.ENOSPC,
            f"the images need up to {n_bytes / 2**20:.0f} MiB, {free / 2**20:.0f} MiB are free: "
            "make space",
            str(folder.parent),
        )


def _check_arguments(
    format: str,
    n_images: int,
    names: tuple[str, ...],
    shard_size: int,
    certificate_name: str,
    documents: Mapping[str, bytes],
) -> None:
    form = writer(format)
    for name, value in (("n_images", n_images), ("shard_size", shard_size)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    check_class_names(names)
    form.check_fn(names)
    own = (CLASS_LIST, CERTIFICATE, NOTICE, PART, SIGNATURE, *CARDS)
    taken = {name.casefold() for name in own}
    for name in names:
        if form.many_files and name.casefold() in taken:
            raise ValueError(
                f"class_names must not be names of files of a set, got {name!r}: rename the class, "
                f"or choose another format than {format}"
            )
    if certificate_name not in (CERTIFICATE, NOTICE, PART):
        raise ValueError(
            f"certificate_name must be {CERTIFICATE}, {NOTICE} or {PART}, got {certificate_name!r}"
        )
    for name in documents:
        if not _DOCUMENT.fullmatch(name) or name in (CLASS_LIST, certificate_name):
            raise ValueError(
                f"documents must be plain json, jsonl, md, txt or toml files besides {CLASS_LIST} "
                f"and {certificate_name}, got {name!r}"
            )


def _sync(folder: Path, *, every_file: bool, documents: Iterable[str]) -> None:
    if every_file:
        os.sync()  # one call for all files: a call for each of 60,000 files takes minutes
        return
    for name in documents:
        with (folder / name).open("rb") as file:
            os.fsync(file.fileno())
    _sync_folder(folder)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
