"""Files replaced atomically, and locked."""

from __future__ import annotations

import contextlib
import fcntl
import glob
import os
from collections.abc import Iterator
from pathlib import Path


def replace_durably(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Writes ``content`` to ``path`` atomically: after a crash either the old or the new file is
    there, complete. A failed write leaves nothing else behind; a killed one may leave a file that
    `sweep_partials` deletes.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    partial.unlink(missing_ok=True)  # a link in its place must not be followed
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
    try:
        with open(os.open(partial, flags, mode), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        with contextlib.suppress(OSError):  # the first error is the one to report
            partial.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def sweep_partials(path: Path) -> None:
    """Deletes the partial files of killed writers of ``path``; running ones must be kept out by a
    lock.
    """
    for partial in path.parent.glob(f".{glob.escape(path.name)}.*.partial"):
        partial.unlink(missing_ok=True)


def still_named(path: Path, descriptor: int) -> bool:
    """Returns whether ``path`` still names the file behind ``descriptor``: an earlier holder of its
    lock may have removed it between opening and locking here.
    """
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def held_alone(path: Path, *, busy: str | None = None) -> Iterator[None]:
    """Holds a lock beside ``path`` that keeps other processes out, and ends with this process.

    Args:
        path: the file or folder to lock.
        busy: message of the ValueError if another process holds the lock; None waits instead.
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
