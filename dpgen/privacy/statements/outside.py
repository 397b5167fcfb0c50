"""Keeps what is written out of the folders that have a statement: it says how many files there are,
so that one file more makes it false.
"""

from __future__ import annotations

import os
from pathlib import Path

from dpgen.privacy.statements.certificate import CERTIFICATE, NOTICE, PART

BEGUN = "checkpoint/run.json"  # in an unfinished run


def check_new_file(path: Path, name: str, suffix: str | None = None) -> None:
    """Refuses a file that cannot be written, or may not be: see `check_outside`.

    Args:
        path: of the file.
        name: what the message calls it, as ``--json``.
        suffix: how its name must end, as ``.png``; ``None`` for any end.
    """
    if suffix is not None and path.suffix.lower() != suffix:
        raise ValueError(f"{name} must end in {suffix}, got {path.name!r}")
    if not path.absolute().parent.is_dir():
        raise ValueError(f"{name} {path}: there is no folder {path.absolute().parent}")
    check_outside(path, name)


def check_outside(path: str | Path, name: str) -> None:
    """Refuses a place in a run, finished or not, in a synthetic set, or in a part of one.

    Args:
        path: of a file or folder that is to be written; links are followed.
        name: what the message calls it, as ``--json``.
    """
    folder = stated_folder(path)
    if folder is not None:
        raise ValueError(
            f"{name} {path} lies in {folder}, a run or a set, and its statement covers no "
            "file that is added: name a place outside"
        )


def stated_folder(path: str | Path) -> Path | None:
    """Returns the run, finished or not, the synthetic set, or the part of one that a path lies in;
    None if it lies in none. Links are followed.
    """
    real, documents = Path(os.path.realpath(path)), (CERTIFICATE, NOTICE, PART, BEGUN)
    for folder in (real, *real.parents):
        if any((folder / document).is_file() for document in documents):
            return folder
    return None
