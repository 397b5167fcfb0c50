"""A `dpgen` command in a process group of its own, which can be killed, starved or cut off.

A warm command runs in a fork of this process, which has imported everything and priced the plans
once; its moments are those of the work, not of imports. A cold one is a fresh interpreter, as typed
into a shell, and nothing in it is arranged.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from fault_rounds.arrangement import Arranged, arrange

TIMEOUT = 900.0  # seconds after which a command hangs
_COLD = "import sys; sys.argv[0] = 'dpgen'; from dpgen.commands.cli import main; main()"


class Process:
    """A running command.

    Args:
        arguments: of `dpgen`.
        log: file that gets what it prints, on either stream.
        home: ``DPGEN_HOME``.
        arranged: of a warm command; ``None``: a cold one.
        more: further variables of its environment.
    """

    def __init__(
        self, arguments: Sequence[str], log: Path, home: Path, arranged: Arranged | None,
        more: Mapping[str, str] = MappingProxyType({}),
    ) -> None:  # fmt: skip
        self.log, self._start, self.seconds = log, time.monotonic(), 0.0
        self.status: int | None = None
        environment = {"DPGEN_HOME": str(home), "OMP_NUM_THREADS": "1", **more}
        # Not into a file: what limits or fills files must not silence the command.
        self._words, words = os.pipe()
        os.set_blocking(self._words, False)
        sys.stdout.flush()
        sys.stderr.flush()
        if arranged is None:
            child = subprocess.Popen(
                [sys.executable, "-c", _COLD, *arguments], stdout=words, stderr=words,
                env={**os.environ, **environment}, start_new_session=True,
            )  # fmt: skip
            self.pid = child.pid
            child.returncode = 0  # waited for here, by its number
        else:
            self.pid = os.fork()
            if self.pid == 0:
                _live(list(arguments), words, environment, arranged)
        os.close(words)

    def wait(self, seconds: float = TIMEOUT) -> int | None:
        """The exit status, minus the signal for a killed process; ``None``: it still runs."""
        end = time.monotonic() + seconds
        while self.status is None:
            self._listen()
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.status = os.waitstatus_to_exitcode(status)
                self.seconds = time.monotonic() - self._start
                self._listen()
                os.close(self._words)
                self._words = -1
            elif time.monotonic() > end:
                return None
            else:
                time.sleep(0.005)
        return self.status

    def finish(self) -> int:
        """Waits to the end; a command that hangs is killed, and says so by its status."""
        status = self.wait()
        if status is None:
            self.kill()
            return -signal.SIGKILL
        return status

    def signal(self, number: int) -> bool:
        """Sends a signal to the process alone; whether it was still there."""
        if self.status is None:
            os.kill(self.pid, number)
        return self.status is None

    def kill(self, *, whom: str = "group") -> bool:
        """SIGKILL to the whole group, the "parent" alone, or one of its "children"; whether there
        was anyone.
        """
        if self.status is not None:
            return False
        if whom == "children":
            found = related(self.pid, 1)[:1]
            for child in found:
                os.kill(child, signal.SIGKILL)
            return bool(found)
        os.kill(self.pid, signal.SIGKILL)
        if whom == "group":
            self.bury()
        self.wait()
        return True

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Stands still, as under a snapshot of its disk."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGCONT)

    def bury(self) -> None:
        """SIGKILL to whoever is left of the group."""
        for orphan in related(self.pid, 2):
            with contextlib.suppress(ProcessLookupError):
                os.kill(orphan, signal.SIGKILL)

    def words(self) -> str:
        """What it has printed until now."""
        self._listen()
        return self.log.read_text(errors="replace")

    def _listen(self) -> None:
        if self._words < 0:
            return
        with self.log.open("ab") as file, contextlib.suppress(BlockingIOError):
            while said := os.read(self._words, 2**16):
                file.write(said)


def related(pid: int, column: int) -> list[int]:
    """Processes whose parent (column 1) or group (column 2) is ``pid``."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has ended meanwhile
        if int(fields[column]) == pid:
            found.append(int(status.parent.name))
    return sorted(found)


def limit_files(process: Process, n_bytes: int) -> None:
    """From now on no file of the process grows beyond ``n_bytes``: writes stop in the middle."""
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (n_bytes, n_bytes))


def _live(
    arguments: list[str], words: int, environment: Mapping[str, str], arranged: Arranged
) -> None:
    """The whole life of a warm command."""
    code = 70
    try:
        os.setsid()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # the one of the script is its own
        os.dup2(words, 1)
        os.dup2(words, 2)
        # Whoever called may have put something else in the place of the streams.
        sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
        os.environ.update(environment)
        done = arrange(arranged)
        from dpgen.commands.cli import main

        try:
            main(arguments, prog_name="dpgen")
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        with contextlib.suppress(OSError):  # where no file may grow, nobody asks
            arranged.counted.write_text("".join(f"{path}\n" for path in done))
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(code)
