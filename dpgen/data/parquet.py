"""Parquet in the Hugging Face layout: `image` is {bytes, path}, `label` a number with a name."""

from __future__ import annotations

import bisect
import itertools
import json
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from dpgen.data.location import Located
from dpgen.data.pictures import decode_picture
from dpgen.data.records import Records, as_labels, check_labels, numbered_classes, require_memory


def pyarrow_parquet() -> Any:  # noqa: ANN401
    """The module pyarrow.parquet; the error without it names the extra."""
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise ValueError("Parquet needs pyarrow: pip install 'dpgen[parquet]'") from error
    return pyarrow.parquet


def parquet_records(located: Located) -> Records:
    """Records of Parquet files; classes as the schema names them, else numbered.

    The encoded pictures are held in memory: row groups cannot be read one record at a time. Larger
    sets belong in a folder or in tar shards.
    """
    parquet = pyarrow_parquet()
    import pyarrow as pa

    parts: list[tuple[Any, str, int]] = []  # pictures, their file, the row of the first of them
    labels: list[np.ndarray] = []
    all_labels: list[np.ndarray] = []
    known: tuple[str | None, tuple[str, ...] | None] | None = None
    chosen = {file.path for file in located.chosen}
    for path in (file.path for file in located.files):
        try:
            with parquet.ParquetFile(path) as file:
                image, label, names = _columns(file.schema_arrow, str(path))
                taken = ([image] if path in chosen else []) + ([label] if label else [])
                cure = "export it as a folder or as tar shards"
                if path in chosen:
                    require_memory(_unpacked(file), path, cure)
                table = file.read(columns=taken)
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise ValueError(f"{path} is damaged or truncated: {error}") from error
        known = known or (label, names)
        if known != (label, names):
            raise ValueError(
                f"{path} must have the label column and class names of the other files"
            )
        found = _labels(table.column(label), str(path)) if label else np.zeros(len(table), np.int64)
        all_labels.append(found)
        if names:
            check_labels(found, len(names), str(path))
        if path in chosen:
            labels.append(found)
            row = 0
            for chunk in table.column(image).chunks:
                parts.append((chunk, str(path), row))
                row += len(chunk)
    ends = list(itertools.accumulate(len(chunk) for chunk, _, _ in parts))
    if names is None and label:
        names = numbered_classes(np.concatenate(all_labels), str(located.root))

    def name_of(index: int) -> str:
        part = bisect.bisect_right(ends, index)
        chunk, path, row = parts[part]
        return f"{path} record {row + index - (ends[part] - len(chunk))}"

    def decode(index: int) -> np.ndarray:
        part = bisect.bisect_right(ends, index)
        chunk = parts[part][0]
        item = chunk[index - (ends[part] - len(chunk))].as_py()
        data = item["bytes"] if isinstance(item, dict) else item
        if data is None:
            raise ValueError(
                f"{name_of(index)} must hold the bytes of its picture, got none: embed the files"
            )
        return decode_picture(data, name_of(index))

    return Records("parquet", np.concatenate(labels), names or ("all",), decode, name_of)


def image_schema(class_names: tuple[str, ...]) -> Any:  # noqa: ANN401
    """The Arrow schema by which Hugging Face `datasets` sees an Image and a ClassLabel."""
    import pyarrow as pa

    features = {
        "image": {"_type": "Image"},
        "label": {"names": list(class_names), "_type": "ClassLabel"},
    }
    picture = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    return pa.schema([("image", picture), ("label", pa.int64())], metadata=metadata)


def picture_table(
    schema: Any,  # noqa: ANN401
    pictures: Iterable[bytes],
    names: Sequence[str],
    labels: np.ndarray,
) -> Any:  # noqa: ANN401
    """Encoded pictures and their labels as an Arrow table."""
    import pyarrow as pa

    rows = [{"bytes": data, "path": name} for data, name in zip(pictures, names, strict=True)]
    columns = [pa.array(rows, schema.field("image").type), pa.array(labels, pa.int64())]
    return pa.Table.from_arrays(columns, schema=schema)


def _columns(schema: Any, name: str) -> tuple[str, str | None, tuple[str, ...] | None]:  # noqa: ANN401
    """The image column, the label column or None, and the class names or None."""
    import pyarrow as pa

    metadata = (schema.metadata or {}).get(b"huggingface")
    try:
        features = json.loads(metadata)["info"]["features"] if metadata else {}
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{name}: the Hugging Face metadata of its schema cannot be read: {error}"
        ) from error
    types = {
        key: (value or {}).get("_type")
        for key, value in features.items()
        if isinstance(value, dict)
    }
    images = [key for key, kind in types.items() if kind == "Image"] or [
        field.name
        for field in schema
        if pa.types.is_struct(field.type) and field.type.get_field_index("bytes") >= 0
    ]
    labels = [key for key, kind in types.items() if kind == "ClassLabel"] or [
        field.name for field in schema if field.name == "label"
    ]
    image, label = _one(images, "image", name), _one(labels, "label", name)
    if image is None or image not in schema.names:
        raise ValueError(f"{name} must have an image column of {{bytes, path}}, got {schema.names}")
    names = features.get(label, {}).get("names") if label else None
    return image, label, tuple(names) if names else None


def _one(columns: list[str], preferred: str, name: str) -> str | None:
    if preferred in columns:
        return preferred
    if len(columns) > 1:
        raise ValueError(
            f"{name} must have one {preferred} column, got {columns}: rename one to {preferred!r}"
        )
    return columns[0] if columns else None


def _labels(column: Any, name: str) -> np.ndarray:  # noqa: ANN401
    if column.null_count:
        raise ValueError(f"{name}: every record must have a label, got {column.null_count} without")
    return as_labels(column.to_numpy(), name)


def _unpacked(file: Any) -> int:  # noqa: ANN401
    """Bytes of a file in memory, from its footer.

    Not per column: on a damaged footer pyarrow's ``RowGroupMetaData.column`` ends the process.
    """
    metadata = file.metadata
    return sum(metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups))
