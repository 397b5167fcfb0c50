"""Samples of every method at every epsilon, embedded in the page."""

from __future__ import annotations

import base64
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from dpgen.report.markup import Markup, element, together
from dpgen.report.results import Results
from dpgen.report.tables import seeds
from dpgen.storage.files import read_bytes

__all__ = ["Picture", "Reader", "gallery", "picture"]

LARGEST_FILE = 2**24  # bytes of a picture
PNG = b"\x89PNG\r\n\x1a\n"
Reader = Callable[[str], bytes]


class Picture(NamedTuple):
    """A PNG as an address, its size in pixels, and the seed of its cell."""

    uri: str
    width: int
    height: int
    seed: int


def gallery(results: Results, reader: Reader | Path | None) -> Markup:
    """Shows samples of the first finished seed: methods side by side at each epsilon, a class per
    row.
    """
    names = [str(name) for name in results.data.get("class_names") or ()]
    rows = f"; rows are the classes {', '.join(names)}" if len(names) > 1 else ""
    parts = []
    for i, epsilon in enumerate(results.epsilons):
        cells = []
        for j, label in enumerate(results.methods):
            shown, name = picture(results, label, epsilon, reader), f"{i}-{j}"
            inside = (
                _figure(label, epsilon, shown, rows, name)
                if isinstance(shown, Picture)
                else element("p", element("b", label), f": {shown}", class_="none")
            )
            cells.append(element("div", inside, class_="cell", id=f"place-{name}"))
        parts.append(element("h3", f"epsilon {epsilon:g}"))
        parts.append(element("div", *cells, class_="grids"))
    return together(*parts)


def picture(
    results: Results, label: str, epsilon: float, reader: Reader | Path | None
) -> Picture | str:
    """Returns the grid of the first finished seed that has one, or why there is none."""
    shown = next((o for o in results.done(label, epsilon) if o.grid is not None), None)
    if shown is None or shown.grid is None:
        return f"no picture; seeds done: {seeds(results, label, epsilon)}"
    try:
        png = _read(shown.grid, reader)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        return f"the picture {shown.grid} cannot be read: {reason}"
    uri = f"data:image/png;base64,{base64.b64encode(png).decode()}"
    width, height = struct.unpack(">II", png[16:24])
    return Picture(uri, width, height, shown.seed)


def _figure(label: str, epsilon: float, shown: Picture, rows: str, name: str) -> Markup:
    """Makes a picture that fills the window while its own address is open."""
    image = element(
        "img",
        src=shown.uri,
        alt=f"Synthetic images by {label} at epsilon {epsilon:g}, seed {shown.seed}{rows}",
        width=shown.width, height=shown.height, loading="lazy",
    )  # fmt: skip
    close = element("a", "close", href=f"#place-{name}", class_="close")
    return element(
        "figure",
        element("a", image, href=f"#picture-{name}", title="enlarge"),
        element("figcaption", element("b", label), f" seed {shown.seed} ", close),
        id=f"picture-{name}",
    )


def _read(name: str, reader: Reader | Path | None) -> bytes:
    """Reads a PNG file of the results, which must lie in their folder."""
    if reader is None:
        raise ValueError("no folder was given")
    if isinstance(reader, Path):
        path = Path(os.path.realpath(reader / name))
        if not path.is_relative_to(os.path.realpath(reader)):
            raise ValueError("it lies outside the results")
        png = read_bytes(path, LARGEST_FILE)
    else:
        png = reader(name)
    if not png.startswith(PNG) or len(png) < 24:
        raise ValueError("it is no PNG file")
    return png
