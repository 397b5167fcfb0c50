"""Whole JPEG files of every kind are read; files that lost something are refused."""

from __future__ import annotations

import io
import re
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from dpgen.data.formats import jpeg
from dpgen.data.formats.pictures import decode_picture

RNG = np.random.default_rng(1)
Y, X = np.mgrid[:61, :83]
SMOOTH = np.stack(
    [127 + 90 * np.sin(X / (4 + k) + Y / 9) + RNG.normal(0, 5, X.shape) for k in range(3)], -1
)
SMOOTH = SMOOTH.clip(0, 255).astype(np.uint8)


def saved(pixels: np.ndarray, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels.squeeze()).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def start_of(data: bytes) -> int:
    """Where the compressed data of the first scan begin."""
    place = data.index(b"\xff\xda")
    return place + 2 + int.from_bytes(data[place + 2 : place + 4])


def with_thumbnail(data: bytes) -> bytes:
    """A camera's file: a whole small JPEG in a segment before the picture."""
    small = saved(SMOOTH[:16, :16])
    body = b"Exif\0\0" + small
    return data[:2] + b"\xff\xe1" + (2 + len(body)).to_bytes(2) + body + data[2:]


KINDS: dict[str, dict[str, object]] = {
    "baseline": {},
    "best": {"quality": 100, "subsampling": 0},
    "worst": {"quality": 1},
    "half the colours": {"subsampling": 1},
    "optimised": {"optimize": True},
    "progressive": {"progressive": True},
    "restarts": {"restart_marker_blocks": 3},
    "restarts by row": {"restart_marker_rows": 1},
    "progressive restarts": {"progressive": True, "restart_marker_blocks": 7},
}
SHAPES = {
    "colour": SMOOTH,
    "grey": SMOOTH[..., :1],
    "one pixel": SMOOTH[:1, :1],
    "strip": SMOOTH[:1],
}
ONE_COLOUR = np.full((40, 40, 3), 128, np.uint8)


@pytest.mark.parametrize("shape", [*SHAPES, "one colour"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_whole_picture_is_read(kind: str, shape: str) -> None:
    data = saved(SHAPES.get(shape, ONE_COLOUR), **KINDS[kind])
    expected = np.asarray(Image.open(io.BytesIO(data)))
    assert np.array_equal(decode_picture(data, "x").squeeze(), expected.squeeze())


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data + b"a film, or what a camera appends",
        lambda data: data + data,
        with_thumbnail,
        lambda data: data[:-2] + b"\xff\xff\xff\xd9",  # fill bytes before a marker
        lambda data: data[:-2] + bytes(4) + b"\xff\xd9",  # padding
    ],
    ids=["trailing bytes", "a second picture", "thumbnail", "fill bytes", "padding"],
)
@pytest.mark.parametrize("kind", ["baseline", "progressive", "restarts"])
def test_what_cameras_add_is_no_damage(change: Callable[[bytes], bytes], kind: str) -> None:
    data = saved(SMOOTH, **KINDS[kind])
    assert np.array_equal(decode_picture(change(data), "x"), decode_picture(data, "x"))


def test_a_large_picture_is_checked_by_what_follows_its_data(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(jpeg, "WALKED_BYTES", 100)
    for options in KINDS.values():
        decode_picture(saved(SMOOTH, **options), "x")
    data = saved(SMOOTH)
    with pytest.raises(ValueError, match="x is damaged.*end before the last block"):
        decode_picture(data[: len(data) // 2] + b"\xff\xd9", "x")


def cut(data: bytes, place: int) -> bytes:
    return data[:place] + b"\xff\xd9"


def zeroed(data: bytes, place: int) -> bytes:
    return data[:place] + bytes(len(data) - place)


def zeroed_with_end(data: bytes, place: int) -> bytes:
    return zeroed(data, place)[:-2] + b"\xff\xd9"


def without_a_piece(data: bytes, place: int) -> bytes:
    return data[:place] + data[place + 60 :]


def doubled(data: bytes, place: int) -> bytes:
    return data[:place] + data[place - 60 : place] + data[place:]


@pytest.mark.parametrize("damage", [cut, zeroed, zeroed_with_end, without_a_piece, doubled])
@pytest.mark.parametrize("kind", ["baseline", "best", "optimised", "restarts", "restarts by row"])
@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_a_sequential_picture_that_lost_data_is_refused(
    damage: Callable[[bytes, int], bytes], kind: str, share: float
) -> None:
    data = saved(SMOOTH, **KINDS[kind])
    start = start_of(data)
    place = start + int(share * (len(data) - start))
    while data[place - 1] == 0xFF or data[place] == 0xFF:
        place += 1
    with pytest.raises(ValueError, match="folder/a.jpg is damaged or truncated"):
        decode_picture(damage(data, place), "folder/a.jpg")


@pytest.mark.parametrize("damage", [without_a_piece, doubled, zeroed_with_end])
@pytest.mark.parametrize("kind", ["progressive", "progressive restarts"])
@pytest.mark.parametrize("share", [0.2, 0.4, 0.6, 0.8, 0.95])
def test_a_progressive_picture_that_lost_data_is_refused(
    damage: Callable[[bytes, int], bytes], kind: str, share: float
) -> None:
    data = saved(SMOOTH, quality=90, **KINDS[kind])
    start = start_of(data)
    place = start + int(share * (len(data) - start))
    while 0xFF in data[place - 61 : place + 61 : 60] or 0xFF in data[place - 1 : place + 1]:
        place += 1
    with pytest.raises(ValueError, match="x is damaged or truncated JPEG"):
        decode_picture(damage(data, place), "x")


@pytest.mark.parametrize("grey", [False, True])
def test_an_overwritten_piece_of_a_progressive_picture_is_noticed(grey: bool) -> None:
    """At every fiftieth byte of the compressed data; what is not noticed leaves as many blocks."""
    data = saved(SMOOTH[..., :1] if grey else SMOOTH, quality=90, progressive=True)
    noticed = []
    for place in range(start_of(data), len(data) - 60, 50):
        try:
            decode_picture(data[:place] + b"\x11" * 40 + data[place + 40 :], "x")
        except ValueError:
            noticed.append(place)
    assert len(noticed) >= 0.9 * len(range(start_of(data), len(data) - 60, 50))


@pytest.mark.parametrize("quality", [1, 20, 50, 85, 98, 100])
@pytest.mark.parametrize("subsampling", [0, 1, 2])
def test_whole_progressive_pictures_of_every_quality_are_read(
    quality: int, subsampling: int
) -> None:
    for height, width in ((8, 8), (17, 16), (61, 83), (2, 40)):
        data = saved(
            SMOOTH[:height, :width], quality=quality, subsampling=subsampling, progressive=True,
            optimize=True,
        )  # fmt: skip
        expected = np.asarray(Image.open(io.BytesIO(data)))
        assert np.array_equal(decode_picture(data, "x"), expected)


@pytest.mark.parametrize("kind", ["progressive", "progressive restarts"])
@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.7, 0.9, 0.98])
def test_a_progressive_picture_that_was_cut_is_refused(kind: str, share: float) -> None:
    data = saved(SMOOTH, **KINDS[kind])
    start = start_of(data)
    place = start + int(share * (len(data) - start))
    with pytest.raises(ValueError, match="x is damaged or truncated"):
        decode_picture(cut(data, place - (data[place - 1] == 0xFF)), "x")


def test_a_progressive_picture_that_lost_its_last_scans_is_refused() -> None:
    """Cut between two scans, where no part is too short: the picture is only less sharp."""
    data = saved(SMOOTH, progressive=True)
    for scan in list(re.finditer(rb"\xff\xda", data))[1:]:
        place = data.rfind(b"\xff\xc4", 0, scan.start())
        whole_until = place if data[place - 2 : place] != b"\xff\xda" else scan.start()
        with pytest.raises(ValueError, match="x is damaged or truncated JPEG: its last scans"):
            decode_picture(cut(data, whole_until), "x")


def test_a_lost_restart_marker_is_noticed() -> None:
    data = saved(SMOOTH, restart_marker_blocks=3)
    place = data.index(b"\xff\xd2", start_of(data))
    for changed in (
        data[:place] + data[place + 2 :],
        data[:place] + b"\xff\xd3" + data[place + 2 :],
    ):
        with pytest.raises(ValueError, match="restart markers in order"):
            decode_picture(changed, "x")


def test_an_overwritten_piece_is_noticed_where_the_decoder_would_have_noticed_it() -> None:
    """40 bytes in the middle of the handed picture: its codes then end 3 blocks too late."""
    ramp = np.tile(np.linspace(0, 255, 64), (64, 1))
    ramp += np.random.default_rng(0).integers(0, 60, (64, 64))
    data = saved(ramp.clip(0, 255).astype(np.uint8), quality=95)
    half = len(data) // 2
    with pytest.raises(ValueError, match="x is damaged or truncated JPEG: its compressed data"):
        decode_picture(data[:half] + b"\x11" * 40 + data[half + 40 :], "x")


def test_a_process_that_cannot_be_checked_is_refused_by_name() -> None:
    data = saved(SMOOTH).replace(b"\xff\xc0", b"\xff\xc9", 1)
    with pytest.raises(ValueError, match="x is arithmetic-coded JPEG: save it as baseline"):
        decode_picture(data, "x")


def test_a_picture_is_checked_once_and_a_damaged_one_every_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Records are decoded at every step that draws them."""
    checked: list[bytes] = []
    real = jpeg._check_whole
    monkeypatch.setattr(jpeg, "_WHOLE", set())
    monkeypatch.setattr(
        jpeg, "_check_whole", lambda data, decode_fn: (checked.append(data), real(data, decode_fn))
    )
    data = saved(SMOOTH)
    one, two = decode_picture(data, "a.jpg"), decode_picture(data, "b.jpg")
    assert (one == two).all() and checked == [data]
    damaged = data[: len(data) // 2] + b"\xff\xd9"
    for _ in range(2):
        with pytest.raises(ValueError, match="a.jpg"):
            decode_picture(damaged, "a.jpg")
    assert checked == [data, damaged, damaged]
    monkeypatch.setattr(jpeg, "REMEMBERED", 1)
    for _ in range(2):
        decode_picture(saved(SMOOTH, quality=40), "c.jpg")
    assert len(checked) == 5 and len(jpeg._WHOLE) == 1
