"""Private copies of data that do not lie in plain files: unpacked archives, fetched addresses.

A copy lies in ``copies/`` of the installation's folder, readable by its owner alone. It is made
once in a process and removed when the process ends; what a killed process left, the next copy
removes.
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
        lock: descriptor of the lock that says so to other processes.
        process: id of the process that made it.
    """

    folder: Path
    lock: int
    process: int


_COPIES: dict[str, Copy] = {}  # by what they are copies of


def copied(key: str, make_fn: Callable[[Path], object]) -> Path:
    """The folder of a copy, made now unless this process has it.

    Args:
        key: names what is copied, with whatever tells that it changed.
        make_fn: fills the empty folder; what it raises leaves no folder behind.
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
    place.chmod(0o700)  # whatever it was, or the umask made of it
    _sweep(place)
    folder = place / secrets.token_hex(8)
    lock = _open_lock(folder.with_suffix(".lock"))
    fcntl.flock(lock, fcntl.LOCK_EX)
    if not still_named(folder.with_suffix(".lock"), lock):  # swept before it was locked
        os.close(lock)
        return _new()
    folder.mkdir(mode=0o700)
    return Copy(folder, lock, os.getpid())


def _open_lock(path: Path) -> int:
    return os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)


def _sweep(place: Path) -> None:
    """Removes copies whose process is gone: nobody holds their lock."""
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
    if copy.process != os.getpid():  # a child that was forked has not made it
        return
    shutil.rmtree(copy.folder, ignore_errors=True)
    copy.folder.with_suffix(".lock").unlink(missing_ok=True)
    os.close(copy.lock)
