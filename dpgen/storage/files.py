"""Files from untrusted sources: opened without waiting, read up to a limit, parsed strictly.

A pipe is never waited for and a device never read. Texts are bounded in bytes, depth and size of
numbers, so that later code can handle every accepted value.
"""

from __future__ import annotations

import errno
import io
import json
import math
import os
import stat
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any, BinaryIO

TEXT_BYTES = 2**20  # the most bytes of a JSON or TOML file, unless its reader sets another limit
DEPTH = 64  # nested tables and lists; files of this package have fewer than ten levels
LARGEST_WHOLE = 2**63  # absolute values of whole numbers lie below: TOML's own limit
PIECE_BYTES = 2**20  # the most bytes that a parser of headers may ask for at once
DOTS = 10**6  # sum over lines of squared dots in a TOML file: its parser's time is quadratic in it
# A file is refused if it unpacks to more than BOMB_BYTES and to more than BOMB_RATIO times its
# size. Deflated zeros have a ratio of 1000; the emptiest real data sets, black images with one
# white shape each, slightly above 100.
BOMB_BYTES = 2**26
BOMB_RATIO = 200

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def open_file(path: Path) -> BinaryIO:
    """Opens a plain file, or a link to one, for reading. Raises ValueError for anything else,
    without waiting.
    """
    return open(path, "rb", opener=_plain)


def size_of(path: Path) -> int:
    """Returns the number of bytes of a plain file, read from its inode."""
    with open_file(path) as file:
        return os.fstat(file.fileno()).st_size


def read_bytes(path: Path, limit: int) -> bytes:
    """Reads a plain file of at most ``limit`` bytes. Raises ValueError if it is larger, before any
    byte is read, or grows meanwhile.

    Args:
        path: the file.
        limit: the most bytes that it may have.
    """
    with open_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > limit:
            raise ValueError(f"{path} must have at most {limit} bytes, got {size}")
        data = file.read(size + 1)
    if len(data) > size:
        raise ValueError(f"{path} grew while it was read: read it again when it is finished")
    return data


def read_text(path: Path, limit: int = TEXT_BYTES) -> str:
    """Reads the UTF-8 text of a plain file of at most ``limit`` bytes."""
    try:
        return read_bytes(path, limit).decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} must be text in UTF-8: {error}: save it anew in it") from None


def read_json(path: Path, limit: int = TEXT_BYTES, *, finite: bool = True) -> Any:  # noqa: ANN401
    """Reads the value of a JSON file, as `parse_json` does."""
    return parse_json(read_text(path, limit), str(path), finite=finite)


def parse_json(text: str, name: str, *, finite: bool = True) -> Any:  # noqa: ANN401
    """Parses a JSON text. Raises ValueError for a duplicate key, a number that is too large, and
    more than 64 levels.

    Args:
        text: the JSON text.
        name: the name of the text in an error message.
        finite: whether to refuse NaN and the infinities, which are not valid JSON.
    """

    def real(word: str) -> float:
        value = float(word)
        if finite and not math.isfinite(value):
            raise ValueError(f"numbers must be finite, got {word!r:.40}")
        return value

    try:
        value = json.loads(text, object_pairs_hook=_unique, parse_float=real, parse_constant=real)
        _require_modest(value)
    except RecursionError:
        raise ValueError(f"{name} must be JSON of at most {DEPTH} levels, got more") from None
    except ValueError as error:
        raise ValueError(f"{name} must be JSON: {error}") from None
    return value


def read_toml(path: Path, limit: int = TEXT_BYTES) -> dict[str, Any]:
    """Reads the tables of a TOML file, with the bounds of `parse_json`."""
    text = read_text(path, limit)
    if sum(line.count(".") ** 2 for line in text.split("\n")) > DOTS:
        raise ValueError(f"{path} must have fewer dots on a line: break its longest lines up")
    try:
        tables = tomllib.loads(text)
        _require_modest(tables)
    except RecursionError:
        raise ValueError(f"{path} must be TOML of at most {DEPTH} levels, got more") from None
    except ValueError as error:
        raise ValueError(f"{path} must be TOML: {error}") from None
    return tables


def refuse_bomb(n_bytes: int, n_packed: int, name: str, cure: str) -> None:
    """Refuses a decompression bomb: a file that unpacks to more than 64 MiB and more than 200 times
    its size.

    Args:
        n_bytes: unpacked size, by a header.
        n_packed: size in the file.
        name: the name of the file in an error message.
        cure: what to do, in an error message.
    """
    if n_bytes > max(BOMB_BYTES, BOMB_RATIO * n_packed):
        raise ValueError(
            f"{name} must unpack to at most {BOMB_RATIO} times its {n_packed} bytes, its header "
            f"promises {n_bytes / 2**20:.0f} MiB: {cure}"
        )


class InPieces(io.FileIO):
    """A plain file from which at most ``limit`` bytes are read at a time.

    It protects parsers that trust a header: a request for gigabytes raises ValueError.

    limit: the most bytes of one read; set it to None when the headers are read.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, "rb", opener=_plain)
        self.limit: int | None = PIECE_BYTES

    def read(self, size: int | None = -1) -> bytes:
        if self.limit is not None:
            if size is None or size < 0:
                size = max(0, os.fstat(self.fileno()).st_size - self.tell())
            if size > self.limit:
                raise ValueError(
                    f"{self.name} must have headers of at most {self.limit} bytes, got {size}"
                )
        return super().read(size) or b""


def _plain(path: str, flags: int) -> int:
    try:
        descriptor = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise ValueError(f"{path} must be a plain file, got a link to itself") from None
        if error.errno == errno.ENXIO:
            raise ValueError(f"{path} must be a plain file, got a socket") from None
        if error.errno == errno.ENOENT and os.path.islink(path):
            raise ValueError(
                f"{path} is a link to a file that is not there, {os.readlink(path)!r:.200}: put it "
                "there, or remove the link"
            ) from None
        raise
    mode = stat.S_IFMT(os.fstat(descriptor).st_mode)
    if mode != stat.S_IFREG:
        os.close(descriptor)
        raise ValueError(f"{path} must be a plain file, got {_KINDS.get(mode, 'something else')}")
    return descriptor


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        twice = Counter(key for key, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"key {twice!r:.60} stands twice")
    return table


def _require_modest(value: Any) -> None:  # noqa: ANN401
    """Refuses depth and numbers that later code could not handle, without recursion."""
    level: list[Any] = [value]
    for _ in range(DEPTH + 1):
        if not level:
            return
        inner: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                inner += item.values()
            elif isinstance(item, list):
                inner += item
            elif isinstance(item, int) and abs(item) >= LARGEST_WHOLE:
                raise ValueError("whole numbers must lie below 2**63")
        level = inner
    raise RecursionError
