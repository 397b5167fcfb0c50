"""Private copies of data that are not in plain local files: unpacked archives, fetched addresses.

A copy lies in ``copies/`` of the installation's folder, readable by its owner only. It is made once
in a process and removed when the process ends; the copies of a killed process are removed when the
next one is made.
"""

from __future__ import annotations

import atexit
import fcntl
import os
import secrets
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dpgen.data.identity import home
from dpgen.storage.durable import still_named


@dataclass(frozen=True)
class Copy:
    """A copy in use.

    Args:
        folder: holds the copy and nothing else.
        lock: descriptor of the lock by which other processes see that it is in use.
        process: id of the process that made it.
    """

    folder: Path
    lock: int
    process: int


_COPIES: dict[str, Copy] = {}  # by the key of the copied data


def copied(key: str, make_fn: Callable[[Path], object]) -> Path:
    """Returns the folder of a copy, which is made now unless this process has it.

    Args:
        key: identifies the copied data and their version.
        make_fn: fills the empty folder; if it raises, no folder is left behind.
    """
    found = _COPIES.get(key)
    if found is not None and found.folder.is_dir():
        return found.folder
    copy = _new()
    try:
        make_fn(copy.folder)
    except BaseException:
        _remove(copy)
        raise
    _COPIES[key] = copy
    atexit.register(_remove, copy)
    return copy.folder


def _new() -> Copy:
    place = home() / "copies"
    place.mkdir(parents=True, exist_ok=True, mode=0o700)
    place.chmod(0o700)  # whatever its mode was, or the umask
    _sweep(place)
    folder = place / secrets.token_hex(8)
    lock = _open_lock(folder.with_suffix(".lock"))
    fcntl.flock(lock, fcntl.LOCK_EX)
    if not still_named(folder.with_suffix(".lock"), lock):  # deleted before it was locked
        os.close(lock)
        return _new()
    folder.mkdir(mode=0o700)
    return Copy(folder, lock, os.getpid())


def _open_lock(path: Path) -> int:
    return os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)


def _sweep(place: Path) -> None:
    """Removes copies whose process has ended, so that their lock is free."""
    for path in place.glob("*.lock"):
        lock = _open_lock(path)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if still_named(path, lock):
                shutil.rmtree(path.with_suffix(""), ignore_errors=True)
                path.unlink(missing_ok=True)
        except BlockingIOError:
            pass  # in use
        finally:
            os.close(lock)


def _remove(copy: Copy) -> None:
    if copy.process != os.getpid():  # a forked child must not remove its parent's copy
        return
    shutil.rmtree(copy.folder, ignore_errors=True)
    copy.folder.with_suffix(".lock").unlink(missing_ok=True)
    os.close(copy.lock)
