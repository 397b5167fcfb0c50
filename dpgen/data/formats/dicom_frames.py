"""Compressed frames of DICOM: JPEG baseline, as any JPEG file is read, and lossless JPEG 2000.

Other compressions need packages that are not among those of the extra, and are refused by name.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

from dpgen.data.formats.damage import UNREADABLE, Damaged
from dpgen.data.formats.jpeg import JPEG_MAGIC

JPEG_BASELINE, JPEG_2000 = "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.90"
COLOURS = {  # colour spaces of three samples, and whether a frame of each compression may have them
    JPEG_BASELINE: ("YBR_FULL_422", "YBR_FULL"),
    JPEG_2000: ("YBR_RCT", "RGB"),
}
_CODESTREAM = b"\xff\x4f\xff\x51"  # start, then sizes


def compressed_values(header: Any, decode_fn: Callable[[bytes], np.ndarray]) -> np.ndarray:  # noqa: ANN401
    """Decodes the one compressed frame of a file: (H, W) or (H, W, 3), as stored before any window.

    Args:
        header: of pydicom; its size and its transfer syntax are those that are read.
        decode_fn: from a JPEG file to uint8 (H, W, C); refuses damage.

    Raises:
        Damaged: the frame is none, or not of the size that the header says.
    """
    from pydicom.encaps import get_frame

    frame = get_frame(header.PixelData, 0, number_of_frames=1)
    size = int(header.Rows), int(header.Columns)
    if header.file_meta.TransferSyntaxUID == JPEG_2000:
        if not frame.startswith(_CODESTREAM) or _size(frame) != size:
            raise Damaged(f"its frame is no JPEG 2000 of {size[1]}x{size[0]} pixels")
        decoders = logging.getLogger("pydicom.pixels.decoders.base")
        told, decoders.disabled = decoders.disabled, True  # of what is raised, too
        try:
            return np.asarray(header.pixel_array)
        finally:
            decoders.disabled = told
    if not frame.startswith(JPEG_MAGIC):
        raise Damaged("its frame is no JPEG")
    _require_luminance(frame)
    values = decode_fn(frame)
    if values.shape != (*size, int(header.SamplesPerPixel)):
        raise Damaged(
            f"its frame has the shape {values.shape}, and its header says {size[0]}x{size[1]} of "
            f"{header.SamplesPerPixel} samples"
        )
    return values if values.shape[2] == 3 else values[..., 0]


def _size(frame: bytes) -> tuple[int, int]:
    """Returns height and width of a JPEG 2000 codestream, from its header."""
    right, bottom, left, top = (int.from_bytes(frame[k : k + 4]) for k in (8, 12, 16, 20))
    return bottom - top, right - left


def _require_luminance(frame: bytes) -> None:
    """Refuses a JPEG whose own marks say RGB, where the header says luminance and colour."""
    try:
        with Image.open(io.BytesIO(frame), formats=("JPEG",)) as picture:
            names = bytes(layer[0] for layer in picture.layer)  # type: ignore[attr-defined]
            as_rgb = picture.info.get("adobe_transform") == 0 or names == b"RGB"
            if len(names) == 3 and as_rgb:
                raise Damaged("its frame says that it is RGB, and its header that it is not")
    except Damaged:
        raise
    except UNREADABLE as error:
        raise Damaged(str(error)) from error
