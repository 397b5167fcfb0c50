from __future__ import annotations

import io
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image, ImageFile

from dpgen.data.formats.pictures import decode_picture, encode_png, fit_picture, png_bytes

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
    decode_picture(progressive(0), "x")
    with pytest.raises(ValueError, match="x is damaged"):  # few enough, but the same bits again
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
@pytest.mark.parametrize("shape", [(40, 30), (1, 1), (1, 9), (9, 1)])
def test_png_keeps_every_pixel_and_stays_within_the_space_that_is_checked(
    shape: tuple[int, int], channels: int
) -> None:
    slope = np.add.outer(np.arange(shape[0]), 3 * np.arange(shape[1])).astype(np.uint8)
    for pixels in (NOISE[: shape[0], : shape[1], :channels], np.dstack([slope] * channels)):
        data = encode_png(pixels)
        assert np.array_equal(decode_picture(data, "x"), pixels)
        # Pillow does not use this decoder's checks, and names the same picture.
        with Image.open(io.BytesIO(data)) as picture:
            assert picture.format == "PNG" and picture.mode == {1: "L", 3: "RGB"}[channels]
            assert np.array_equal(np.asarray(picture).reshape(pixels.shape), pixels)
        assert len(data) <= png_bytes(pixels.size)


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
        (b"", "empty"),
        (b"hello, no picture", "must be a picture that is read"),
        (b"\xff\xd8\xff\xe0 nothing more", "damaged or truncated"),
        (saved(Image.fromarray(NOISE))[:-200], "truncated"),
        (saved(Image.fromarray(NOISE), "JPEG")[:-200], "truncated"),
    ],
)
def test_a_picture_that_would_have_to_be_guessed_is_refused_by_name(data: bytes, word: str) -> None:
    with pytest.raises(ValueError, match=word) as error:
        decode_picture(data, "folder/a.png")
    assert "folder/a.png" in str(error.value)


FRAMES = [Image.new("L", (4, 4), value) for value in (9, 200)]


@pytest.mark.parametrize(
    ("kind", "pixels", "error"),
    [
        ("BMP", NOISE, 0), ("BMP", NOISE[..., :1], 0), ("TIFF", NOISE, 0), ("WEBP", NOISE, 60),
        ("TIFF", NOISE[..., :1], 0), ("PPM", NOISE, 0), ("PPM", NOISE[..., :1], 0),
    ],
)  # fmt: skip
def test_other_formats_are_read_too(kind: str, pixels: np.ndarray, error: int) -> None:
    picture = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    found = decode_picture(saved(picture, kind), "x")
    assert found.shape == pixels.shape
    assert np.abs(found.astype(int) - pixels).mean() <= error


def test_webp_without_loss_keeps_every_pixel() -> None:
    data = saved(Image.fromarray(NOISE), "WEBP", lossless=True)
    assert np.array_equal(decode_picture(data, "x"), NOISE)


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "WEBP"])
def test_several_pictures_in_a_file_are_refused(kind: str) -> None:
    data = saved(FRAMES[0], kind, save_all=True, append_images=FRAMES[1:])
    with pytest.raises(ValueError, match="x has several pages|x is animated"):
        decode_picture(data, "x")


def test_a_tiff_is_turned_once() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    found = decode_picture(saved(Image.fromarray(NOISE), "TIFF", exif=exif), "x")
    assert np.array_equal(found, np.rot90(NOISE, -1))


GREY16 = np.array([[0, 100, 1000], [1100, 4095, 65535]], np.uint16)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_grey_of_16_bits_needs_a_window_and_keeps_to_it(kind: str) -> None:
    data = saved(Image.fromarray(GREY16), kind)
    with pytest.raises(ValueError, match="x has .* bits per pixel.*--value-range LOW,HIGH"):
        decode_picture(data, "x")
    found = decode_picture(data, "x", (100, 1100))
    assert found[..., 0].tolist() == [[0, 0, 230], [255, 255, 255]]
    assert np.array_equal(decode_picture(data, "x", (0, 65535))[..., 0], np.rint(GREY16 / 257))


def test_a_window_does_not_depend_on_the_other_pixels() -> None:
    darker = GREY16 // 2
    darker[0, 1] = 100
    one, other = (
        decode_picture(saved(Image.fromarray(a)), "x", (0, 400)) for a in (GREY16, darker)
    )
    assert one[0, 1, 0] == other[0, 1, 0] == 64


def test_a_tiff_of_floats_needs_a_window_and_finite_values() -> None:
    values = np.array([[-1.0, 0.0], [0.5, 1.0]], np.float32)
    found = decode_picture(saved(Image.fromarray(values), "TIFF"), "x", (-1, 1))
    assert found[..., 0].tolist() == [[0, 128], [191, 255]]
    values[0, 0] = np.nan
    with pytest.raises(ValueError, match="x: every pixel must be a finite number"):
        decode_picture(saved(Image.fromarray(values), "TIFF"), "x", (-1, 1))


def test_a_picture_of_8_bits_refuses_a_window() -> None:
    with pytest.raises(ValueError, match="x has 8: drop --value-range"):
        decode_picture(encode_png(NOISE), "x", (0, 255))


def tiff(bits: int, samples: int, pixels: bytes, photometric: int = 1, extra: int = 0) -> bytes:
    """A TIFF of one row of two pixels."""
    entries = [
        (256, 3, 1, 2), (257, 3, 1, 1), (258, 3, 1, bits), (259, 3, 1, 1),
        (262, 3, 1, photometric), (273, 4, 1, 300), (277, 3, 1, samples), (278, 3, 1, 1),
        (279, 4, 1, len(pixels)),
    ]  # fmt: skip
    if samples > 1:
        entries[2] = (258, 3, samples, 280)
    if extra:
        entries.append((338, 3, 1, extra))
    table = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    head = b"II*\0" + struct.pack("<IH", 8, len(entries)) + table + bytes(4)
    return head.ljust(280, b"\0") + struct.pack("<4H", *[bits] * 4).ljust(20, b"\0") + pixels


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (tiff(16, 3, bytes(12), 2), "x has colours of 16 bits per channel"),
        (tiff(16, 1, bytes(4), 0), "x has 0 for white and 16 bits"),
        (tiff(8, 4, bytes(8), 2, extra=1), "x has an alpha or another further channel"),
        (tiff(8, 1, b"\1"), "x is damaged or truncated TIFF"),
        (tiff(8, 1, b"\1\2")[:60], "x is damaged or truncated TIFF"),
        (b"P5 2 1 100\n\1\2", "x must have 255 as its largest value"),
        (b"P6 1 1 65535\n" + bytes(6), "x must have 255 as its largest value"),
        (b"P5 2 1 255\n\1\2P5 2 1 255\n\1\2", "x must hold one picture, got 13 bytes behind"),
        (b"P5 2 1 255\n\1", "x is damaged or truncated PNM"),
        (saved(Image.fromarray(NOISE), "BMP")[:-50], "x is damaged or truncated BMP"),
        (saved(Image.fromarray(NOISE), "GIF")[:-50], "x is damaged or truncated GIF"),
        (saved(Image.fromarray(NOISE), "WEBP")[:-50], "x is damaged or truncated WebP"),
        (saved(Image.new("RGBA", (4, 4), (9, 9, 9, 9)), "WEBP"), "got mode RGBA"),
        (saved(Image.new("P", (4, 4)), "GIF", transparency=0), "x has transparent pixels"),
        (b"RIFF....WEBPVP8 ", "x is damaged or truncated WebP"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(200), "x is HEIC, which is not read"),
        (b"\xff\x4f\xff\x51" + bytes(200), "x is JPEG 2000, which is not read: convert it"),
    ],
)
def test_what_pillow_would_read_in_silence_is_refused(data: bytes, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        decode_picture(data, "x")


def test_a_tiff_of_8_bits_whose_white_is_zero_is_turned_to_black_is_zero() -> None:
    assert decode_picture(tiff(8, 1, b"\0\x37", 0), "x")[..., 0].tolist() == [[255, 200]]


def test_no_other_package_makes_a_cut_picture_readable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with pytest.raises(ValueError, match="x is damaged or truncated BMP"):
        decode_picture(saved(Image.fromarray(NOISE), "BMP")[:-50], "x")
    assert ImageFile.LOAD_TRUNCATED_IMAGES


@pytest.mark.parametrize("shape", [(1, 40000), (40000, 1), (3, 30000)])
def test_a_narrow_picture_is_refused_before_its_resize_takes_gigabytes(
    shape: tuple[int, int],
) -> None:
    tracemalloc.start()
    with pytest.raises(ValueError, match="x is .* more than 67108864 pixels.*crop it"):
        fit_picture(np.zeros((*shape, 1), np.uint8), 512, None, "x")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**24
    assert fit_picture(np.zeros((*shape, 1), np.uint8), 4, None, "x").shape == (4, 4, 1)


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
