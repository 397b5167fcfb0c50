"""Data sets that are Python objects: an Images, a torch Dataset, a Hugging Face dataset."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps

from dpgen.data.formats.arrays import holds_arrays, memory_records, tensor_values
from dpgen.data.formats.labels import label_name, settled, tell_unlabelled
from dpgen.data.formats.location import Split
from dpgen.data.formats.pictures import CHANNELS, as_array
from dpgen.data.formats.records import (
    Records,
    array_records,
    as_labels,
    as_pixels,
    image_layout,
    warn_of_dim,
)
from dpgen.data.formats.splits import split_of
from dpgen.images.classes import NO_CLASSES, settle_classes
from dpgen.images.images import Images, to_uint8

N_REPEATED = 8  # records that are fetched twice, to notice a random transform
KEPT_BYTES = 2**30  # images up to here are kept from the pass that collects the labels

Item = Callable[[int], tuple[object, object]]  # position to (image, label or None)


def images_records(
    images: Images, value_range: tuple[float, float] | None, classes: tuple[str, ...] | None
) -> Records:
    """Reads the records of an ``Images``, rounded to uint8. Where it names no classes and none are
    declared, there are none, and every label must be zero.
    """
    if value_range is not None:
        raise ValueError(
            "value_range does not go with Images, whose pixels lie in [-1, 1]: leave it out"
        )
    pixels, labels = images.pixels, images.labels
    if not (isinstance(pixels, torch.Tensor) and pixels.ndim == 4 and pixels.is_floating_point()):
        raise ValueError("images.pixels must be a float tensor (N, C, H, W) in [-1, 1]")
    if not isinstance(labels, torch.Tensor):
        raise ValueError(f"images.labels must be an int64 tensor (N,), got {type(labels).__name__}")
    if len(pixels) and not -1 <= pixels.min() <= pixels.max() <= 1:  # false for NaN too
        raise ValueError(
            f"images.pixels must be numbers in [-1, 1], got {pixels.min():g}..{pixels.max():g}: "
            "scale them first"
        )
    array = to_uint8(pixels).permute(0, 2, 3, 1).contiguous().cpu().numpy()
    if len(array):
        image_layout(array.shape, "images.pixels, channels last,")
    found = as_labels(labels.cpu().numpy(), "images")
    if images.class_names is not None:
        return array_records("images", array, found, tuple(images.class_names), "images")
    declared = classes not in (None, NO_CLASSES) or bool(found.any())
    names = settle_classes(None, classes, name="images") if declared else NO_CLASSES
    return array_records("images", array, found, names, "images", classes_declared=declared)


def object_records(
    dataset: Any,  # noqa: ANN401
    split: Split,
    value_range: tuple[float, float] | None,
    classes: tuple[str, ...] | None,
    label_column: str | None = None,
) -> Records:
    """Reads the records of a map-style torch ``Dataset``, a Hugging Face dataset, a mapping of its
    splits, or arrays (`dpgen.data.formats.arrays`).

    A data set has no splits of its own here and serves all alike; a mapping is asked for the split
    by name. Float tensors need their value range. A data set that returns another image the second
    time is refused.
    """
    hugging_face = isinstance(getattr(_any_split(dataset), "features", None), Mapping)
    if label_column is not None and not hugging_face:
        raise ValueError(
            "a label column is one of a Hugging Face data set, or of files: leave "
            f"label_column={label_column!r} out"
        )
    if holds_arrays(dataset):
        return memory_records(dataset, split, value_range, classes)
    if isinstance(dataset, Mapping):
        dataset = _of_split(dataset, split)
    word = type(dataset).__name__
    if not (hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__")):
        raise ValueError(
            "data must be a path, arrays as X or (X, y), an Images, or a data set with len and "
            f"index, got {word}"
        )
    if not len(dataset):
        raise ValueError(f"{word} must hold at least one record, got none")
    item_fn, names = _hugging_face(dataset, label_column) if hugging_face else _torch(dataset)
    kind = "huggingface" if hugging_face else "torch"

    def name_of(index: int) -> str:
        return f"{word} record {index}"

    def decode(index: int) -> np.ndarray:
        return item_pixels(item_fn(index)[0], name_of(index), value_range)

    for index in range(min(N_REPEATED, len(dataset))):
        if not np.array_equal(decode(index), decode(index)):
            raise ValueError(
                f"{name_of(index)} must be the same image every time, got two: remove the random "
                "transform"
            )
    first = decode(0)
    fits = len(dataset) * first.size <= KEPT_BYTES
    pixels = np.empty((len(dataset), *first.shape), np.uint8) if fits else None
    low, high = 255, 0
    found: list[object] = []
    for index in range(len(dataset)):
        item, label = item_fn(index)
        found.append(label)
        if pixels is not None:
            array = item_pixels(item, name_of(index), value_range)
            low, high = min(low, int(array.min())), max(high, int(array.max()))
            if array.shape == first.shape:
                pixels[index] = array
            else:
                pixels = None
    if pixels is not None:
        warn_of_dim(low, high, word, value_range)
    labelled = [label is not None for label in found]
    if any(labelled) != all(labelled):
        raise ValueError(
            f"{name_of(labelled.index(False))} must have a label like the other records, got none"
        )
    if not all(labelled):
        return Records(
            kind, np.zeros(len(found), np.int64), names or NO_CLASSES, decode, name_of, pixels
        )
    labels, settled_names = settled(
        [_value(label, name_of(i)) for i, label in enumerate(found)], classes, name=word,
        stated=names, place="a ClassLabel column" if hugging_face else "its `classes`",
    )  # fmt: skip
    return Records(
        kind, labels, settled_names, decode, name_of, pixels, classes_declared=names is None
    )


def item_pixels(item: object, name: str, value_range: tuple[float, float] | None) -> np.ndarray:
    """Returns one image as uint8 (H, W, C).

    Takes a Pillow image, a (C, H, W) or (H, W) tensor, a (H, W, C) or (H, W) array.
    """
    if isinstance(item, Image.Image):
        if value_range is not None:
            raise ValueError(f"value_range is for float arrays, {name} is a picture: leave it out")
        if item.mode not in CHANNELS or "transparency" in item.info:
            raise ValueError(
                f"{name} must be grey or RGB without alpha, 8 bits, got mode {item.mode}: convert "
                "it"
            )
        return as_array(ImageOps.exif_transpose(item).convert(CHANNELS[item.mode]))
    if isinstance(item, torch.Tensor):
        array = tensor_values(item)
        array = array.transpose(1, 2, 0) if array.ndim == 3 else array
    elif isinstance(item, np.ndarray) and not np.ma.is_masked(item):
        array = item
    else:
        raise ValueError(
            f"{name} must be a Pillow image, a tensor or an array, got {type(item).__name__}"
        )
    array = array[..., None] if array.ndim == 2 else array
    if array.ndim != 3:
        raise ValueError(f"{name} must have two or three axes, got shape {array.shape}")
    image_layout(array.shape, name)
    return np.ascontiguousarray(as_pixels(array, name, value_range))


def _value(label: object, name: str) -> int | str:
    if isinstance(label, str):
        return label
    try:
        value: Any = label.item() if isinstance(label, torch.Tensor | np.generic) else label
        return operator.index(value)
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(f"{name}: the label must be a whole number, got {label!r}") from None


def _of_split(splits: Mapping[str, Any], split: Split) -> Any:  # noqa: ANN401
    """Returns the one split of a mapping that is called so, or by another word for it, as
    ``Testing``.
    """
    named = [key for key in splits if split_of(str(key)) == split]
    if split in splits or len(named) == 1:
        return splits[split if split in splits else named[0]]
    if split == "all" and len(splits) == 1:
        return next(iter(splits.values()))
    raise ValueError(
        f"split must be one of the data set's {sorted(splits)}, got {split!r}: name one"
    )


def _any_split(dataset: Any) -> Any:  # noqa: ANN401
    """Returns the first data set of a mapping of splits; any other as it is."""
    return next(iter(dataset.values()), None) if isinstance(dataset, Mapping) else dataset


def _torch(dataset: Any) -> tuple[Item, tuple[str, ...] | None]:  # noqa: ANN401
    """Returns the items of a torch data set, and its classes where it names them, as torchvision's
    do.
    """

    def item_of(index: int) -> tuple[object, object]:
        item = dataset[index]
        if not isinstance(item, (tuple, list)):
            return item, None
        if len(item) != 2:
            raise ValueError(
                f"record {index} must be an image or (image, label), got {len(item)} values"
            )
        return item[0], item[1]

    classes = getattr(dataset, "classes", None)
    if not isinstance(classes, (list, tuple)) or not all(isinstance(c, str) for c in classes):
        return item_of, None
    return item_of, tuple(classes) or None


def _hugging_face(
    dataset: Any, label_column: str | None  # noqa: ANN401
) -> tuple[Item, tuple[str, ...] | None]:  # fmt: skip
    """Returns the items of a Hugging Face data set: its Image column and, if there is one, its
    ClassLabel column, or the label column that is named.
    """
    kinds = {name: type(feature).__name__ for name, feature in dataset.features.items()}
    image = _only_column(kinds, "Image", "image")
    others = [name for name, kind in kinds.items() if kind != "Image"]
    label = _only_column(kinds, "ClassLabel", "label") if label_column is None else None
    label = label or label_name(others, "the data set", label_column)
    if image is None:
        raise ValueError(f"the data set must have an Image column, got {kinds}")
    if label is None and len(kinds) > 1:
        rest = (name for name in kinds if name != image)
        subject = "the data set has no column that is named like labels"
        tell_unlabelled(subject, rest, stacklevel=2)
    names = getattr(dataset.features[label], "names", None) if label else None

    def item_of(index: int) -> tuple[object, object]:
        item = dataset[index]
        return item[image], None if label is None else item[label]

    return item_of, tuple(names) if names else None


def _only_column(kinds: Mapping[str, str], kind: str, preferred: str) -> str | None:
    columns = [name for name, found in kinds.items() if found == kind]
    if len(columns) > 1 and preferred not in columns:
        cure = "name it with --label-column" if preferred == "label" else "rename it to 'image'"
        raise ValueError(
            f"the data set must have one {kind} column, got {columns}: choose one, and {cure}"
        )
    return preferred if preferred in columns else next(iter(columns), None)
