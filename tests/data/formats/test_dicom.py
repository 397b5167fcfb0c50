from __future__ import annotations

import io
import sys
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, RLELossless

from dpgen.data.formats.dicom_frames import JPEG_2000
from dpgen.data.formats.dicom_frames import JPEG_BASELINE as JPEG
from dpgen.data.formats.pictures import decode_picture
from dpgen.data.sources import open_source

STORED = np.array([[0, 100, 200], [300, 1100, 4095]], np.uint16)
CT = "1.2.840.10008.5.1.4.1.1.2"


def made(
    pixels: np.ndarray, syntax: str = ExplicitVRLittleEndian, **tags: Any  # noqa: ANN401
) -> bytes:  # fmt: skip
    """A DICOM file of one image; ``tags`` over the usual ones, None removes one."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CT, "1.2.3"
    meta.TransferSyntaxUID = ExplicitVRLittleEndian if syntax == RLELossless else syntax
    file = FileDataset("x", {}, file_meta=meta, preamble=bytes(128))
    bits = pixels.dtype.itemsize * 8
    signed = int(pixels.dtype.kind == "i")
    file.update({})
    values = dict(
        SOPClassUID=CT, SOPInstanceUID="1.2.3", PatientName="Doe^Jane", PatientID="secret",
        Rows=pixels.shape[0], Columns=pixels.shape[1], BitsAllocated=bits, BitsStored=bits,
        HighBit=bits - 1, PixelRepresentation=signed,
        SamplesPerPixel=3 if pixels.ndim == 3 else 1,
        PhotometricInterpretation="RGB" if pixels.ndim == 3 else "MONOCHROME2",
    ) | tags  # fmt: skip
    if pixels.ndim == 3:
        values.setdefault("PlanarConfiguration", 0)
    for key, value in values.items():
        if value is not None:
            setattr(file, key, value)
    big = syntax == ExplicitVRBigEndian
    raw = pixels.astype(pixels.dtype.newbyteorder(">" if big else "<")).tobytes()
    if "PixelData" not in tags:
        file.PixelData = raw + b"\0" * (len(raw) % 2)
        file["PixelData"].VR = "OB" if bits == 8 else "OW"
    if syntax == RLELossless:
        file.compress(RLELossless)
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, file, enforce_file_format=True)
    return buffer.getvalue()


def grey(data: bytes, window: tuple[float, float] | None = None) -> list[list[int]]:
    return decode_picture(data, "x", window)[..., 0].tolist()


SHOWN = [[0, 0, 26], [51, 255, 255]]  # STORED through the window 100..1100


@pytest.mark.parametrize(
    "syntax", ["1.2.840.10008.1.2", ExplicitVRLittleEndian, ExplicitVRBigEndian, RLELossless]
)
def test_a_declared_window_is_kept_in_every_syntax(syntax: str) -> None:
    assert grey(made(STORED, syntax), (100, 1100)) == SHOWN


def test_the_windows_of_the_tags_are_those_of_the_standard() -> None:
    """PS3.3 C.11.2.1.2.1: center 2048, width 4096 maps 0 to black and 4095 to white."""
    assert grey(made(STORED, WindowCenter=2048, WindowWidth=4096))[0][0] == 0
    assert grey(made(STORED, WindowCenter=2048, WindowWidth=4096))[1] == [19, 68, 255]
    exact = dict(WindowCenter=600, WindowWidth=1000, VOILUTFunction="LINEAR_EXACT")
    assert grey(made(STORED, **exact)) == SHOWN
    several = dict(WindowCenter=[600.5, 5], WindowWidth=[1001, 3])
    assert grey(made(STORED, **several)) == SHOWN


def test_a_declared_window_goes_before_that_of_the_tags() -> None:
    assert grey(made(STORED, WindowCenter=40, WindowWidth=400), (100, 1100)) == SHOWN


def test_the_rescale_comes_before_the_window() -> None:
    hounsfield = made(STORED, RescaleSlope=2, RescaleIntercept=-1024)
    assert grey(hounsfield, (-824, 1176)) == SHOWN
    signed = STORED.astype(np.int16) - 1000
    assert grey(made(signed), (-900, 100)) == SHOWN


def test_white_is_low_in_monochrome1() -> None:
    data = made(STORED, PhotometricInterpretation="MONOCHROME1")
    assert grey(data, (100, 1100)) == (255 - np.array(SHOWN)).tolist()


def test_eight_bits_keep_their_values() -> None:
    pixels = np.arange(6, dtype=np.uint8).reshape(2, 3)
    assert grey(made(pixels)) == pixels.tolist()
    colours = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)
    assert np.array_equal(decode_picture(made(colours), "x"), colours)


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (made(STORED), "x has 16 bits per pixel and no window.*--value-range LOW,HIGH"),
        (made(STORED.astype(np.uint8), RescaleSlope=2), "no window of its own"),
        (made(STORED, NumberOfFrames=2), "x has 2 frames"),
        (made(STORED, BurnedInAnnotation="YES"), "x says that text is burnt"),
        (made(STORED, PhotometricInterpretation="PALETTE COLOR"), "must be grey or RGB, got PALE"),
        (made(STORED, PixelData=None), r"x holds no pixels \(CT Image Storage\)"),
        (made(STORED, Rows=40), "x is damaged or truncated DICOM"),
        (made(STORED)[:-4], "x is damaged or truncated DICOM"),
        (made(STORED)[:300], "x "),
        (made(STORED, Rows=60000, Columns=60000), "x must have at most 89478485 pixels"),
        (made(STORED, WindowCenter=9, WindowWidth=9, VOILUTFunction="SIGMOID"), "window SIGMOID"),
        (made(STORED, WindowCenter=9, WindowWidth=0), "of width 0"),
        (made(np.zeros((4, 4), np.uint8))[:132] + b"\xff" * 90, "x "),
        (
            made(STORED).replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.4.91"[:20]),
            "x ",
        ),
    ],
    ids=range(14),
)  # fmt: skip
def test_what_would_have_to_be_guessed_is_refused_by_name(data: bytes, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        decode_picture(data, "x")


@pytest.mark.parametrize(
    "tag", ["Rows", "Columns", "BitsAllocated", "SamplesPerPixel", "PhotometricInterpretation"]
)
def test_a_header_that_lacks_a_tag_is_refused_by_the_name_of_the_tag(tag: str) -> None:
    with pytest.raises(ValueError, match=f"^x is damaged .* DICOM: its header lacks {tag}$"):
        decode_picture(made(STORED, **{tag: None}), "x")


def test_a_file_of_zeros_behind_the_magic_is_refused_in_words_of_dicom() -> None:
    with pytest.raises(ValueError, match=r"does not say how .* stored \(TransferSyntaxUID\)$"):
        decode_picture(bytes(128) + b"DICM" + bytes(200), "x")


def compressed(frame: bytes, like: np.ndarray, syntax: str, **tags: Any) -> bytes:  # noqa: ANN401
    """A DICOM file whose one frame is compressed."""
    meaning = {JPEG: "YBR_FULL_422", JPEG_2000: "YBR_RCT"}.get(syntax, "RGB")
    colours = {"PhotometricInterpretation": meaning} if like.ndim == 3 else {}
    file = pydicom.dcmread(io.BytesIO(made(like, **colours | tags)))
    file.file_meta.TransferSyntaxUID = syntax
    file.PixelData = pydicom.encaps.encapsulate([frame])
    file["PixelData"].is_undefined_length, file["PixelData"].VR = True, "OB"
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, file)
    return buffer.getvalue()


def frame_of(pixels: np.ndarray, kind: str = "JPEG", **options: Any) -> bytes:  # noqa: ANN401
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


RNG = np.random.default_rng(0)
NOISE = RNG.integers(0, 256, (20, 30), dtype=np.uint8)
COLOURS = RNG.integers(0, 256, (20, 30, 3), dtype=np.uint8)


@pytest.mark.parametrize("pixels", [NOISE, COLOURS], ids=["grey", "colour"])
def test_jpeg_baseline_is_read_as_a_jpeg_file_is(pixels: np.ndarray) -> None:
    frame = frame_of(pixels)
    expected = decode_picture(frame, "x")
    assert np.array_equal(decode_picture(compressed(frame, pixels, JPEG), "x"), expected)
    low = compressed(frame_of(NOISE), NOISE, JPEG, PhotometricInterpretation="MONOCHROME1")
    assert np.array_equal(decode_picture(low, "x"), 255 - decode_picture(frame_of(NOISE), "x"))


def test_lossless_jpeg_2000_gives_the_stored_values() -> None:
    for pixels in (NOISE, COLOURS):
        frame = frame_of(pixels, "JPEG2000", no_jp2=True)
        found = decode_picture(compressed(frame, pixels, JPEG_2000), "x")
        assert np.array_equal(found.squeeze(), pixels)
    deep = NOISE.astype(np.uint16) * 16
    data = compressed(frame_of(deep, "JPEG2000", no_jp2=True), deep, JPEG_2000)
    assert grey(data, (0, 4080)) == NOISE.tolist()
    with pytest.raises(ValueError, match="x has 16 bits per pixel and no window"):
        decode_picture(data, "x")


@pytest.mark.parametrize(
    ("frame", "syntax", "word"),
    [
        (frame_of(NOISE)[:-100] + b"\xff\xd9", "JPEG", "compressed data"),
        (frame_of(NOISE[:10]), "JPEG", r"its frame has the shape \(10, 30, 1\)"),
        (frame_of(NOISE, "PNG"), "JPEG", "its frame is no JPEG"),
        (frame_of(NOISE, "JPEG2000", no_jp2=True)[:300], "JPEG_2000", "broken data stream"),
        (frame_of(NOISE[:10], "JPEG2000", no_jp2=True), "JPEG_2000", "no JPEG 2000 of 30x20"),
        (frame_of(NOISE), "JPEG_2000", "no JPEG 2000 of 30x20"),
        (bytes(20), "JPEG_2000", "no JPEG 2000 of 30x20"),
    ],
    ids=["cut", "size", "png", "cut 2000", "size 2000", "jpeg", "zeros"],
)
def test_a_frame_that_is_not_what_the_header_says_is_damaged(
    frame: bytes, syntax: str, word: str, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(ValueError, match=f"(?s)^x is damaged or truncated.*{word}"):
        decode_picture(compressed(frame, NOISE, {"JPEG": JPEG}.get(syntax, JPEG_2000)), "x")
    assert not caplog.records  # the refusal says it all


def test_colours_that_are_not_what_the_header_says_are_refused() -> None:
    frame = frame_of(COLOURS, keep_rgb=True)
    with pytest.raises(ValueError, match="its frame says that it is RGB"):
        decode_picture(compressed(frame, COLOURS, JPEG), "x")
    data = compressed(frame, COLOURS, JPEG, PhotometricInterpretation="RGB")
    with pytest.raises(ValueError, match="must be grey or YBR_FULL_422, got RGB"):
        decode_picture(data, "x")


@pytest.mark.parametrize("syntax", ["57", "70", "80", "81", "91"])
def test_a_compression_that_needs_another_package_is_refused_with_its_name(syntax: str) -> None:
    data = compressed(bytes(20), NOISE, f"1.2.840.10008.1.2.4.{syntax}")
    with pytest.raises(ValueError, match="x is DICOM stored as JPEG.*gdcm.*dcmtk"):
        decode_picture(data, "x")


def test_a_folder_of_dicom_is_read_without_names(tmp_path: Path) -> None:
    for i, name in enumerate(("ill", "well")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1").write_bytes(made(STORED // (i + 1)))
    source = open_source(tmp_path, value_range=(0, 4095))
    pixels, labels = source.read([0, 1])
    assert source.class_names == ("ill", "well") and labels.tolist() == [0, 1]
    assert pixels[:, 0, 1, 2].tolist() == [255, 127]


def test_without_pydicom_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    data = made(STORED)
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(ValueError, match="pip install pydicom"):
        decode_picture(data, "x")


def test_slope_and_window_of_an_enhanced_file_stand_in_its_functional_groups() -> None:
    values, window, shared = Dataset(), Dataset(), Dataset()
    values.RescaleSlope, values.RescaleIntercept = "2", "-1024"
    window.WindowCenter, window.WindowWidth = "0", "2048"
    window.VOILUTFunction = "LINEAR_EXACT"
    shared.PixelValueTransformationSequence = [values]
    shared.FrameVOILUTSequence = [window]
    found = made(STORED, SharedFunctionalGroupsSequence=[shared], NumberOfFrames=1)
    flat = made(
        STORED, RescaleSlope="2", RescaleIntercept="-1024", WindowCenter="0", WindowWidth="2048",
        VOILUTFunction="LINEAR_EXACT",
    )  # fmt: skip
    assert grey(found) == grey(flat)
    assert grey(found, (0, 4095)) == grey(flat, (0, 4095)) != grey(made(STORED), (0, 4095))
    with pytest.raises(ValueError, match="its tags give RescaleSlope twice, 1 and 2"):
        decode_picture(
            made(STORED, SharedFunctionalGroupsSequence=[shared], RescaleSlope="1"), "x", (0, 1)
        )


@pytest.mark.parametrize(
    ("tags", "match"),
    [
        ({"BitsStored": 12, "HighBit": 15}, "stores 12 bits with the highest at place 15"),
        ({"PresentationLUTShape": "INVERSE"}, "shown inverted .PresentationLUTShape"),
        ({"RescaleSlope": "0"}, "rescaled by the slope 0 and 0"),
        ({"RescaleSlope": "nan"}, "rescaled by the slope nan"),
    ],
)
def test_numbers_that_do_not_mean_what_is_read_are_refused(
    tags: dict[str, Any], match: str
) -> None:
    with pytest.raises(ValueError, match=f"x .*{match}"):
        decode_picture(made(STORED, **tags), "x", (0, 4095))


def test_a_window_that_is_no_number_is_refused() -> None:
    with pytest.raises(ValueError, match="x has the window LINEAR of width 10"):
        decode_picture(made(STORED, WindowCenter="nan", WindowWidth="10"), "x")


def test_a_deflated_file_is_refused_before_it_is_unpacked() -> None:
    packed = zlib.compressobj(9, wbits=-15)
    content = packed.compress(bytes(2**26)) + packed.flush()
    head = made(STORED)[: 132 + 200]
    data = head.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.1.99") + content
    tracemalloc.start()
    with pytest.raises(ValueError, match="x is DICOM stored as Deflated .* gdcmconv --raw"):
        decode_picture(data, "x")
    assert tracemalloc.get_traced_memory()[1] < 2**24
    tracemalloc.stop()
