"""PGM, PPM and PBM files: refuses what Pillow would rescale or pass over."""

from __future__ import annotations

import re

from PIL import Image

_COMMENT = re.compile(rb"#[^\r\n]*")
HEADER_BYTES = 4096
_ASCII = {b"P1", b"P2", b"P3"}  # numbers as text


def check_pnm(data: bytes, picture: Image.Image, name: str) -> None:
    """Refuses a white value that Pillow would rescale, and a second picture behind the first.

    Args:
        data: the file.
        picture: opened, not loaded.
        name: its name in an error message.
    """
    magic = data[:2]
    fields = _COMMENT.sub(b"", data[:HEADER_BYTES]).split(None, 4)
    bits = magic in (b"P1", b"P4")
    if len(fields) < (3 if bits else 4):
        raise ValueError(f"{name} must have a header of at most {HEADER_BYTES} bytes: save it anew")
    most = b"1" if bits else fields[3]
    if not bits and (most not in (b"255", b"65535") or (most != b"255" and picture.mode == "RGB")):
        raise ValueError(
            f"{name} must have 255 as its largest value, or 65535 if it is grey, got "
            f"{most.decode(errors='replace')}: convert it to PNG"
        )
    start = picture.tile[0].offset  # type: ignore[attr-defined]  # of pictures from files
    if magic in _ASCII:
        n_wanted = picture.width * picture.height * len(picture.getbands())
        n_behind, unit = _n_numbers(data[start:], bits) - n_wanted, "numbers"
    else:
        n_bytes = picture.width * len(picture.getbands()) * (2 if most == b"65535" else 1)
        n_bytes = picture.height * (-(-picture.width // 8) if bits else n_bytes)
        n_behind, unit = len(data) - start - n_bytes, "bytes"
    if n_behind > (0 if magic in _ASCII else 1):  # a line may end behind the pixels
        raise ValueError(
            f"{name} must hold one picture, got {n_behind} {unit} behind its pixels: save each "
            "picture as a file"
        )


def _n_numbers(text: bytes, bits: bool) -> int:
    """Counts the numbers in a text; of bits, which need no blanks between them, the digits."""
    plain = _COMMENT.sub(b"", text)
    if bits:
        return plain.count(b"0") + plain.count(b"1")
    return sum(1 for _ in re.finditer(rb"\S+", plain))
