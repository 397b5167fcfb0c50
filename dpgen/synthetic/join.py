"""Joins the parts of a synthetic set to the set, with one statement and its pages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from dpgen.data.export import check_empty, check_space
from dpgen.data.sources import open_source
from dpgen.generator.drawing import Redraws, block_size, n_blocks
from dpgen.images.images import Images, to_float
from dpgen.progress import progress_bar
from dpgen.synthetic.certified import stated, write_certified
from dpgen.synthetic.part import Part, read_part


def join(folders: Sequence[Path], out: Path, *, show: bool = False) -> dict[str, Any]:
    """Writes the set of all parts to ``out`` and returns its privacy statement.

    The set is that of one command without parts, byte for byte, but for the time in its statement
    and what follows from it: the digest, and the pages' copies of both. The statement is the
    model's: joining costs nothing.

    Args:
        folders: all parts of one set, in any order.
        out: the folder to make; absent or empty.
        show: whether to show a progress bar.

    Raises:
        ValueError: a part was changed, is missing, is there twice or is of another set.
    """
    check_empty(out)
    parts = _in_order([read_part(folder) for folder in folders])
    whole = parts[0].whole
    n_images, size = int(whole.synthetic["samples"]), block_size(whole.shape)
    check_space(out, whole.synthetic["format"], n_images, whole.shape)
    stated(whole.document, {}, whole.synthetic, parts[0].folder)
    synthetic, redraws = dict(whole.synthetic), Redraws()
    for part in parts:
        redraws.add(part.redraws)
    if synthetic["filters"] != "none":
        synthetic["redraws"] = redraws.told

    with progress_bar("joining", n_blocks(n_images, whole.shape), show=show) as advance:

        def blocks() -> Iterator[Images]:
            for path in (part.folder / name for part in parts for name in part.files):
                source = open_source(path)  # one file at a time: memory does not grow with the set
                for start in range(0, len(source), size):
                    pixels, labels = source.read(range(start, min(start + size, len(source))))
                    yield Images(to_float(pixels), labels)
                    advance()

        return write_certified(
            blocks(), out, whole.document, synthetic, whole.class_names, parts[0].folder
        )


def _in_order(parts: Sequence[Part]) -> list[Part]:
    """Returns the parts by number. Raises ValueError unless they are all parts of one set."""
    first = parts[0]
    for part in parts:
        other = first.whole.difference(part.whole)
        if other is not None or part.share.of != first.share.of:
            what = other or f"number of parts ({first.share.of} and {part.share.of})"
            raise ValueError(
                f"the parts must be of one set: {first.folder} and {part.folder} differ in {what}"
            )
    found: dict[int, Part] = {}
    for part in parts:
        twice = found.setdefault(part.share.index, part)
        if twice is not part:
            raise ValueError(
                f"part {part.share.index} of {part.share.of} must be named once, got "
                f"{twice.folder} and {part.folder}"
            )
    missing = [str(i) for i in range(1, first.share.of + 1) if i not in found]
    if missing:
        raise ValueError(
            f"all {first.share.of} parts must be named, missing: {', '.join(missing)} (draw it "
            f"with --shard {missing[0]}/{first.share.of})"
        )
    return [found[i] for i in sorted(found)]
