"""Checks the files of a run folder: each as stated, no others, and all that the ledger names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dpgen.privacy.statements.certificate import (
    CERTIFICATE,
    COPY,
    EARLIER,
    SIGNATURE,
    SIGNATURE_BYTES,
    sha256_file,
)
from dpgen.privacy.verification.check import Check, agree

CHECKPOINT = "checkpoint"  # the subfolder in which an unfinished run keeps its state


def file_check(folder: Path, files: Mapping[str, str]) -> Check:
    """Checks that every file has its stated hash, and that no other file, link or pipe is there.

    Args:
        files: stated hashes, by name.
    """
    wrong = []
    for name, stated in files.items():
        path = folder / name
        if Path(name).is_absolute() or ".." in Path(name).parts:
            wrong.append(f"{name} lies outside")
        elif path.is_symlink():
            wrong.append(f"{name} is a link")
        elif not path.is_file():
            wrong.append(f"{name} is missing")
        elif sha256_file(path) != stated:
            wrong.append(f"{name} was changed")
    known = {*files, CERTIFICATE, SIGNATURE}
    # Links and pipes too: no hash covers the files behind them.
    entries = (p for p in folder.rglob("*") if p.is_symlink() or not p.is_dir())
    present = {str(p.relative_to(folder)) for p in entries}
    uncovered = sorted(present - known)
    if uncovered and not wrong and all(Path(name).parts[0] == CHECKPOINT for name in uncovered):
        wrong.append(
            f"{CHECKPOINT}/ is not covered and may hold secrets: a training was stopped before it "
            "could delete it; run the same train command again, which does"
        )
    else:
        wrong += [f"{name} is not covered" for name in uncovered]
    rest = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
    seen = "; ".join(wrong[:3]) + rest if wrong else f"{len(files)} files as stated"
    return Check("files", not wrong, seen)


def signature_form_check(folder: Path) -> Check | None:
    """Checks that the signature file has the form of a signature; None if there is no file."""
    path = folder / SIGNATURE
    if not (path.exists() or path.is_symlink()):
        return None
    plain = path.is_file() and not path.is_symlink() and path.stat().st_size == SIGNATURE_BYTES
    seen = f"{SIGNATURE_BYTES} bytes" if plain else f"{path.name} is not a signature"
    return Check("form of the signature", plain, seen)


def released_check(lines: Sequence[Mapping[str, Any]], statement: Mapping[str, Any]) -> Check:
    """Checks that the ledger names every file that the run released, except its own copy, with its
    hash.
    """
    named = [line["files"] for line in lines if line["kind"] == "released"]
    if not named and statement["schema"] == EARLIER:
        return Check("files in the ledger", None, f"no line of {EARLIER} names what was released")
    stated = {k: v for k, v in statement["artifact"]["files"].items() if k != COPY}
    same = bool(named) and agree(named[-1], stated)
    seen = f"{len(stated)} files as the ledger has them" if same else "not those of the ledger"
    return Check("files in the ledger", same, seen)
