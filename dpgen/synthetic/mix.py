"""Mixes several synthetic sets to one, with the privacy statement of all of them together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from dpgen.data.export import check_empty, check_space, write_images
from dpgen.data.sources import open_source
from dpgen.images.images import Images, to_float
from dpgen.privacy.statements.certificate import (
    LARGEST_STATEMENT,
    CertificateError,
    read_statement,
    statement_bytes,
    tree_hash,
)
from dpgen.privacy.statements.mixture import account_of, mixed
from dpgen.privacy.verification.verify import reading, verify
from dpgen.progress import progress_bar
from dpgen.release.cards import cards_of
from dpgen.synthetic.labels import labels_checks, mixed_fair

BLOCK = 256  # images that are held in memory at once


def mix(
    sets: Sequence[Path],
    out: Path,
    *,
    layout: str = "folder",
    disjoint: bool = False,
    show: bool = False,
) -> dict[str, Any]:
    """Writes all images of ``sets`` to ``out``, in their order, with the pages that are made from
    their joint statement, and returns the statement.

    Args:
        sets: at least two synthetic sets whose statements hold, of one shape and with one list of
            classes.
        out: the folder to make; absent or empty.
        layout: format of the files, one of `dpgen.data.formats.table.written()`.
        disjoint: declares that no record, or person, is in two of the data sets behind them.

    Raises:
        CertificateError: one of the sets does not hold.
    """
    if len(sets) < 2:
        raise ValueError(f"a mixture must have at least 2 sets, got {len(sets)}")
    check_empty(out)
    parts = [_statement(path) for path in sets]
    if len({part["sha256"] for part in parts}) != len(parts):
        raise ValueError("the sets must differ: one is named twice")
    account_of(parts, disjoint=disjoint)  # refuses sets that cannot be mixed, before any is read
    sources = [open_source(path) for path in sets]
    first = sources[0]
    for path, source in zip(sets, sources, strict=True):
        for name in ("shape", "class_names"):
            if getattr(source, name) != getattr(first, name):
                raise ValueError(
                    f"the sets must have one {name}: {sets[0]} has {getattr(first, name)}, "
                    f"{path} {getattr(source, name)}"
                )
    n_images = sum(map(len, sources))
    check_space(out, layout, n_images, first.shape)
    statement: dict[str, Any] = {}

    def certificate(folder: Path) -> dict[str, Any]:
        synthetic = {
            "samples": n_images, "sizes": [len(s) for s in sources], "format": layout,
            **mixed_fair(parts),
        }  # fmt: skip
        files = tree_hash(folder)
        statement.update(mixed(parts, disjoint=disjoint, files=files, synthetic=synthetic))
        if len(statement_bytes(statement)) > LARGEST_STATEMENT:
            raise ValueError(
                f"a mixture must have fewer sets, {len(parts)} make a statement of more than "
                f"{LARGEST_STATEMENT} bytes"
            )
        return statement

    n_blocks = sum(-(-len(source) // BLOCK) for source in sources)
    with progress_bar("mixing", n_blocks, show=show) as advance:

        def blocks() -> Iterator[Images]:
            for source in sources:
                for start in range(0, len(source), BLOCK):
                    chosen = range(start, min(start + BLOCK, len(source)))
                    pixels, labels = source.read(chosen)
                    yield Images(to_float(pixels), labels)
                    advance()

        write_images(
            blocks(),
            out,
            format=layout,
            n_images=n_images,
            class_names=first.class_names,
            certificate=certificate,
            pages_fn=cards_of,
        )
    return statement


def _statement(path: Path) -> dict[str, Any]:
    """Reads the statement of a set. Raises CertificateError if it does not hold."""
    statement = read_statement(path)
    checks = [*verify(path), *labels_checks(path)]
    failed = [check.name for check in checks if check.failed]
    if failed:
        raise CertificateError(f"{path} does not hold ({', '.join(failed)}): it is not mixed")
    with reading(path):
        if statement["artifact"]["kind"] != "synthetic_dataset":
            raise CertificateError(f"{path} is no synthetic set: draw one from it first")
    return statement
