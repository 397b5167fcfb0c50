"""Refuses TIFF files that Pillow would read with a silent loss."""

from __future__ import annotations

from PIL import Image

from dpgen.data.formats.damage import UNREADABLE, Damaged

BITS, PHOTOMETRIC, EXTRA_SAMPLES = 258, 262, 338  # tags
WHITE_IS_ZERO = 0


def check_tiff(picture: Image.Image, name: str) -> None:
    """Refuses colours of more than 8 bits, which Pillow cuts; further channels, which it drops;
    inverted grey of more than 8 bits, which it leaves inverted; and a second page.

    Args:
        picture: opened, not loaded.
        name: its name in an error message.
    """
    try:
        tags = picture.tag_v2  # type: ignore[attr-defined]  # of TIFF alone
        bits, further, white = tags.get(BITS, (1,)), tags.get(EXTRA_SAMPLES), tags.get(PHOTOMETRIC)
        deepest = max(bits if isinstance(bits, tuple) else (bits,))
        deep = deepest > 8
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
    if _has_second_page(picture):
        raise ValueError(f"{name} has several pages, a record is one picture: save each as a file")


def _has_second_page(picture: Image.Image) -> bool:
    try:
        picture.seek(1)
    except EOFError:
        picture.seek(0)
        return False
    except UNREADABLE as error:
        raise Damaged(str(error)) from error
    return True
