"""The file of a ledger: chained lines, a lock, and a head file that states its length.

A line is on disk (fsync) when `LedgerFile.append` returns. An edited, reordered or dropped line
breaks the chain, and a file rolled back to an earlier state contradicts its head. This is
integrity, not authenticity: a forger who rewrites all of it, head included, is not caught.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dpgen.privacy.ledger.chain import (
    GENESIS,
    LEDGER_BYTES,
    SCHEMA,
    LedgerError,
    chain,
    check_chain,
    check_fields,
    parse_lines,
)
from dpgen.storage.canonical import canonical
from dpgen.storage.durable import held_alone, replace_durably, sweep_partials
from dpgen.storage.files import read_bytes, read_json


class LedgerFile:
    """Lines in one JSON Lines file.

    Args:
        path: the file; it need not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._head = path.with_name(path.name + ".head")

    def exists(self) -> bool:
        return self.path.exists() or self._head.exists()

    @contextlib.contextmanager
    def locked(self) -> Iterator[list[dict[str, Any]]]:
        """Holds the ledger alone and yields its verified lines."""
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with held_alone(self.path):
            sweep_partials(self._head)
            yield self._read()

    def _read(self) -> list[dict[str, Any]]:
        text = read_bytes(self.path, LEDGER_BYTES) if self.path.exists() else b""
        # A torn last line was never acknowledged, so no record was read for it; `append`
        # overwrites it. It may end inside a character, so it is cut before decoding.
        lines = parse_lines(text[: text.rfind(b"\n") + 1].decode(errors="replace"), str(self.path))
        check_chain(lines, str(self.path))
        check_fields(lines, str(self.path))
        if self._head.exists():
            n_lines, last = self._read_head()
            hashes = [GENESIS, *(line["hash"] for line in lines)]
            if len(lines) < n_lines or hashes[n_lines] != last:
                raise LedgerError(
                    f"ledger {self.path} has {len(lines)} lines but once had {n_lines}: "
                    "it was truncated or rolled back. Restore it from a backup; what it no "
                    "longer shows was spent all the same"
                )
        elif lines:
            raise LedgerError(
                f"ledger {self.path} has lost its head file {self._head.name}: "
                "restore it from a backup"
            )
        if lines and lines[0]["kind"] != "open":
            raise LedgerError(f"ledger {self.path} does not begin with an open line")
        return lines

    def _read_head(self) -> tuple[int, str]:
        try:
            head = read_json(self._head)
            n_lines, last = head["lines"], head["hash"]
            if type(n_lines) is not int or n_lines < 0 or type(last) is not str:
                raise ValueError("it holds no valid numbers")
            return n_lines, last
        except (ValueError, KeyError, TypeError):
            raise LedgerError(
                f"the head file {self._head} is damaged: restore it from a backup"
            ) from None

    def append(self, lines: list[dict[str, Any]], bodies: Sequence[Mapping[str, Any]]) -> None:
        """Appends lines, and returns when they are on disk. The caller holds the lock."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        previous = lines[-1]["hash"] if lines else GENESIS
        new = chain([{"schema": SCHEMA, "time": now, **body} for body in bodies], previous)
        text = "".join(canonical(line) + "\n" for line in new).encode()
        whole = sum(len((canonical(line) + "\n").encode()) for line in lines)
        if whole + len(text) > LEDGER_BYTES:
            raise LedgerError(
                f"ledger {self.path} must have at most {LEDGER_BYTES} bytes, with these lines it "
                f"would have {whole + len(text)}: nothing was written"
            )
        if not lines:
            # Written before the first line, so a ledger without a head file has lost it.
            self._write_head(0, GENESIS)
        with open(os.open(self.path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600), "r+b") as file:
            file.truncate(whole)
            file.seek(whole)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        lines.extend(new)
        self._write_head(len(lines), lines[-1]["hash"])

    def _write_head(self, lines: int, last: str) -> None:
        replace_durably(self._head, canonical({"lines": lines, "hash": last}).encode(), mode=0o600)
