"""PNG files: their chunks and their rows, which Pillow does not check."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

from dpgen.data.formats.damage import Damaged

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
GREY, PALETTE = 0, 3  # colour types: without colours and alpha; of numbers in a palette
_CRITICAL = {b"IHDR", b"PLTE", b"IDAT", b"IEND"}  # no other must be passed over: PNG 1.2, 3.3
_SAMPLES = {GREY: 1, 2: 3, PALETTE: 1, 4: 2, 6: 4}  # of a pixel, by colour type
_ADAM7 = (  # of the seven pictures of an interlaced one: first column and row, and their steps
    (0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2),
    (0, 1, 1, 2),
)  # fmt: skip
PIECE = 2**20  # bytes that are unpacked at once


def check_png(data: bytes, name: str) -> None:
    """Checks the chunks, because Pillow silently cuts 16-bit RGB to 8 bits and skips checksums.

    Raises Damaged, and ValueError for a picture that cannot be a record: with alpha, animation, or
    16 bits in colour, or of chunks that only the program that wrote it can read.
    """
    kinds = set()
    for kind, body in _chunks(data):
        kinds.add(kind)
        if kind == b"IHDR" and len(body) == 13:
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
        if not kind[:1].islower() and kind not in _CRITICAL:
            raise ValueError(
                f"{name} has the chunk {kind!r}, without which its pixels mean something else, and "
                "which is not read: save it anew as a plain PNG"
            )
        if kind == b"IDAT" and _header(data)[3] == PALETTE and b"PLTE" not in kinds:
            raise Damaged("its palette is missing")


def require_rows(data: bytes) -> None:
    """Refuses a PNG whose compressed data are not exactly its rows: Pillow leaves those that are
    missing black, and passes over what is too much.
    """
    promised, n_bytes = _unpacked_bytes(data), 0
    unpacked = zlib.decompressobj()
    for kind, body in _chunks(data):
        while kind == b"IDAT" and body and not unpacked.eof:
            n_bytes += len(unpacked.decompress(body, PIECE))
            body = unpacked.unconsumed_tail
            if n_bytes > promised:
                break
    n_bytes += len(unpacked.flush()) if n_bytes <= promised else 0
    if n_bytes != promised or not unpacked.eof:
        raise Damaged(
            f"its compressed data must be {promised} bytes of rows and a checksum, got "
            f"{'more' if n_bytes > promised else n_bytes}{'' if unpacked.eof else ' and no end'}"
        )


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yields kind and content of each chunk, up to the end of the picture. Raises Damaged for a cut
    chunk and a wrong checksum.
    """
    position, kind = len(PNG_MAGIC), b""
    while kind != b"IEND":
        head = data[position : position + 8]
        length, kind = struct.unpack(">I4s", head) if len(head) == 8 else (0, b"")
        body = data[position + 8 : position + 8 + length]
        check = data[position + 8 + length : position + 12 + length]
        if len(check) < 4:
            raise Damaged(f"its chunks promise more than its {len(data)} bytes")
        if zlib.crc32(kind + body) != int.from_bytes(check):
            raise Damaged(f"its chunk {kind!r} has a wrong checksum")
        yield kind, body
        position += 12 + length


def _header(data: bytes) -> tuple[int, int, int, int, int]:
    """Returns width, height, bits of a sample, colour type and whether it is interlaced."""
    start = len(PNG_MAGIC) + 8
    if data[start - 8 : start] != b"\0\0\0\x0dIHDR":
        raise Damaged("it does not begin with its header, IHDR")
    width, height, bits, colour, _, _, interlaced = struct.unpack(
        ">IIBBBBB", data[start : start + 13]
    )
    return width, height, bits, colour, interlaced


def _unpacked_bytes(data: bytes) -> int:
    """Returns the number of bytes of all rows, each behind the number of its filter."""
    width, height, bits, colour, interlaced = _header(data)
    n_bits = bits * _SAMPLES[colour]
    total = 0
    for left, top, across, down in _ADAM7 if interlaced else ((0, 0, 1, 1),):
        columns, rows = -(-(width - left) // across), -(-(height - top) // down)
        total += rows * (1 + -(-columns * n_bits // 8)) if columns > 0 < rows else 0
    return total
