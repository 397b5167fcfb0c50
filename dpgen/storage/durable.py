"""Files replaced in one step, and held alone."""

from __future__ import annotations

import contextlib
import fcntl
import glob
import os
from collections.abc import Iterator
from pathlib import Path


def replace_durably(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Writes ``content`` to ``path`` in one step: after a crash the old or the new file is there,
    whole. What failed leaves nothing else behind; what was killed, a file that
    `sweep_partials` knows.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    partial.unlink(missing_ok=True)  # not written through, should it be a link
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
    try:
        with open(os.open(partial, flags, mode), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        with contextlib.suppress(OSError):  # the first failure is the one to be told
            partial.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def sweep_partials(path: Path) -> None:
    """Deletes what killed writers of ``path`` left; a living one must be kept out by a lock."""
    for partial in path.parent.glob(f".{glob.escape(path.name)}.*.partial"):
        partial.unlink(missing_ok=True)


def still_named(path: Path, descriptor: int) -> bool:
    """Returns whether ``path`` is still the file behind ``descriptor``: an earlier holder of its
    lock may have removed it after it was opened here and before it was locked.
    """
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def held_alone(path: Path, *, busy: str | None = None) -> Iterator[None]:
    """Keeps other processes out of ``path`` by a lock beside it, which ends with this one.

    Args:
        busy: message of the ValueError when it is held already; ``None`` waits instead.
    """
    flags = os.O_CREAT | os.O_RDWR | os.O_CLOEXEC
    lock = os.open(path.with_name(path.name + ".lock"), flags, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX if busy is None else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(busy) from None
        yield
    finally:
        os.close(lock)
