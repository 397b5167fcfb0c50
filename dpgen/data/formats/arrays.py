"""Images and labels as arrays in memory: ``X``, ``(X, y)``, or a dictionary of them."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dpgen.data.formats.archive_keys import CLASS_NAMES, keys_by_split
from dpgen.data.formats.labels import settled
from dpgen.data.formats.location import Split
from dpgen.data.formats.records import (
    Records,
    array_records,
    as_labels,
    as_pixels,
    image_layout,
    warn_of_dim,
)
from dpgen.data.formats.splits import chosen_splits
from dpgen.images.classes import NO_CLASSES

LOOKED_AT = 4096  # images of a set that are checked for the range of their pixels
ARRAYS = np.ndarray | torch.Tensor


def holds_arrays(data: object) -> bool:
    """Returns whether data are arrays: one, a pair ``(X, y)``, or a dictionary of arrays."""
    if isinstance(data, Mapping):
        return bool(data) and all(isinstance(one, ARRAYS | list | tuple) for one in data.values())
    if isinstance(data, tuple):
        return len(data) == 2 and isinstance(data[0], ARRAYS)
    return isinstance(data, ARRAYS)


def memory_records(
    data: Any,  # noqa: ANN401
    split: Split,
    value_range: tuple[float, float] | None,
    classes: tuple[str, ...] | None,
) -> Records:
    """Reads records from arrays for which `holds_arrays` is true.

    Images are a numpy array (N, H, W) or (N, H, W, C), or a tensor (N, H, W) or (N, C, H, W); uint8
    or, with their value range, floats. Labels are whole numbers or text, (N,). A dictionary has the
    names of an npz archive; its ``class_names`` names the classes. Labels without named classes
    need ``classes``: they are never counted.
    """
    parts: list[tuple[Any, Any]]
    name, stated = type(data).__name__, None
    if isinstance(data, Mapping):
        name = "the dictionary"
        parts, stated = _of_split(data, split)
    else:
        parts = [data if isinstance(data, tuple) else (data, None)]
    labelled = parts[0][1] is not None
    pixels = [_pixels(images, f"{name}'s images", value_range, labelled) for images, _ in parts]
    for array in pixels:
        if array.shape[1:] != pixels[0].shape[1:]:
            raise ValueError(f"{name} must hold images of one shape in all splits")
    whole = pixels[0] if len(pixels) == 1 else np.concatenate(pixels)
    if not labelled:
        zeros = np.zeros(len(whole), np.int64)
        return array_records("array", whole, zeros, stated or NO_CLASSES, name)
    values = [value for _, labels in parts for value in _values(labels, f"{name}'s labels")]
    if len(values) != len(whole):
        raise ValueError(
            f"{name} must hold one label per image, got {len(whole)} images and {len(values)} "
            "labels"
        )
    found, names = settled(values, classes, name=name, stated=stated, place=CLASS_NAMES)
    return array_records("array", whole, found, names, name, classes_declared=stated is None)


def _of_split(
    data: Mapping[Any, Any], split: Split
) -> tuple[list[tuple[Any, Any]], tuple[str, ...] | None]:
    """Returns images and labels of the split from a dictionary, and its class names, if any."""
    names = [str(key) for key in data]
    keys = keys_by_split(names, Path("the dictionary"))
    by_name = dict(zip(names, data.values(), strict=True))
    wanted = chosen_splits(keys, split, "the dictionary")
    told = by_name.get(CLASS_NAMES)
    stated = None if told is None else tuple(np.asarray(told).tolist())
    if stated is not None and not all(isinstance(one, str) for one in stated):
        raise ValueError(f"{CLASS_NAMES} must be a list of text, got {told!r:.60}")
    chosen = [one for place, one in sorted(keys.items()) if place in wanted]
    return [
        (by_name[one.images], None if one.labels is None else by_name[one.labels])
        for one in chosen
    ], stated


def _pixels(
    images: Any, name: str, value_range: tuple[float, float] | None, labelled: bool  # noqa: ANN401
) -> np.ndarray:  # fmt: skip
    if isinstance(images, torch.Tensor):
        array = tensor_values(images)
        refuse_counted_last(array.shape, name, labelled)
        if array.ndim == 3 and len(array) in (1, 3) and not labelled:
            raise ValueError(
                f"{name} must be (N, H, W) or (N, C, H, W), got shape {array.shape}, which is one "
                "picture or a set of few grey ones: give images[None] if it is one picture, "
                "images[:, None] if it is a set"
            )
        if array.ndim == 4 and array.shape[1] not in (1, 3):
            raise ValueError(
                f"{name} must be a tensor (N, C, H, W) of 1 or 3 channels, got shape {array.shape}"
            )
        array = array.transpose(0, 2, 3, 1) if array.ndim == 4 else array
        array = np.ascontiguousarray(array[..., None] if array.ndim == 3 else array)
    else:
        if np.ma.is_masked(images):
            raise ValueError(
                f"{name} must be whole, got masked pixels, whose values are not told: fill them, "
                "as images.filled(0) does"
            )
        array = np.asarray(images)
    return image_array(array, name, value_range, labelled)


def tensor_values(tensor: torch.Tensor) -> np.ndarray:
    """Returns a tensor as an array; floats of 16 bits that NumPy does not have as those of 32."""
    plain = tensor.detach().cpu()
    return np.asarray((plain.float() if plain.dtype == torch.bfloat16 else plain).numpy())


def refuse_counted_last(shape: tuple[int, ...], name: str, labelled: bool) -> None:
    """Refuses unlabelled grey pictures that may be counted by the last axis: the first two are of
    one length, and the last is not.
    """
    if len(shape) == 3 and shape[0] == shape[1] != shape[2] and not labelled:
        raise ValueError(
            f"{name} must be (N, H, W), got shape {shape}, in which the pictures may be counted by "
            f"the last axis: give images.transpose(2, 0, 1) if they are {shape[2]} pictures, "
            f"images[..., None] (of a tensor images[:, None]) if they are {shape[0]}"
        )


def image_array(
    array: np.ndarray, name: str, value_range: tuple[float, float] | None, labelled: bool
) -> np.ndarray:
    """Converts images (N, H, W) or (N, H, W, C), channels last, to uint8 (N, H, W, C). Raises
    ValueError for an array that may be one picture.
    """
    if array.ndim not in (3, 4):
        cure = ": images.reshape(-1, H, W) makes them of rows of pixels" if array.ndim == 2 else ""
        raise ValueError(f"{name} must be (N, H, W) or (N, H, W, C), got shape {array.shape}{cure}")
    if array.ndim == 3 and array.shape[2] in (1, 3):
        raise ValueError(
            f"{name} must be (N, H, W) or (N, H, W, C), got shape {array.shape}, which is one "
            "picture or a set of narrow grey ones: save images[None] if it is one picture, "
            "images[..., None] if it is a set"
        )
    refuse_counted_last(array.shape, name, labelled)
    if array.ndim == 3 and len(array) == 3 and not labelled:
        warnings.warn(
            f"{name}, {array.shape}, is read as three grey pictures: if it is one in colour, save "
            "images.transpose(1, 2, 0)[None]",
            stacklevel=2,
        )
    array = array[..., None] if array.ndim == 3 else array
    if len(array):
        image_layout(array.shape, name)
    pixels = as_pixels(array, name, value_range)
    if len(pixels):
        some = pixels[:: -(-len(pixels) // LOOKED_AT)]
        warn_of_dim(int(some.min()), int(some.max()), name, value_range)
    return pixels


def _values(labels: Any, name: str) -> Sequence[int | str]:  # noqa: ANN401
    if isinstance(labels, torch.Tensor):
        labels = labels.detach().cpu().numpy()
    array = np.asarray(labels)
    if array.dtype.kind == "U" and array.ndim == 1:
        return [str(value) for value in array.tolist()]
    if array.dtype.kind == "b" and array.ndim == 1:
        return [bool(value) for value in array]
    return [int(value) for value in as_labels(array, name)]
