"""Pictures: decoding that never guesses, encoding, public resizing."""

from __future__ import annotations

import io
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from dpgen.data.formats.damage import UNREADABLE, Damaged
from dpgen.data.formats.foreign import foreign_file, left_over
from dpgen.data.formats.jpeg import MOST_SCANS, count_scans, require_whole, unread_process
from dpgen.data.formats.picture_files import READ, picture_format, unread_picture
from dpgen.data.formats.png import check_png, require_rows
from dpgen.data.formats.pnm import check_pnm
from dpgen.data.formats.tiff import check_tiff, jpeg_parts, stored_values
from dpgen.data.formats.trailer import refuse_second
from dpgen.data.formats.window import ValueRange, declared, refuse_window, windowed
from dpgen.storage.files import read_bytes, refuse_bomb

CHANNELS = {
    "1": "L",
    "L": "L",
    "P": "RGB",
    "RGB": "RGB",
}  # file mode to record mode, all without loss
DEEP = {"I;16", "I;16L", "I;16B", "I;16N", "I", "F"}  # modes of one channel of more than 8 bits
PILLOW = {"PNM": "PPM", "WebP": "WEBP"}  # its own names, where they differ

LARGEST_FILE = 2**27  # bytes of an encoded picture
MOST_PIXELS = 2**26  # of a picture on its way to --size, before the crop


def decode_picture(data: bytes, name: str, value_range: ValueRange = None) -> np.ndarray:
    """Decodes one picture file to uint8 (H, W, C), C 1 or 3, rotated as its EXIF says.

    PNG, JPEG, BMP, WebP, GIF, TIFF, PGM and PPM, and DICOM, which `dpgen.data.formats.dicom`
    explains.

    Guarantees: alpha, colours of 16 bits, an animation, several pages, a second picture behind one
    that is no JPEG, CMYK, truncation, damage that a checksum or the compressed data show, pictures
    above Pillow's pixel limit, and a few bytes that announce many megabytes or many scans are
    errors that name the file. Not noticed: a WebP, a GIF or a TIFF in LZW or PackBits of full
    length with other bytes in its middle, and changed pixels of a BMP, PNM or uncompressed TIFF.
    These formats have no checksum, nearly every sequence of bytes decodes to some picture, and long
    tails of zeros occur in whole WebP files, too.

    Args:
        data: the bytes of the file.
        name: the words that name it in a message.
        value_range: (low, high), the values of black and white in a grey picture of more than 8
            bits, which is refused without; beyond them it is black or white. A picture of 8 bits
            is refused with one.
    """
    head = data[:512]
    found = picture_format("", head)  # a record's name may have dots and no suffix
    if found is None:
        foreign = foreign_file("", head)
        if foreign is not None:
            raise ValueError(f"{name} {foreign}")
        what = "an empty file" if not data else f"bytes that begin {data[:8].hex(' ')}"
        raise ValueError(
            f"{name} must be a picture that is read ({', '.join(READ)}), got {what}: convert or "
            "remove it"
        )
    if not found.is_read:
        raise ValueError(f"{name} {unread_picture('', head)}")
    if found.name == "DICOM":
        from dpgen.data.formats.dicom import decode_dicom

        return decode_dicom(data, name, value_range, lambda frame: decode_picture(frame, name))
    try:
        _check_content(data, found.name, name)
        return _decoded(data, found.name, name, value_range)
    except Damaged as error:
        raise ValueError(f"{name} is damaged or truncated {found.name}: {error}") from error


def decode_picture_file(path: Path, value_range: ValueRange = None) -> np.ndarray:
    """Decodes a file as `decode_picture` does; one whose name says a format that is not read is
    refused, whatever its content passes for.
    """
    data = read_bytes(path, LARGEST_FILE)
    wrong = unread_picture(path.name, data[:512]) or left_over(path.name)
    if wrong is not None:
        raise ValueError(f"{path} {wrong}")
    return decode_picture(data, str(path), value_range)


def _check_content(data: bytes, kind: str, name: str) -> None:
    """Refuses what Pillow reads without a word and a record cannot hold."""
    if kind == "PNG":
        check_png(data, name)
    elif kind == "JPEG":
        if count_scans(data) > MOST_SCANS:
            raise ValueError(
                f"{name} must have at most {MOST_SCANS} scans: save it as baseline JPEG"
            )
        process = unread_process(data)
        if process is not None:
            raise ValueError(f"{name} is {process} JPEG: save it as baseline JPEG")
    elif kind == "WebP" and int.from_bytes(data[4:8], "little") + 8 > len(data):
        raise Damaged(f"its header promises more than its {len(data)} bytes")


def _decoded(data: bytes, kind: str, name: str, value_range: ValueRange) -> np.ndarray:
    picture = _opened(data, kind, name)
    unpacked = picture.width * picture.height * len(picture.getbands())
    refuse_bomb(unpacked, len(data), name, "make it smaller")
    if kind == "TIFF":
        check_tiff(picture, name)
    if kind in ("WebP", "GIF") and getattr(picture, "is_animated", False):
        raise ValueError(f"{name} is animated, a record is one picture: keep one frame")
    if kind == "PNM":
        check_pnm(data, picture, name)
    refuse_second(data, kind, name)
    if "transparency" in picture.info:
        raise ValueError(f"{name} has transparent pixels, records have none: flatten it to RGB")
    deep = picture.mode in DEEP
    if deep:
        bits = {"I": "whole numbers of up to 32", "F": "floats of 32"}.get(picture.mode, "16")
        window = declared(value_range, name, f"{bits} bits per pixel")
    elif picture.mode not in CHANNELS:
        raise ValueError(f"{name} must be grey or RGB, got mode {picture.mode}: convert it to RGB")
    else:
        refuse_window(value_range, name)
    try:
        if kind == "JPEG":
            require_whole(data, _jpeg_pixels)
        elif kind == "PNG":
            require_rows(data)
        for part in jpeg_parts(picture, data):
            require_whole(part, _jpeg_pixels)
        with picture, _nothing_painted_over():
            mode = picture.mode  # a GIF may have another one once it is loaded
            n_colours = _n_colours(picture)
            picture.load()
            if mode == "P" and np.asarray(picture).max() >= n_colours:
                raise Damaged(f"its pixels name a colour that its palette of {n_colours} lacks")
            turned = ImageOps.exif_transpose(picture)
            if not deep:
                return as_array(turned.convert(CHANNELS[mode]))
            values = stored_values(picture, np.array(turned))[..., None]
    except UNREADABLE as error:
        raise Damaged(str(error)) from error
    if not np.isfinite(values).all():
        raise ValueError(f"{name}: every pixel must be a finite number, got NaN or infinity")
    return windowed(values, window)


def _opened(data: bytes, kind: str, name: str) -> Image.Image:
    """Opens the picture, with its header read and no pixel decoded."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            if kind == "TIFF":  # Pillow goes on without the tag, and guesses what it would say
                warnings.filterwarnings("error", message="Tag data larger|Corrupt EXIF")
            return Image.open(io.BytesIO(data), formats=(PILLOW.get(kind, kind),))
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise ValueError(
            f"{name} must have at most {Image.MAX_IMAGE_PIXELS} pixels: make it smaller ({error})"
        ) from error
    except UnidentifiedImageError as error:
        raise Damaged(
            "its header makes no sense, or is of a kind that is not read, as of 64 bits a pixel: "
            "convert it to 8, 16 or 32 bits if other programs show it"
        ) from error
    except (*UNREADABLE, UserWarning) as error:
        raise Damaged(str(error)) from error


def _n_colours(picture: Image.Image) -> int:
    """Returns the number of colours in a picture's palette; 0 where it has none."""
    palette = picture.palette
    if picture.mode != "P" or palette is None:
        return 0
    bands = (palette.rawmode or palette.mode).partition(";")[0]
    return len(palette.palette) // len(bands)


def _jpeg_pixels(data: bytes) -> bytes:
    with _opened(data, "JPEG", "it") as picture, _nothing_painted_over():
        return picture.tobytes()


@contextmanager
def _nothing_painted_over() -> Iterator[None]:
    """Makes Pillow raise an error for a cut picture, whatever another package has told it."""
    before = ImageFile.LOAD_TRUNCATED_IMAGES
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    try:
        yield
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = before


def encode_png(pixels: np.ndarray) -> bytes:
    """Encodes uint8 (H, W, C) as PNG, without loss, compressed by run lengths alone: up to five
    times as fast as by default, and up to 7 % larger.
    """
    buffer = io.BytesIO()
    as_picture(pixels).save(buffer, format="PNG", compress_type=zlib.Z_RLE)
    return buffer.getvalue()


def png_bytes(raw: int) -> int:
    """Returns the most bytes of a PNG of ``raw`` bytes of pixels.

    Noise does not shrink: PNG adds filter bytes, chunks and zlib's own.
    """
    return raw + raw // 100 + 256


def fit_picture(
    pixels: np.ndarray, size: int | None, channels: int | None, name: str = "a picture"
) -> np.ndarray:
    """Brings one record to the public shape; returns the same array when nothing is to do.

    First the channels (grey by the ITU-R 601 weights, RGB by repetition), then the short side to
    ``size`` by antialiased bicubic interpolation, then the centre square.

    Args:
        pixels: uint8 (H, W, C).
        size: side of the square, in pixels; None keeps height and width.
        channels: 1 or 3; None keeps them.
        name: the words that name the record in a message.

    Raises:
        ValueError: the picture is so narrow, or ``size`` so large, that it would have more than
            2^26 pixels before the crop.
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
        before = f"{width}x{height}"
        width, height = max(size, round(width * scale)), max(size, round(height * scale))
        if width * height > MOST_PIXELS:
            raise ValueError(
                f"{name} is {before}, and {width}x{height} once its short side has --size {size} "
                f"pixels: more than {MOST_PIXELS} pixels, of which the centre square would keep "
                f"{size}x{size}; crop it, or take a smaller --size"
            )
        picture = picture.resize((width, height), Image.Resampling.BICUBIC)
        left, top = (width - size) // 2, (height - size) // 2
        picture = picture.crop((left, top, left + size, top + size))
    return as_array(picture)


def as_picture(pixels: np.ndarray) -> Image.Image:
    """Returns uint8 (H, W, C) as a Pillow image, mode L or RGB."""
    return Image.fromarray(
        np.ascontiguousarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    )


def as_array(picture: Image.Image) -> np.ndarray:
    """Returns a Pillow image of mode L or RGB as uint8 (H, W, C)."""
    array = np.array(picture)
    return array[..., None] if array.ndim == 2 else array
