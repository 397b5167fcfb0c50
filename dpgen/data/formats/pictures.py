"""Pictures, PNG and JPEG: decoding that never guesses, encoding, public resizing."""

from __future__ import annotations

import io
import re
import struct
import warnings
import zlib

import numpy as np
from PIL import Image, ImageOps

from dpgen.storage.files import refuse_bomb

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
JPEG_MAGIC = b"\xff\xd8\xff"
CHANNELS = {
    "1": "L",
    "L": "L",
    "P": "RGB",
    "RGB": "RGB",
}  # file mode to record mode, all without loss

LARGEST_FILE = 2**27  # bytes of an encoded picture
MOST_SCANS = 32  # of a progressive JPEG, each of which decodes the whole picture anew; usual are 10

_MARKER = re.compile(rb"\xff[\x01-\xfe]")
SCAN, END_OF_PICTURE = 0xDA, 0xD9

_UNREADABLE = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    EOFError,
    OverflowError,
    struct.error,
    zlib.error,
)


def decode_picture(data: bytes, name: str) -> np.ndarray:
    """Decodes one PNG or JPEG file to uint8 (H, W, C), C 1 or 3, rotated as its EXIF says.

    Guarantees: alpha, 16 bits, animation, CMYK, truncation, damage that a checksum shows, pictures
    above Pillow's pixel limit, and a few bytes that announce many megabytes or many scans are
    errors that name the file.

    Args:
        data: the bytes of the file.
        name: the words that name it in a message.
    """
    if data.startswith(PNG_MAGIC):
        _check_png(data, name)
    elif not data.startswith(JPEG_MAGIC):
        what = "an empty file" if not data else f"bytes that begin {data[:8].hex(' ')}"
        raise ValueError(f"{name} must be a PNG or JPEG picture, got {what}: convert or remove it")
    elif _n_scans(data) > MOST_SCANS:
        raise ValueError(f"{name} must have at most {MOST_SCANS} scans: save it as baseline JPEG")
    picture = _opened(data, name)
    unpacked = picture.width * picture.height * len(picture.getbands())
    refuse_bomb(unpacked, len(data), name, "make it smaller")
    if picture.mode not in CHANNELS:
        raise ValueError(f"{name} must be grey or RGB, got mode {picture.mode}: convert it to RGB")
    try:
        with picture:
            channels = CHANNELS[picture.mode]
            picture.load()
            return as_array(ImageOps.exif_transpose(picture).convert(channels))
    except _UNREADABLE as error:
        raise ValueError(f"{name} is damaged or truncated: {error}") from error


def _opened(data: bytes, name: str) -> Image.Image:
    """The picture with its header read and no pixel decoded."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            return Image.open(io.BytesIO(data), formats=("PNG", "JPEG"))
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise ValueError(
            f"{name} must have at most {Image.MAX_IMAGE_PIXELS} pixels: make it smaller ({error})"
        ) from error
    except _UNREADABLE as error:
        raise ValueError(f"{name} is damaged or truncated: {error}") from error


def encode_png(pixels: np.ndarray) -> bytes:
    """Encodes uint8 (H, W, C) as PNG, without loss."""
    buffer = io.BytesIO()
    as_picture(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


def png_bytes(raw: int) -> int:
    """The most bytes of a PNG of ``raw`` bytes of pixels.

    Noise does not shrink: PNG adds filter bytes, chunks and zlib's own.
    """
    return raw + raw // 100 + 256


def fit_picture(pixels: np.ndarray, size: int | None, channels: int | None) -> np.ndarray:
    """Brings one record to the public shape; returns the same array when nothing is to do.

    First the channels (grey by the ITU-R 601 weights, RGB by repetition), then the short side to
    ``size`` by antialiased bicubic interpolation, then the centre square.

    Args:
        pixels: uint8 (H, W, C).
        size: side of the square, in pixels; None keeps height and width.
        channels: 1 or 3; None keeps them.
    """
    height, width, depth = pixels.shape
    recolour = channels is not None and channels != depth
    resize = size is not None and (height, width) != (size, size)
    if not (recolour or resize):
        return pixels
    picture = as_picture(pixels)
    if recolour:
        picture = picture.convert("L" if channels == 1 else "RGB")
    if resize:
        scale = size / min(width, height)
        width, height = max(size, round(width * scale)), max(size, round(height * scale))
        picture = picture.resize((width, height), Image.Resampling.BICUBIC)
        left, top = (width - size) // 2, (height - size) // 2
        picture = picture.crop((left, top, left + size, top + size))
    return as_array(picture)


def as_picture(pixels: np.ndarray) -> Image.Image:
    """uint8 (H, W, C) as a Pillow image, mode L or RGB."""
    return Image.fromarray(
        np.ascontiguousarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    )


def as_array(picture: Image.Image) -> np.ndarray:
    """A Pillow image of mode L or RGB as uint8 (H, W, C)."""
    array = np.array(picture)
    return array[..., None] if array.ndim == 2 else array


def _n_scans(data: bytes) -> int:
    """Scans of a JPEG up to its end; what a camera puts in a segment, or behind the end, is none.

    Reads markers as libjpeg does: a segment is skipped by its length, anything else by search. Of
    markers that it stops at or skips over, none hides what follows.
    """
    n, place = 0, 2
    while n <= MOST_SCANS and (found := _MARKER.search(data, place)):
        kind, place = data[found.end() - 1], found.end()
        if kind == END_OF_PICTURE:
            break
        if kind >= 0xC0 and not 0xD0 <= kind <= 0xD8:
            n += kind == SCAN
            place += max(2, int.from_bytes(data[place : place + 2]))
    return n


def _check_png(data: bytes, name: str) -> None:
    """Walks the chunks: Pillow cuts 16-bit RGB to 8 bits in silence and skips pixel checksums."""
    position, ended = len(PNG_MAGIC), False
    while not ended:
        head = data[position : position + 8]
        length, kind = struct.unpack(">I4s", head) if len(head) == 8 else (0, b"")
        body = data[position + 8 : position + 8 + length]
        check = data[position + 8 + length : position + 12 + length]
        if len(check) < 4:
            raise ValueError(
                f"{name} is truncated: its PNG chunks promise more than its {len(data)} bytes"
            )
        if zlib.crc32(kind + body) != int.from_bytes(check):
            raise ValueError(f"{name} is damaged: PNG chunk {kind!r} has a wrong checksum")
        if kind == b"IHDR" and length == 13:
            if body[8] == 16:
                raise ValueError(
                    f"{name} has 16 bits per channel, records have 8: convert it to 8 bits"
                )
            if body[9] in (4, 6):
                raise ValueError(
                    f"{name} has an alpha channel, records have none: flatten it to RGB"
                )
        if kind == b"tRNS":
            raise ValueError(f"{name} has transparent pixels, records have none: flatten it to RGB")
        if kind == b"acTL":
            raise ValueError(f"{name} is animated, a record is one picture: keep one frame")
        position += 12 + length
        ended = kind == b"IEND"
