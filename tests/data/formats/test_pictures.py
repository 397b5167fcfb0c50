from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from dpgen.data.formats.pictures import decode_picture, encode_png, fit_picture

RNG = np.random.default_rng(0)
NOISE = RNG.integers(0, 256, (40, 30, 3), np.uint8)


def saved(picture: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format=kind, **options)
    return buffer.getvalue()


def chunk(kind: bytes, body: bytes) -> bytes:
    check = zlib.crc32(kind + body)
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", check)


def deep_png(colour: int, channels: int) -> bytes:
    """A 2x2 PNG of 16 bits per channel, all zero."""
    header = struct.pack(">IIBBBBB", 2, 2, 16, colour, 0, 0, 0)
    rows = zlib.compress(bytes(2 * (1 + 2 * channels * 2)))
    parts = [chunk(b"IHDR", header), chunk(b"IDAT", rows), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def progressive(n_more: int) -> bytes:
    """A progressive JPEG whose last scan is repeated."""
    data = saved(Image.fromarray(NOISE), "JPEG", progressive=True)
    return data[:-2] + data[data.rindex(b"\xff\xda") : -2] * n_more + data[-2:]


def test_the_scans_of_a_progressive_picture_are_counted() -> None:
    own = progressive(0).count(b"\xff\xda")
    assert 1 < own < 32
    decode_picture(progressive(32 - own), "x")
    with pytest.raises(ValueError, match="x must have at most 32 scans: save it as baseline"):
        decode_picture(progressive(33 - own), "x")


@pytest.mark.parametrize("kind", [1, 0x42, 0xBF, 0xD0, 0xD8])
def test_no_marker_without_a_length_hides_scans(kind: int) -> None:
    """libjpeg stops at such a marker or searches on from it: never does it skip what follows."""
    start, _, end = saved(Image.fromarray(NOISE), "JPEG").partition(b"\xff\xda")
    hidden = bytes((0xFF, kind)) + b"\x40\0" + b"\xff\xda\0\2" * 33
    with pytest.raises(ValueError, match="at most 32 scans"):
        decode_picture(start + b"\xff\xda" + end[:60] + hidden + end[60:], "x")


def test_what_a_camera_keeps_beside_the_picture_is_no_scan() -> None:
    """A thumbnail in a segment, a film behind the end."""
    data = saved(Image.fromarray(NOISE), "JPEG")
    segment = b"\xff\xe5" + (2 + 400).to_bytes(2) + b"\xff\xda\0\2" * 100
    film = b"\xff\xda\0\2" * 1000
    expected = decode_picture(data, "x")
    assert np.array_equal(decode_picture(data[:2] + segment + data[2:] + film, "x"), expected)


@pytest.mark.parametrize("channels", [1, 3])
def test_png_keeps_every_pixel(channels: int) -> None:
    pixels = NOISE[..., :channels]
    assert np.array_equal(decode_picture(encode_png(pixels), "x"), pixels)


def test_palette_and_two_level_pictures_are_decoded_without_loss() -> None:
    palette = Image.fromarray(NOISE // 128 * 255).quantize(8)
    expected = np.asarray(palette.convert("RGB"))
    assert np.array_equal(decode_picture(saved(palette), "x"), expected)
    levels = Image.fromarray((NOISE[..., 0] > 127).astype(np.uint8) * 255).convert("1")
    assert np.array_equal(decode_picture(saved(levels), "x")[..., 0], np.asarray(levels) * 255)


def test_the_rotation_of_exif_is_applied() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: the picture is to be rotated by 90 degrees clockwise
    data = saved(Image.fromarray(NOISE), exif=exif)
    assert np.array_equal(decode_picture(data, "x"), np.rot90(NOISE, -1))
    assert decode_picture(saved(Image.fromarray(NOISE), "JPEG", exif=exif), "x").shape == (
        30,
        40,
        3,
    )


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (saved(Image.new("RGBA", (4, 4))), "alpha"),
        (saved(Image.new("LA", (4, 4))), "alpha"),
        (saved(Image.new("P", (4, 4)), transparency=0), "transparent"),
        (saved(Image.new("L", (4, 4)), transparency=7), "transparent"),
        (deep_png(0, 1), "16 bits"),
        (deep_png(2, 3), "16 bits"),
        (saved(Image.new("CMYK", (4, 4)), "JPEG"), "CMYK"),
        (saved(Image.new("RGB", (4, 4)), "GIF"), "PNG or JPEG"),
        (b"", "empty"),
        (b"hello, no picture", "PNG or JPEG"),
        (b"\xff\xd8\xff\xe0 nothing more", "damaged or truncated"),
        (saved(Image.fromarray(NOISE))[:-200], "truncated"),
        (saved(Image.fromarray(NOISE), "JPEG")[:-200], "truncated"),
    ],
)
def test_a_picture_that_would_have_to_be_guessed_is_refused_by_name(data: bytes, word: str) -> None:
    with pytest.raises(ValueError, match=word) as error:
        decode_picture(data, "folder/a.png")
    assert "folder/a.png" in str(error.value)


def test_an_animated_png_is_refused() -> None:
    frames = [Image.new("L", (4, 4), value) for value in (0, 200)]
    data = saved(frames[0], save_all=True, append_images=frames[1:])
    with pytest.raises(ValueError, match="animated"):
        decode_picture(data, "x")


def test_one_flipped_bit_of_a_png_is_noticed() -> None:
    data = bytearray(saved(Image.fromarray(NOISE)))
    data[len(data) // 2] ^= 1
    with pytest.raises(ValueError, match="checksum"):
        decode_picture(bytes(data), "x")


@pytest.mark.parametrize("limit", [700, 100])  # a little above Pillow's limit, and above its double
def test_a_decompression_bomb_is_an_error(monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with pytest.raises(ValueError, match=f"at most {limit} pixels"):
        decode_picture(saved(Image.fromarray(NOISE)), "x")


def test_nothing_to_fit_returns_the_same_array() -> None:
    assert fit_picture(NOISE, None, 3) is NOISE
    square = NOISE[:30]
    assert fit_picture(square, 30, None) is square


def test_fitting_crops_the_centre_of_a_picture_whose_short_side_fits() -> None:
    assert np.array_equal(fit_picture(NOISE, 30, None), NOISE[5:35])


def test_fitting_antialiases() -> None:
    # Single black and white pixels are grey from afar; without antialiasing none is.
    board = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)[..., None]
    small = fit_picture(board, 8, None)
    assert small.shape == (8, 8, 1)
    assert np.abs(small[2:-2, 2:-2].astype(int) - 127).max() <= 8


def test_channels_are_repeated_or_weighed() -> None:
    grey = NOISE[..., :1]
    assert np.array_equal(fit_picture(grey, None, 3), np.repeat(grey, 3, axis=2))
    weighed = NOISE @ np.array([0.299, 0.587, 0.114])
    assert np.abs(fit_picture(NOISE, None, 1)[..., 0] - weighed).max() <= 1
