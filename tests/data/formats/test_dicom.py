from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, RLELossless

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


def test_a_compression_is_refused_by_its_name() -> None:
    data = made(np.zeros((4, 4), np.uint8))
    file = pydicom.dcmread(io.BytesIO(data))
    file.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.90"
    file.PixelData = pydicom.encaps.encapsulate([bytes(20)])
    file["PixelData"].is_undefined_length = True
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, file)
    with pytest.raises(ValueError, match="x is DICOM stored as JPEG 2000 Image Compression.*Loss"):
        decode_picture(buffer.getvalue(), "x")


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
