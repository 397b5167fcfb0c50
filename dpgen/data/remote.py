"""Fetches data from addresses in object stores and on other machines to a folder, and checks them.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path, PurePosixPath
from typing import Any

PIECE = 2**20  # bytes that are fetched at once
VERSION_KEYS = (
    "etag", "ETag", "md5Hash", "crc32c", "generation", "VersionId", "blob_id", "lfs", "checksum",
    "last_modified", "LastModified", "updated", "mtime", "modified", "created",
)  # fmt: skip
_ADDRESS = re.compile(r"([a-z][a-z0-9+.-]*)://(.*)", re.DOTALL)
_BY_HAND = "download it, check that it is what you mean, and point at the file"
REFUSED = {
    **dict.fromkeys(
        ("http", "https", "ftp"),
        "a web server lists no folder, need not send the same bytes twice, and says nothing that a "
        f"copy could be checked against: {_BY_HAND}",
    ),
    **dict.fromkeys(("file", "local"), "give the path alone"),
    **dict.fromkeys(
        ("filecache", "simplecache", "blockcache", "cached", "zip", "tar", "libarchive", "dir",
         "reference", "data", "generic", "async_wrapper"),
        f"it is not a place but a way to read one: {_BY_HAND}",
    ),
}  # fmt: skip
# By scheme, where fsspec names none that can be pasted.
PACKAGES = {
    **dict.fromkeys(("s3", "s3a"), "s3fs"),
    **dict.fromkeys(("gs", "gcs"), "gcsfs"),
    **dict.fromkeys(("abfs", "abfss", "az", "adl"), "adlfs"),
    "hf": "huggingface_hub",
}


def is_address(location: str) -> bool:
    """Returns whether a location is an address, ``scheme://...``, and not a path."""
    return _ADDRESS.match(location) is not None


def fetched(address: str, folder: Path) -> Path:
    """Returns what `fetch` made in a folder: the one file that the address names, or the folder."""
    file = folder / PurePosixPath(address).name
    alone = file.is_file() and len(list(folder.iterdir())) == 1
    return file if alone else folder


def fetch(address: str, folder: Path) -> None:
    """Copies the data at an address, a file or everything below a folder, into an empty folder.

    Sizes are compared with the listing, and the listing afterwards with the one before, so that
    data that changed meanwhile are refused.

    Raises:
        ValueError: the address is not supported, or data do not arrive as they are listed.
        FileNotFoundError: nothing is at the address.
        OSError: the store or the connection to it failed.
    """
    filesystem, root = _opened(address)
    try:
        before = _listing(filesystem, root)
        if not before:
            raise FileNotFoundError(f"no data at {address!r}")
        total = sum(size for size, _ in before.values())
        free = shutil.disk_usage(folder).free
        if total > free:
            raise ValueError(
                f"{address} holds {total / 2**30:.1f} GiB and {folder.parent} has "
                f"{free / 2**30:.1f} GiB left: make space, or set DPGEN_HOME to another disk"
            )
        targets = {path: _target(path, root, folder, address) for path in before}
        for path, target in targets.items():
            _copy(filesystem, path, target, before[path][0], address)
        filesystem.invalidate_cache()
        if _listing(filesystem, root) != before:
            raise ValueError(f"{address} changed while it was copied: run the same command again")
    except (ValueError, OSError, MemoryError):
        raise
    except Exception as error:  # stores raise errors of their own packages
        raise OSError(f"{address} could not be read: {error!s:.300}") from error


def _opened(address: str) -> tuple[Any, str]:
    """Opens the file system of an address; returns it and the path there."""
    found = _ADDRESS.match(address)
    assert found is not None, "is_address was asked"
    scheme, rest = found.groups()
    if scheme in REFUSED:
        raise ValueError(f"{scheme}:// is not read, {REFUSED[scheme]}")
    if "::" in address:
        raise ValueError(f"an address must name one place, got a chain of them: {_BY_HAND}")
    if re.match(r"[^/@]*:[^/@]*@", rest):
        raise ValueError(
            f"a {scheme}:// address must hold no password: keep it where the store's own tools do"
        )
    try:
        import fsspec  # type: ignore[import-untyped]
    except ImportError as error:
        raise ValueError("an address needs fsspec: pip install fsspec") from error
    try:
        filesystem, root = fsspec.core.url_to_fs(address)
    except ImportError as error:
        package = PACKAGES.get(scheme)
        told = f"{error!s:.200}" if package is None else f"pip install {package}"
        raise ValueError(f"{scheme}:// needs {package or 'another package'}: {told}") from error
    except ValueError as error:
        raise ValueError(f"{address} is not an address for fsspec: {error!s:.200}") from error
    except OSError:
        raise
    except Exception as error:  # stores raise errors of their own packages
        raise OSError(f"{address} could not be reached: {error!s:.300}") from error
    return filesystem, str(root)


def _listing(filesystem: Any, root: str) -> dict[str, tuple[int, str]]:  # noqa: ANN401
    """Lists the files by path: size in bytes, and the attributes that identify a version."""
    found = {}
    for path, info in sorted(filesystem.find(root, detail=True).items()):
        size = info.get("size")
        if not isinstance(size, int) or size < 0:
            raise ValueError(f"{path} must have a known size, got {size!r:.60}: {_BY_HAND}")
        found[str(path)] = (size, repr([info.get(key) for key in VERSION_KEYS]))
    return found


def _target(path: str, root: str, folder: Path, address: str) -> Path:
    if path == root:
        return folder / PurePosixPath(root).name
    try:
        inside = PurePosixPath(path).relative_to(PurePosixPath(root))
    except ValueError:
        inside = PurePosixPath("..")
    if ".." in inside.parts or "\0" in path:
        raise ValueError(f"{address} must hold names below it only, got {path!r:.200}")
    return folder / inside


def _copy(filesystem: Any, path: str, target: Path, size: int, address: str) -> None:  # noqa: ANN401
    try:
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with filesystem.open(path, "rb") as source, target.open("xb") as file:
            n_bytes = 0
            while n_bytes <= size and (piece := source.read(PIECE)):
                n_bytes += len(piece)
                file.write(piece)
    except (FileExistsError, NotADirectoryError) as error:
        raise ValueError(f"{address}: {path!r:.200} is a file and a folder") from error
    if n_bytes != size:
        raise ValueError(
            f"{address}: {path!r:.200} must have the {size} bytes of its listing, got {n_bytes}: "
            "run the same command again"
        )
