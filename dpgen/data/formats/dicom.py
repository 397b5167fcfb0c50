"""DICOM: the pixels of one image, shown as the file or a declared window says; nothing else of it.

Only pixels are read: no name, no date, no identifier reaches a record. Text that was burnt into the
pixels stays there: a file that says it has some is refused, one that does not say is taken.
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from PIL import Image

from dpgen.data.formats.damage import Damaged
from dpgen.data.formats.dicom_frames import (
    COLOURS,
    JPEG_2000,
    JPEG_BASELINE,
    compressed_values,
)
from dpgen.data.formats.dicom_values import rescale, value_tags
from dpgen.data.formats.window import ValueRange, refuse_window, windowed
from dpgen.storage.files import refuse_bomb

PLAIN = {  # transfer syntaxes that are read
    "1.2.840.10008.1.2": "implicit little endian",
    "1.2.840.10008.1.2.1": "explicit little endian",
    "1.2.840.10008.1.2.2": "explicit big endian",
    "1.2.840.10008.1.2.5": "RLE",
    JPEG_BASELINE: "JPEG baseline",
    JPEG_2000: "lossless JPEG 2000",
}
RLE, DEFLATED = "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.1.99"
NEEDED = (  # tags without which there is no telling what the pixels are
    "Rows", "Columns", "BitsAllocated", "SamplesPerPixel", "PhotometricInterpretation",
)  # fmt: skip
GREY = ("MONOCHROME1", "MONOCHROME2")


def pydicom_module() -> Any:  # noqa: ANN401
    """Returns the module pydicom; the error without it names the extra."""
    try:
        import pydicom
    except ImportError as error:
        raise ValueError("DICOM needs pydicom: pip install pydicom") from error
    return pydicom


def decode_dicom(
    data: bytes, name: str, value_range: ValueRange, decode_fn: Callable[[bytes], np.ndarray]
) -> np.ndarray:
    """Decodes one DICOM image to uint8 (H, W, C), C 1 or 3.

    A grey value is v = slope * stored + intercept, as the file rescales it (Hounsfield units in
    CT). It is shown through the declared window, else through the first window of the file's own
    tags, each picture by its own, where both may stand in the functional groups of an enhanced
    file; grey of 8 bits without either keeps its values. Outside the
    window it is black or white. MONOCHROME1, where the lowest value is white, is inverted after
    that. Colour of 8 bits is taken as it is.

    Refused by name: several frames, other colour spaces, a compression but RLE, JPEG baseline and
    lossless JPEG 2000, tables in place of a window unless one is declared, deep grey without any
    window, burnt-in annotations. Of JPEG 2000 a cut frame is seen, and bytes that were written over
    are not: like plain pixels it has no checksum.

    Args:
        data: the bytes of the file.
        name: the words that name it in a message.
        value_range: (low, high), the window, in the units of v.
        decode_fn: from a JPEG file to uint8 (H, W, C), refusing damage.

    Reference: DICOM PS3.3 (2024), C.7.6.3 and C.11.2.1.2.
    """
    pydicom = pydicom_module()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of values that are not needed
            if DEFLATED.encode() in data:  # it would be unpacked with its header, whatever its size
                raise _unlike("Deflated Explicit VR Little Endian")
            header = pydicom.dcmread(io.BytesIO(data))
            _check(header, name, len(data))
            packed = header.file_meta.TransferSyntaxUID in COLOURS
            values = (
                compressed_values(header, decode_fn) if packed else np.asarray(header.pixel_array)
            )
            if values.ndim == 3:
                refuse_window(value_range, name)
                return np.ascontiguousarray(values)
            return _shown(header, values, name, value_range)[..., None]
    except Damaged as error:
        raise ValueError(f"{name} is damaged or truncated DICOM: {error}") from None
    except _Refused as error:
        raise ValueError(f"{name} {error}") from None
    except MemoryError:
        raise
    except Exception as error:  # pydicom evaluates values late, each with errors of its own
        if isinstance(error, OSError) and error.errno is not None:
            raise
        if isinstance(error, ValueError) and str(error).startswith((name, "value_range")):
            raise
        raise ValueError(f"{name} is damaged or truncated DICOM: {error!s:.200}") from error


class _Refused(Exception):
    """What is wrong with a file that is whole."""


def _unlike(syntax: str) -> _Refused:
    return _Refused(
        f"is DICOM stored as {syntax}, read are {', '.join(PLAIN.values())}: convert it with "
        "gdcmconv --raw (of the package gdcm) or dcmdjpeg (of dcmtk)"
    )


def _check(header: Any, name: str, n_packed: int) -> None:  # noqa: ANN401
    """Refuses what is no single image of 8 to 32 bits, before any pixel is decoded."""
    syntax = header.file_meta.get("TransferSyntaxUID")
    if syntax is None:
        raise Damaged("its header does not say how the pixels are stored (TransferSyntaxUID)")
    if syntax not in PLAIN:
        raise _unlike(syntax.name)
    if "PixelData" not in header:
        kind = getattr(header.get("SOPClassUID"), "name", "DICOM")
        raise _Refused(f"holds no pixels ({kind}): move it away")
    missing = [tag for tag in NEEDED if header.get(tag) is None]
    if missing:
        raise Damaged(f"its header lacks {', '.join(missing)}")
    if str(header.get("BurnedInAnnotation", "")).upper() == "YES":
        raise _Refused(
            "says that text is burnt into its pixels (BurnedInAnnotation), which may name a "
            "person: remove the text, or the file"
        )
    n_frames = int(header.get("NumberOfFrames") or 1)
    if n_frames != 1:
        raise _Refused(f"has {n_frames} frames, a record is one picture: save each as a file")
    meaning, samples = str(header.PhotometricInterpretation), int(header.SamplesPerPixel)
    colours = COLOURS.get(str(syntax), ("RGB",))
    if (meaning, samples) not in {(grey, 1) for grey in GREY} | {(one, 3) for one in colours}:
        raise _Refused(
            f"must be grey or {colours[0]}, got {meaning} with {samples} samples per pixel: "
            "convert it"
        )
    if (samples == 3 or syntax == JPEG_BASELINE) and int(header.BitsAllocated) != 8:
        raise _Refused(
            f"has {header.BitsAllocated} bits per channel, colours and JPEG have 8: convert it"
        )
    _check_meaning(header, meaning)
    rows, columns, bits = (int(header[k].value) for k in ("Rows", "Columns", "BitsAllocated"))
    if min(rows, columns) < 1 or rows * columns > (Image.MAX_IMAGE_PIXELS or 2**62):
        raise _Refused(
            f"must have at most {Image.MAX_IMAGE_PIXELS} pixels, got {columns}x{rows}: make it "
            "smaller"
        )
    n_bytes = rows * columns * samples * bits // 8
    if syntax == RLE or syntax in COLOURS:
        refuse_bomb(n_bytes, n_packed, name, "make it smaller")
    elif len(header.PixelData) not in (n_bytes, n_bytes + n_bytes % 2):
        raise Damaged(f"{len(header.PixelData)} bytes of pixels, {columns}x{rows} take {n_bytes}")


def _check_meaning(header: Any, meaning: str) -> None:  # noqa: ANN401
    """Refuses what says that the stored numbers are not those that are read, or not shown so."""
    stored, high = header.get("BitsStored"), header.get("HighBit")
    if None not in (stored, high) and int(high) != int(stored) - 1:
        raise _Refused(
            f"stores {stored} bits with the highest at place {high}, read are values whose lowest "
            "bit is at place 0: convert it"
        )
    if meaning == GREY[1] and str(header.get("PresentationLUTShape", "")).upper() == "INVERSE":
        raise _Refused(
            "says that 0 is black (MONOCHROME2), and that it is shown inverted "
            "(PresentationLUTShape): correct one of them"
        )


def _shown(
    header: Any, stored: np.ndarray, name: str, value_range: ValueRange  # noqa: ANN401
) -> np.ndarray:  # fmt: skip
    """Returns stored grey values, (H, W), as uint8."""
    tags = value_tags(header)
    if "ModalityLUTSequence" in header:
        raise _Refused("has a table in place of slope and intercept (Modality LUT): convert it")
    slope, intercept = rescale(tags)
    window = value_range or _own_window(tags)
    rescaled = (slope, intercept) != (1, 0)
    if window is None and (stored.dtype != np.uint8 or int(header.BitsStored) != 8 or rescaled):
        raise _Refused(
            f"has {header.BitsStored} bits per pixel and no window of its own: say which values "
            "are black and white with --value-range LOW,HIGH"
        )
    values = slope * stored.astype(np.float64) + intercept
    shown = stored if window is None else windowed(values, window)
    return 255 - shown if header.PhotometricInterpretation == GREY[0] else shown


def _own_window(tags: Mapping[str, Any]) -> tuple[float, float] | None:
    """Returns the first window of the file's tags as (black, white); None where it has none.

    LINEAR, the default, is black at center - 0.5 - (width - 1) / 2 and white (width - 1) further;
    LINEAR_EXACT at center - width / 2 and width further.
    """
    if "VOILUTSequence" in tags:
        raise _Refused(
            "has a table in place of a window (VOI LUT): declare one with --value-range LOW,HIGH"
        )
    centers, widths = tags.get("WindowCenter"), tags.get("WindowWidth")
    if centers in (None, "") or widths in (None, ""):
        return None
    center, width = (
        float(value if isinstance(value, (str, float, int)) else value[0])
        for value in (centers, widths)
    )
    function = str(tags.get("VOILUTFunction") or "LINEAR")
    if function == "LINEAR" and width > 1 and math.isfinite(center + width):
        low = center - 0.5 - (width - 1) / 2
        return low, low + width - 1
    if function == "LINEAR_EXACT" and width > 0 and math.isfinite(center + width):
        return center - width / 2, center + width / 2
    raise _Refused(
        f"has the window {function} of width {width:g}, read are LINEAR and LINEAR_EXACT: declare "
        "one with --value-range LOW,HIGH"
    )
