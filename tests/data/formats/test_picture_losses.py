"""Files of which Pillow reads a part, or something else, without a word."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from dpgen.data.formats.pictures import decode_picture

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (16, 16), np.uint8)
ROWS = b"".join(b"\0" + row.tobytes() for row in GREY)
Tags = list[tuple[int, str, tuple[int, ...]]]


def saved(kind: str, pixels: np.ndarray = GREY, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(packed: bytes, *more: tuple[bytes, bytes], colour: int = 0, interlaced: int = 0) -> bytes:
    """A PNG of 16x16 pixels with any compressed data, and more chunks before them."""
    header = struct.pack(">IIBBBBB", 16, 16, 8, colour, 0, 0, interlaced)
    chunks = [(b"IHDR", header), *more, (b"IDAT", packed), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*one) for one in chunks)


def tiff(data: bytes, bits: int = 8, sample_format: int = 1, tags: Tags | None = None) -> bytes:
    """A TIFF of 16x16 grey pixels, of which ``tags`` replace or add to those that it needs."""
    found = {
        256: ("H", (16,)), 257: ("H", (16,)), 258: ("H", (bits,)), 259: ("H", (1,)),
        262: ("H", (1,)), 273: ("I", (1000,)), 277: ("H", (1,)), 278: ("H", (16,)),
        279: ("I", (32 * bits,)), 339: ("H", (sample_format,)),
    }  # fmt: skip
    found.update({tag: (kind, values) for tag, kind, values in tags or []})
    entries, behind = b"", b""
    for tag, (kind, values) in sorted(found.items()):
        raw = struct.pack(f"<{len(values)}{kind}", *values)
        if len(raw) > 4:
            behind, raw = behind + raw, struct.pack("<I", 500 + len(behind))
        number = {"B": 2, "H": 3, "I": 4}[kind]
        entries += struct.pack("<HHI", tag, number, len(values)) + raw.ljust(4, b"\0")
    directory = struct.pack("<H", len(found)) + entries + bytes(4)
    return (b"II*\0" + struct.pack("<I", 8) + directory).ljust(500, b"\0") + (
        behind.ljust(500, b"\0") + data
    )


def described(text: str) -> Tags:
    return [(270, "B", tuple(text.encode() + b"\0"))]


def cut_tiff() -> bytes:
    """A TIFF in JPEG whose second half is zeros."""
    data = bytearray(saved("TIFF", RNG.integers(0, 256, (64, 64), np.uint8), compression="jpeg"))
    tags = Image.open(io.BytesIO(data)).tag_v2  # type: ignore[attr-defined]
    start, n_bytes = tags[273][0], tags[279][0]
    data[start + n_bytes // 2 : start + n_bytes] = bytes(n_bytes - n_bytes // 2)
    return bytes(data)


def test_the_made_files_are_read_where_nothing_is_wrong() -> None:
    for data in (png(zlib.compress(ROWS)), tiff(GREY.tobytes()), saved("TIFF", compression="jpeg")):
        decode_picture(data, "x")
    assert np.array_equal(decode_picture(png(zlib.compress(ROWS)), "x")[..., 0], GREY)
    assert np.array_equal(decode_picture(tiff(GREY.tobytes()), "x")[..., 0], GREY)


@pytest.mark.parametrize(("width", "height"), [(1, 1), (3, 5), (16, 16), (17, 2)])
@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_rows_of_interlaced_pictures_are_counted_pass_by_pass(
    width: int, height: int, bits: int
) -> None:
    n_bytes = 0
    for left, top, across, down in (
        (0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2),
        (0, 1, 1, 2),
    ):  # fmt: skip
        n_columns, n_rows = len(range(left, width, across)), len(range(top, height, down))
        n_bytes += n_rows * (1 + -(-n_columns * bits // 8)) if n_columns else 0
    header = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 1)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(n_bytes))), (b"IEND", b"")]
    data = b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*one) for one in chunks)
    assert decode_picture(data, "x").shape == (height, width, 1)
    assert not decode_picture(data, "x").any()


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (png(zlib.compress(ROWS[: 8 * 17])), "must be 272 bytes of rows and a checksum, got 136"),
        (png(zlib.compress(ROWS + ROWS[:17])), "must be 272 bytes .* got more"),
        (png(zlib.compress(ROWS)[:-4]), "got 272 and no end"),
        (png(zlib.compress(ROWS), colour=3), "its palette is missing"),
        (png(zlib.compress(ROWS), (b"PLTE", bytes(12)), colour=3), "its palette of 4 lacks"),
        (png(zlib.compress(ROWS), (b"CgBI", bytes(4))), "has the chunk b'CgBI'"),
        (png(zlib.compress(ROWS)) * 2, "must hold one picture, got another one, PNG, behind it"),
        (saved("BMP") * 2, "must hold one picture, got another one, BMP"),
        (saved("WEBP") * 2, "must hold one picture, got another one, WebP"),
        (b"P2 2 1 255\n1 2\nP2 2 1 255\n3 4\n", "6 numbers behind its pixels"),
        (b"P2\n#" + b"a" * 5000 + b"\n1 1 255\n1", "a header of at most 4096 bytes"),
        (b"P3 1 1 255\n1 2 3 4", "1 numbers behind its pixels"),
        (b"P1 2 1\n01 1", "1 numbers behind its pixels"),
        (tiff(GREY.tobytes(), sample_format=2), "has values of -128 to 127"),
        (tiff(GREY.tobytes(), tags=[(278, "H", (8,))]), "must lie in 2 parts, got 1"),
        (tiff(GREY.tobytes(), tags=[(32997, "I", (5,))]), "has several pages"),
        (tiff(bytes(1280), tags=described("ImageJ=1.5\nimages=5\nslices=5\n")), "several pages"),
        (tiff(bytes(1280), tags=described('{"shape": [5, 16, 16]}')), "has several pages"),
        (tiff(GREY.tobytes(), bits=64, sample_format=3), "of a kind that is not read"),
        (cut_tiff(), "damaged or truncated TIFF: its end marker is missing"),
    ],
)
def test_what_pillow_would_pass_over_is_refused(data: bytes, match: str) -> None:
    with pytest.raises(ValueError, match=f"x .*{match}") as told:
        decode_picture(data, "x")
    assert "0x" not in str(told.value)  # the address of an object is no help


def test_a_tiff_may_say_that_it_is_one_picture() -> None:
    for text in ('{"shape": [16, 16]}', "ImageJ=1.5\nimages=1\n", "a microscope"):
        found = decode_picture(tiff(GREY.tobytes(), tags=described(text)), "x")
        assert np.array_equal(found[..., 0], GREY)


def test_the_upper_half_of_32_bits_without_a_sign_is_bright() -> None:
    values = np.zeros((16, 16), np.uint32)
    values[0] = 2**32 - 1
    found = decode_picture(tiff(values.tobytes(), bits=32), "x", (0, 2**32 - 1))
    assert found[0].min() == 255 and not found[1:].any()
    signed = decode_picture(tiff(values.tobytes(), bits=32, sample_format=2), "x", (-1, 1))
    assert not signed[0].any() and signed[1:].min() == 128
