"""PNG files: their chunks, which Pillow does not check."""

from __future__ import annotations

import struct
import zlib

from dpgen.data.formats.damage import Damaged

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
GREY = 0  # the colour type of a picture without colours and alpha


def check_png(data: bytes, name: str) -> None:
    """Checks the chunks, because Pillow silently cuts 16-bit RGB to 8 bits and skips checksums.

    Raises Damaged, and ValueError for a picture that cannot be a record: with alpha, animation, or
    16 bits in colour.
    """
    position, ended = len(PNG_MAGIC), False
    while not ended:
        head = data[position : position + 8]
        length, kind = struct.unpack(">I4s", head) if len(head) == 8 else (0, b"")
        body = data[position + 8 : position + 8 + length]
        check = data[position + 8 + length : position + 12 + length]
        if len(check) < 4:
            raise Damaged(f"its chunks promise more than its {len(data)} bytes")
        if zlib.crc32(kind + body) != int.from_bytes(check):
            raise Damaged(f"its chunk {kind!r} has a wrong checksum")
        if kind == b"IHDR" and length == 13:
            if body[9] in (4, 6):
                raise ValueError(
                    f"{name} has an alpha channel, records have none: flatten it to RGB"
                )
            if body[8] == 16 and body[9] != GREY:
                raise ValueError(
                    f"{name} has colours of 16 bits per channel, records have 8: convert it to 8 "
                    "bits"
                )
        if kind == b"tRNS":
            raise ValueError(f"{name} has transparent pixels, records have none: flatten it to RGB")
        if kind == b"acTL":
            raise ValueError(f"{name} is animated, a record is one picture: keep one frame")
        position += 12 + length
        ended = kind == b"IEND"
