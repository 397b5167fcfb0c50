"""Records as a reader returns them: labels in memory, pixels decoded one record at a time."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from dpgen.images.images import check_class_names

SCALING_BYTES = 2**26  # floats are scaled in pieces: their float64 copy is eight times the pixels


@dataclass(frozen=True)
class Records:
    """The records of one location in a fixed order, before any resize.

    Guarantees: labels are valid for ``class_names``; there is at least one record.

    Args:
        kind: the format, as printed.
        labels: (N,), int64.
        class_names: one name per class, in label order.
        decode_fn: maps a position to uint8 (H, W, C), C 1 or 3.
        name_fn: maps a position to the record's name in an error message.
        pixels: all records at once, uint8 (N, H, W, C), if the format holds them so; else None.
        public: True for the embedded data sets only.
        classes_declared: whether the classes were named when the data were opened, because the data
            do not name them.
        units: the id of each record's unit, by position; None if it was not requested.
        silos: the id of each record's silo, by position; None if it was not requested.
        max_records_per_unit: the most records that a unit has, if they were counted.
        uncounted: all of them before their units were counted; None if they were not.
        passed_over: why what lies in the data files beside the records is not read, by its kind.
    """

    kind: str
    labels: np.ndarray
    class_names: tuple[str, ...]
    decode_fn: Callable[[int], np.ndarray]
    name_fn: Callable[[int], str]
    pixels: np.ndarray | None = None
    public: bool = False
    classes_declared: bool = False
    units: tuple[str, ...] | None = None
    silos: tuple[str, ...] | None = None
    max_records_per_unit: int | None = None
    uncounted: Records | None = None
    passed_over: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not len(self.labels):
            raise ValueError(f"the {self.kind} data must hold at least one record, got none")
        check_class_names(self.class_names)
        check_labels(self.labels, len(self.class_names), self.kind)


def array_records(
    kind: str, pixels: np.ndarray, labels: np.ndarray, class_names: tuple[str, ...], name: str,
    *, classes_declared: bool = False,
) -> Records:  # fmt: skip
    """Makes the records of one array, uint8 (N, H, W, C)."""
    if len(pixels) != len(labels):
        raise ValueError(
            f"{name} must hold one label per image, got {len(pixels)} images and {len(labels)} "
            "labels"
        )
    return Records(
        kind,
        labels,
        class_names,
        lambda i: np.asarray(pixels[i]),
        lambda i: f"{name} record {i}",
        pixels,
        classes_declared=classes_declared,
    )


def as_labels(values: object, name: str) -> np.ndarray:
    """Returns the labels, (N,) or (N, 1), as int64 (N,). Raises ValueError unless they are whole
    numbers.
    """
    labels = np.asarray(values)
    labels = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise ValueError(
            f"{labels_of(name)} must be whole numbers of shape (N,), got {labels.dtype} "
            f"{labels.shape}: {_label_cure(labels)}"
        )
    if labels.dtype == np.uint64 and len(labels) and labels.max() > np.iinfo(np.int64).max:
        raise ValueError(f"{labels_of(name)} must fit int64, got {labels.max()}")
    return labels.astype(np.int64)


def labels_of(name: str) -> str:
    """Returns the words that name the labels of data, or of an array that is named for them."""
    return name if name.lower().endswith("labels") else f"{name}: labels"


def _label_cure(labels: np.ndarray) -> str:
    if labels.ndim == 2:
        return "a record is of one class: save labels.argmax(1) if each row marks one"
    if labels.ndim != 1:
        return "a record is of one class"
    return f"save them as labels.astype({'str' if labels.dtype.kind == 'S' else 'int'})"


def check_labels(labels: np.ndarray, n_classes: int, name: str, cure: str = "") -> None:
    """Refuses a label outside 0..n_classes - 1, naming the first record that has one."""
    bad = (labels < 0) | (labels >= n_classes)
    if bad.any():
        first = int(np.argmax(bad))
        raise ValueError(
            f"{labels_of(name)} must be in 0..{n_classes - 1}, got {labels[first]} at record "
            f"{first}{cure}"
        )


def image_layout(shape: tuple[int, ...], name: str) -> tuple[int, ...]:
    """Checks the shape of channels-last images, (..., H, W, C), and returns it."""
    if min(shape, default=0) < 1:
        raise ValueError(f"{name} must hold at least one pixel, got shape {shape}")
    if shape[-1] in (1, 3):
        return shape
    if len(shape) > 2 and shape[-3] in (1, 3):
        cure = "move the channels last, as transpose(0, 2, 3, 1) does"
    elif len(shape) == 4 and shape[2] in (1, 3) and shape[0] == shape[1]:
        cure = "put the pictures first, as transpose(3, 0, 1, 2) does"
    elif shape[-1] in (2, 4):
        cure = "drop the alpha channel"
    else:
        cure = "keep 1 or 3 of them"
    raise ValueError(
        f"{name} must have 1 or 3 channels on its last axis, got shape {shape}: {cure}"
    )


def as_pixels(array: Any, name: str, value_range: tuple[float, float] | None) -> np.ndarray:  # noqa: ANN401
    """Returns the array as uint8, same shape.

    Floats are scaled by u = round((v - low) / (high - low) * 255); without a range, NaN and values
    outside it raise ValueError. So do other integers, because their range is unknown.

    Args:
        array: uint8 or float, any shape.
        name: the array's name in an error message.
        value_range: (low, high), the values of black and white; for floats only.
    """
    if array.dtype == np.uint8:
        if value_range is not None:
            raise ValueError(
                f"value_range is for float arrays, {name} is uint8: drop --value-range"
            )
        return np.asarray(array)
    if array.dtype.kind != "f":
        raise ValueError(
            f"{name} must be uint8 or float, got {array.dtype}: scale it to 0..255 and store it "
            "as uint8"
        )
    if value_range is None:
        raise ValueError(
            f"{name} is {array.dtype}: say which values are black and white with --value-range "
            "LOW,HIGH"
        )
    low, high = value_range
    flat = array.reshape(-1)
    scaled = np.empty(flat.shape, np.uint8)
    piece = SCALING_BYTES // 8
    for start in range(0, len(flat), piece):
        values = flat[start : start + piece].astype(np.float64)
        inside = (values >= low) & (values <= high)
        if not inside.all():
            bad = values[~inside][0]
            where = "a number" if np.isnan(bad) else f"in value_range [{low:g}, {high:g}]"
            raise ValueError(f"{name}: every pixel must be {where}, got {bad:g}")
        scaled[start : start + piece] = np.rint((values - low) / (high - low) * 255)
    return scaled.reshape(array.shape)


def warn_of_dim(
    low: int, high: int, name: str, value_range: tuple[float, float] | None
) -> None:
    """Warns the user who opens the data of pixels that use a small part of their range: half of a
    declared one, an eighth of 8 bits.

    Args:
        low, high: the smallest and the largest pixel, in 0..255.
        name: name of the data, for the message.
        value_range: black and white, as declared; None for uint8.
    """
    if high >= 32 if value_range is None else high - low >= 130:
        return
    black, white = value_range or (0, 255)
    first, last = (black + pixel / 255 * (white - black) for pixel in (low, high))
    cure = "scale them to 0..255"
    if value_range:
        cure = "declare --value-range (value_range= in Python)"
    warnings.warn(
        f"{name}: the pixels lie in {first:.3g}..{last:.3g} and black and white are {black:g} and "
        f"{white:g}: {cure} if that is not what they mean",
        stacklevel=2,
    )


def check_value_range(value_range: tuple[float, float] | None) -> None:
    """Refuses a range that is not two finite numbers, low before high."""
    if value_range is None:
        return
    if (
        len(value_range) != 2
        or not np.isfinite(value_range).all()
        or value_range[0] >= value_range[1]
    ):
        raise ValueError(
            f"value_range must be two finite numbers LOW,HIGH with LOW < HIGH, got {value_range}"
        )


def refuse_value_range(value_range: tuple[float, float] | None, kind: str) -> None:
    """Refuses a range for data of 8 bits, which have none to choose."""
    if value_range is not None:
        raise ValueError(
            f"value_range is for float arrays, {kind} data are 8-bit: drop --value-range"
        )


def require_memory(n_bytes: int, path: Path, cure: str) -> None:
    """Refuses a file whose unpacked content exceeds the machine's memory."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if n_bytes > memory:
        raise ValueError(
            f"{path} holds {n_bytes / 2**30:.1f} GiB once unpacked and must fit into memory, "
            f"{memory / 2**30:.1f} GiB: {cure}"
        )
