"""Refuses TIFF files that Pillow would read with a silent loss."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from PIL import Image

from dpgen.data.formats.damage import UNREADABLE, Damaged

BITS, COMPRESSION, PHOTOMETRIC, DESCRIPTION = 258, 259, 262, 270  # tags
STRIPS, SAMPLES, ROWS, STRIP_BYTES, PLANES = 273, 277, 278, 279, 284
TILE_WIDTH, TILE_HEIGHT, TILES, TILE_BYTES = 322, 323, 324, 325
EXTRA_SAMPLES, SAMPLE_FORMAT, JPEG_TABLES, DEPTH = 338, 339, 347, 32997
WHITE_IS_ZERO = 0
UNSIGNED, SIGNED = 1, 2  # sample formats
JPEG = 7  # compression
APART = 2  # planes, each channel in strips of its own
# What ImageJ and tifffile write of a stack whose pages stand behind one directory.
_STACK = re.compile(
    r"(?s)ImageJ=.*?^images=(?P<images>\d+)|\{\"shape\": \[(?P<shape>[\d, ]+)\]", re.MULTILINE
)


def check_tiff(picture: Image.Image, name: str) -> None:
    """Refuses colours of more than 8 bits, which Pillow cuts; further channels, which it drops;
    inverted grey of more than 8 bits, which it leaves inverted; numbers of 8 bits with a sign,
    which it takes for some without; missing strips, which it leaves black; and a second page.

    Args:
        picture: opened, not loaded.
        name: its name in an error message.
    """
    try:
        tags = picture.tag_v2  # type: ignore[attr-defined]  # of TIFF alone
        bits, further, white = tags.get(BITS, (1,)), tags.get(EXTRA_SAMPLES), tags.get(PHOTOMETRIC)
        deepest = max(bits if isinstance(bits, tuple) else (bits,))
        deep, n_pages = deepest > 8, _n_pages(tags, picture.size)
        signed = SIGNED in tags.get(SAMPLE_FORMAT, (UNSIGNED,))
        _require_parts(tags, picture.size)
    except Damaged:
        raise
    except UNREADABLE as error:
        raise Damaged(str(error)) from error
    if deep and len(picture.getbands()) > 1:
        raise ValueError(
            f"{name} has colours of {deepest} bits per channel, records have 8: convert it to 8 "
            "bits"
        )
    if further:
        raise ValueError(
            f"{name} has an alpha or another further channel, records have none: flatten it to RGB"
        )
    if deep and white == WHITE_IS_ZERO:
        raise ValueError(
            f"{name} has 0 for white and {deepest} bits per pixel: invert it, so that 0 is black"
        )
    if signed and not deep:
        raise ValueError(
            f"{name} has values of -128 to 127, records have 0 to 255: convert it to unsigned 8 "
            "bits, or to 16 bits for --value-range"
        )
    if n_pages > 1 or _has_second_page(picture):
        raise ValueError(f"{name} has several pages, a record is one picture: save each as a file")


def stored_values(picture: Image.Image, values: np.ndarray) -> np.ndarray:
    """Returns the values as a picture's file has them: Pillow gives the upper half of unsigned 32
    bits as negative numbers.

    Args:
        picture: of any format.
        values: its pixels of more than 8 bits, (H, W).
    """
    tags = getattr(picture, "tag_v2", None)
    if tags is None or values.dtype != np.int32 or 32 not in tags.get(BITS, ()):
        return values
    signed = SIGNED in tags.get(SAMPLE_FORMAT, (UNSIGNED,))
    return values if signed else values.view(np.uint32)


def jpeg_parts(picture: Image.Image, data: bytes) -> list[bytes]:
    """Returns the JPEG files of which a TIFF is made, with the tables that they share; none where
    it is compressed otherwise.

    Args:
        picture: opened.
        data: its file.
    """
    tags = getattr(picture, "tag_v2", {})
    if tags.get(COMPRESSION) != JPEG:
        return []
    tables = tags.get(JPEG_TABLES, b"")
    kinds = (TILES, TILE_BYTES) if TILES in tags else (STRIPS, STRIP_BYTES)
    parts = []
    for start, n_bytes in zip(*(tags[kind] for kind in kinds), strict=True):
        part = data[start : start + n_bytes]
        parts.append(tables[:-2] + part[2:] if tables else part)  # one start, no end between them
    return parts


def _n_pages(tags: Any, size: tuple[int, int]) -> int:  # noqa: ANN401  of Pillow
    """Returns how many pictures the tags promise: behind one another, or in depth."""
    found = _STACK.match(str(tags.get(DESCRIPTION, "")))
    n_pages = int(tags.get(DEPTH, 1))
    if found is None:
        return n_pages
    if found["images"]:
        return max(n_pages, int(found["images"]))
    shape = [int(word) for word in found["shape"].split(",") if word.strip()]
    n_values = size[0] * size[1] * int(tags.get(SAMPLES, 1))
    return max(n_pages, int(np.prod(shape, dtype=np.float64)) // n_values)


def _require_parts(tags: Any, size: tuple[int, int]) -> None:  # noqa: ANN401  of Pillow
    """Raises Damaged unless there are as many strips or tiles as cover the picture."""
    width, height = size
    planes = int(tags.get(SAMPLES, 1)) if tags.get(PLANES) == APART else 1
    if TILES in tags:
        across, down = -(-width // tags[TILE_WIDTH]), -(-height // tags[TILE_HEIGHT])
        n_parts, found = across * down * planes, tags[TILES]
    else:
        n_parts, found = -(-height // min(height, tags.get(ROWS, height))) * planes, tags[STRIPS]
    if len(found) != n_parts:
        raise Damaged(f"its pixels must lie in {n_parts} parts, got {len(found)}")


def _has_second_page(picture: Image.Image) -> bool:
    try:
        picture.seek(1)
    except EOFError:
        picture.seek(0)
        return False
    except UNREADABLE as error:
        raise Damaged(str(error)) from error
    return True
