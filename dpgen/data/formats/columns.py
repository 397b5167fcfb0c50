"""The columns of a Parquet file: which are pictures and labels, and what labels may be."""

from __future__ import annotations

import warnings
from typing import Any

from dpgen.data.formats.labels import label_name, tell_other_labels, tell_unlabelled
from dpgen.data.formats.split_columns import SPLIT_COLUMNS, refuse_flags
from dpgen.data.formats.unit_ids import check_unit_column
from dpgen.storage.files import parse_json


def columns_of(
    schema: Any, name: str, unit: str | None = None, label_column: str | None = None,  # noqa: ANN401
) -> tuple[str, str | None, tuple[str, ...] | None]:  # fmt: skip
    """Returns the image column, the label column or None, and the class names or None.

    Args:
        schema: of an Arrow table.
        name: of the file, for messages.
        unit: the column of unit ids, which is neither.
        label_column: the column of labels, where one was named.
    """
    import pyarrow as pa

    features = _features((schema.metadata or {}).get(b"huggingface"), name)
    types = {key: value.get("_type") for key, value in features.items()}
    images = [key for key, kind in types.items() if kind == "Image"] or [
        field.name
        for field in schema
        if pa.types.is_struct(field.type) and field.type.get_field_index("bytes") >= 0
    ]
    labels = [key for key, kind in types.items() if kind == "ClassLabel"]
    image = _one(images, "image", name)
    others = [column for column in schema.names if column not in images]
    if unit is not None:
        check_unit_column(unit, others, name)
        others.remove(unit)
    known = label_column is None and bool(labels)
    label = _one(labels, "label", name) if known else label_name(others, name, label_column)
    if label is not None and label == unit:
        raise ValueError(f"{name}: {unit!r:.60} holds labels and cannot hold unit ids")
    if image is None or not _holds_pictures(schema, image):
        kinds = ", ".join(f"{field.name}: {field.type!s:.40}" for field in schema)
        raise ValueError(
            f"{name} must have an image column of {{bytes, path}}, encoded pictures as datasets "
            f"saves them, got {kinds!s:.200}: save it so, as pictures in a folder, or arrays of "
            "pixels as npz"
        )
    if label is not None and schema.get_field_index(label) < 0:
        raise ValueError(f"{name} must have one column {label!r:.60}, got {schema.names!s:.200}")
    refuse_flags((one for one in others if one != label), name)
    tell_other_labels(others, label, label_column, name, stacklevel=2)
    if len(images) > 1:
        passed = ", ".join(column for column in images if column != image)
        warnings.warn(
            f"{name}: pictures are read from {image!r:.60}, and {passed!s:.200} passed over",
            stacklevel=2,
        )
    rest = [column for column in others if column.lower() not in SPLIT_COLUMNS]
    if label is None and rest:
        tell_unlabelled(f"{name}: no column is named like labels", rest, stacklevel=2)
    names = features.get(label, {}).get("names") if label else None
    if names and not (isinstance(names, list) and all(isinstance(n, str) for n in names)):
        raise ValueError(f"{name}: class names must be a list of text, got {names!r:.200}")
    return image, label, tuple(names) if names else None


def _features(metadata: bytes | None, name: str) -> dict[str, dict[str, Any]]:
    """Reads what Hugging Face says of each column, where it says it."""
    if not metadata:
        return {}
    try:
        features = parse_json(metadata.decode(), "it")["info"]["features"]
        return {key: value for key, value in features.items() if isinstance(value, dict)}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{name}: the Hugging Face metadata of its schema cannot be read: {error}"
        ) from error


def _holds_pictures(schema: Any, column: str) -> bool:  # noqa: ANN401
    """Returns whether there is one column of this name, of encoded pictures with or without a
    path.
    """
    import pyarrow as pa

    index = schema.get_field_index(column)  # -1, too, where two have this name
    if index < 0:
        return False
    kind = schema.field(index).type
    if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
        kind = kind.field("bytes").type
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _one(columns: list[str], preferred: str, name: str) -> str | None:
    if preferred in columns:
        return preferred
    if len(columns) > 1:
        cure = "name it with --label-column" if preferred == "label" else "rename it to 'image'"
        raise ValueError(
            f"{name} must have one {preferred} column, got {columns!s:.200}: choose one, and {cure}"
        )
    return columns[0] if columns else None


def label_values(column: Any, name: str) -> list[int | str]:  # noqa: ANN401
    """Returns the values of a label column: whole numbers, truth values or text, none missing.

    Args:
        column: of an Arrow table.
        name: of the file, for messages.
    """
    import pyarrow as pa

    if column.null_count:
        raise ValueError(
            f"{name}: every record must have a label, got {column.null_count} without: fill them "
            "in, or leave these records out"
        )
    if not len(column):
        return []
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    if not (text or pa.types.is_integer(kind) or pa.types.is_boolean(kind)):
        listed = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_struct(kind)
        cure = (
            "a record is of one class: save the number or the name of one"
            if listed
            else "convert the column to int64 or to text"
        )
        raise ValueError(
            f"{name}: labels must be whole numbers or names, got {kind!s:.60}: {cure}"
        )
    values: list[int | str] = column.to_pylist()
    return values
