"""Takes pieces of work for this process, so that several machines can work in one folder.

Each piece has a folder. Who wants it makes the file ``claim.N`` there, with N one more than that of
the last claim. A file system makes a file of a name for one process only, also over a network, so
no two hold one claim, and a claim that was held is never removed or renamed. The last claim counts.
It is over when its process said so, or has ended: on this machine as its lock shows, which ends
with the process; on another one when the claim has not been touched for `LOST` seconds, by the
clock of the process that looks. A process that was only asleep for so long finds a later claim when
it wakes, and then writes no result.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import threading
import time
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Self

from dpgen.storage.canonical import digest

__all__ = ["Claims", "overtaken"]

BEAT = 10.0  # seconds after which a process touches its claims again
LOST = 180.0  # seconds without a touch after which a process of another machine counts as ended
OVER = b"over\n"  # the last line of a claim whose process is done with it


class Claims:
    """The claims of this process, which end with the ``with`` block, and at the latest with the
    process.
    """

    def __init__(self) -> None:
        self._held: dict[Path, tuple[int, int]] = {}  # number and descriptor, by folder
        self._seen: dict[Path, tuple[object, float]] = {}
        self._ended = threading.Event()
        self._beating = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> Self:
        self._beating.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self._ended.set()
        self._beating.join()
        for folder in list(self._held):
            self.release(folder)

    def take(self, folder: Path) -> int | None:
        """Takes the piece of work of a folder, which is made if it is not there, and returns the
        number of the claim; None if another process holds it, or has just taken it.
        """
        folder.mkdir(parents=True, exist_ok=True)
        last = _last(folder)
        if last and not self.is_over(folder):
            return None
        flags = os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC
        try:
            held = os.open(_path(folder, last + 1), flags, 0o644)
        except FileExistsError:
            return None
        try:
            fcntl.flock(held, fcntl.LOCK_EX)
            os.write(held, f"{_machine()} {os.getpid()}\n".encode())
        except OSError:  # no room: it was never held, and the others need not wait for it
            _path(folder, last + 1).unlink(missing_ok=True)
            os.close(held)
            raise
        self._held[folder] = last + 1, held
        return last + 1

    def release(self, folder: Path) -> None:
        """Says that this process is done with the work of a folder, or has given it up."""
        _, held = self._held.pop(folder)
        try:
            os.write(held, OVER)
        finally:
            os.close(held)

    def is_over(self, folder: Path) -> bool:
        """Returns whether nobody holds the work of a folder, as far as is known by now."""
        if not (last := _last(folder)):
            return True
        path = _path(folder, last)
        content = path.read_bytes()
        if content.endswith(OVER):
            return True
        if content.startswith(f"{_machine()} ".encode()):
            return _is_unlocked(path)
        now = time.monotonic()
        state = content, path.stat().st_mtime_ns
        seen, since = self._seen.get(path, (None, now))
        if seen != state:
            since = now
            self._seen[path] = state, now
        return now - since > LOST

    def _beat(self) -> None:
        while not self._ended.wait(BEAT):
            for folder, (number, _) in list(self._held.items()):
                with contextlib.suppress(OSError):  # the next touch may succeed
                    os.utime(_path(folder, number))


def overtaken(folder: Path, number: int) -> bool:
    """Returns whether a later claim than this one has been made on the work of a folder."""
    return _last(folder) > number


def _path(folder: Path, number: int) -> Path:
    return folder / f"claim.{number}"


def _last(folder: Path) -> int:
    """Returns the number of the last claim; 0 if there is none."""
    numbers = (path.name.removeprefix("claim.") for path in folder.glob("claim.*"))
    return max((int(number) for number in numbers if number.isdecimal()), default=0)


def _is_unlocked(path: Path) -> bool:
    held = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(held)
    return True


@cache
def _machine() -> str:
    """Names this machine since it was started: processes with one name share the locks of files."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    started = boot.read_text().strip() if boot.exists() else ""
    return digest([socket.gethostname(), started])[:32]
