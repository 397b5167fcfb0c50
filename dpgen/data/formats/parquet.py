"""Parquet in the Hugging Face layout: `image` is {bytes, path}, `label` a number with a name."""

from __future__ import annotations

import bisect
import itertools
import json
import os
import resource
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from dpgen.data.formats.blocks import Pieces
from dpgen.data.formats.columns import columns_of, label_values
from dpgen.data.formats.format import Format, Head, Writer
from dpgen.data.formats.labels import settled
from dpgen.data.formats.location import Located
from dpgen.data.formats.pictures import decode_picture, encode_png, png_bytes
from dpgen.data.formats.records import Records, require_memory
from dpgen.data.formats.shards import Shard, new_file
from dpgen.data.formats.split_columns import (
    may_tell_splits,
    refuse_other_split,
    refuse_split_words,
    split_column,
    split_values,
)
from dpgen.data.formats.splits import chosen_splits
from dpgen.data.formats.unit_ids import unit_column, unit_name
from dpgen.images.classes import NO_CLASSES
from dpgen.storage.files import BOMB_BYTES, BOMB_RATIO, refuse_bomb, size_of


def pyarrow_parquet() -> Any:  # noqa: ANN401
    """Returns the module pyarrow.parquet; the error without it names the extra."""
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise ValueError("Parquet needs pyarrow: pip install pyarrow") from error
    return pyarrow.parquet


def recognise(head: Head) -> bool:
    """Returns whether a file begins like Parquet."""
    return head.data.startswith(b"PAR1")


def parquet_records(
    located: Located, value_range: tuple[float, float] | None, classes: tuple[str, ...] | None
) -> Records:
    """Reads the records of Parquet files; classes as the schema names them, else as declared.

    The encoded pictures are held in memory: row groups cannot be read one record at a time. Larger
    sets belong in a folder or in tar shards.
    """
    parts: list[tuple[Any, str, int]] = []  # pictures, their file, the row of the first of them
    values: list[int | str] = []
    units: list[str] = []
    read: list[bool] = []
    splits: list[str] = []  # of the records of the files that are read, by their column
    known: tuple[str | None, tuple[str, ...] | None] | None = None
    chosen = {file.path for file in located.chosen}
    column = unit_name(located, "Parquet data stand in a column")
    for path, split in ((file.path, file.split) for file in located.files):
        table, image, label, names, by = _read(
            path, path in chosen, located.split != "all", column, located.label_column
        )
        known = known or (label, names)
        if known != (label, names):
            raise ValueError(
                f"{path} must have the label column and class names of the other files"
            )
        found = label_values(table.column(label), str(path)) if label else [0] * len(table)
        if names:
            settled(found, None, name=str(path), stated=names)
        values += found
        read += [path in chosen] * len(found)
        if path in chosen:
            for other in {*table.column_names} - {image, label, column, by}:
                refuse_split_words(other, table.column(other).to_pylist(), str(path))
            if by and split:
                refuse_other_split(table.column(by), split, f"{path}: {by}")
            by_column = bool(by) and not split
            told = split_values(table.column(by), f"{path}: {by}") if by_column else None
            splits += [""] * len(table) if told is None else told
            if column is not None:
                units += unit_column(table.column(column), str(path))
            row = 0
            for chunk in table.column(image).chunks:
                parts.append((chunk, str(path), row))
                row += len(chunk)
    if not values:
        raise ValueError(f"{located.name} must hold at least one record, got none")
    kept = _of_split(splits, located)
    ends = list(itertools.accumulate(len(chunk) for chunk, _, _ in parts))
    declared = label is not None and names is None
    labels = np.zeros(len(values), np.int64)
    if label is not None:
        labels, names = settled(
            values, classes, name=located.name, stated=names,
            place="a ClassLabel in the schema",
        )  # fmt: skip

    def name_of(index: int) -> str:
        part = bisect.bisect_right(ends, index)
        chunk, path, row = parts[part]
        return f"{path} record {row + index - (ends[part] - len(chunk))}"

    def decode_at(index: int) -> np.ndarray:
        part = bisect.bisect_right(ends, index)
        chunk = parts[part][0]
        item = chunk[index - (ends[part] - len(chunk))].as_py()
        data = item["bytes"] if isinstance(item, dict) else item
        if data is None:
            raise ValueError(
                f"{name_of(index)} must hold the bytes of its picture, got none: embed the files"
            )
        return decode_picture(data, name_of(index), value_range)

    return Records(
        "parquet",
        labels[np.array(read, bool)][kept],
        names or NO_CLASSES,
        lambda i: decode_at(int(kept[i])),
        lambda i: name_of(int(kept[i])),
        classes_declared=declared,
        units=None if column is None else tuple(units[i] for i in kept.tolist()),
    )


def _of_split(splits: Sequence[str], located: Located) -> np.ndarray:
    """Returns the positions of the records that are read, of those of the files that are."""
    found = set(splits)
    if "" in found and len(found) > 1:
        raise ValueError(
            f"{located.name} must have a column of splits in every file or in none, or read "
            "everything with --split all"
        )
    wanted = chosen_splits(found, located.split, located.name)
    return np.flatnonzero([split in wanted for split in splits])


def _read(
    path: Path, with_pictures: bool, by_column: bool, unit: str | None, label_column: str | None
) -> tuple[Any, str, str | None, tuple[str, ...] | None, str | None]:
    """Reads one file: its table, the names of its columns of images and of labels, its classes, and
    its column of splits, if records are chosen by it.

    Args:
        path: of the file.
        with_pictures: whether its pictures are read.
        by_column: whether a column of splits, if there is one, is obeyed.
        unit: the column of unit ids, if they are asked for.
        label_column: the column of labels, where one was named.
    """
    parquet = pyarrow_parquet()
    import pyarrow as pa

    size, cure = size_of(path), "export it as a folder or as tar shards"
    most = max(BOMB_BYTES, BOMB_RATIO * size)
    try:
        with _fence(3 * most), parquet.ParquetFile(
            path, pre_buffer=False, page_checksum_verification=True
        ) as file:
            image, label, names = columns_of(
                file.schema_arrow, str(path), unit, label_column
            )
            split = split_column(file.schema_arrow.names, str(path)) if by_column else None
            taken = ([image] if with_pictures else []) + ([label] if label else [])
            if with_pictures:
                doubtful = _doubtful(file.schema_arrow) if by_column else []
                taken += [one for one in (unit, split, *doubtful) if one and one not in taken]
                require_memory(_unpacked(file), path, cure)
                refuse_bomb(_unpacked(file), size, str(path), cure)
            return file.read(columns=taken, use_threads=False), image, label, names, split
    except MemoryError:
        raise ValueError(
            f"{path} must unpack to at most {most / 2**20:.0f} MiB, it needs more: {cure}"
        ) from None
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise ValueError(f"{path} is damaged or truncated: {error}") from error


def _doubtful(schema: Any) -> list[str]:  # noqa: ANN401
    """Returns the columns of text whose values may be the words of splits, by their names."""
    import pyarrow as pa

    found = []
    for name, kind in ((one.name, one.type) for one in schema):
        kind = kind.value_type if pa.types.is_dictionary(kind) else kind
        text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
        found += [name] if text and may_tell_splits(name) else []
    return found


@contextmanager
def _fence(n_bytes: int) -> Iterator[None]:
    """Lets the process grow by at most ``n_bytes`` more, where the system can tell (Linux).

    What a page unpacks to stands in no header that pyarrow shows, and a dictionary repeats one
    value as often as it likes: Arrow gets an error from the system instead of the memory.
    """
    import pyarrow as pa

    statm, pool = Path("/proc/self/statm"), pa.default_memory_pool()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    if not statm.exists():
        yield
        return
    page = os.sysconf("SC_PAGE_SIZE")
    limit = int(statm.read_text().split()[0]) * page
    limit += min(n_bytes, page * os.sysconf("SC_PHYS_PAGES"))
    if soft != resource.RLIM_INFINITY:
        limit = min(limit, soft)
    pa.set_memory_pool(pa.system_memory_pool())  # the others set addresses aside beforehand
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        pa.set_memory_pool(pool)


def image_schema(class_names: tuple[str, ...]) -> Any:  # noqa: ANN401
    """Returns the Arrow schema by which Hugging Face `datasets` sees an Image and a ClassLabel."""
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
    """Returns encoded pictures and their labels as an Arrow table."""
    import pyarrow as pa

    rows = [{"bytes": data, "path": name} for data, name in zip(pictures, names, strict=True)]
    columns = [pa.array(rows, schema.field("image").type), pa.array(labels, pa.int64())]
    return pa.Table.from_arrays(columns, schema=schema)


def _unpacked(file: Any) -> int:  # noqa: ANN401
    """Returns the bytes of a file in memory, by its footer.

    It does not sum columns: on a damaged footer pyarrow's ``RowGroupMetaData.column`` ends the
    process.
    """
    metadata = file.metadata
    return sum(metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups))


def write_parquet(shard: Shard, pieces: Pieces) -> None:
    """Writes ``train-00000-of-00002.parquet``: `image` {bytes, path} and `label`, a ClassLabel."""
    schema = image_schema(shard.class_names)
    path = shard.folder / f"train-{shard.number:05d}-of-{shard.n_shards:05d}.parquet"
    start = shard.start
    with new_file(path) as file, pyarrow_parquet().ParquetWriter(file, schema) as writer:
        for pixels, labels in pieces:
            names = [f"{start + i:0{shard.digits}d}.png" for i in range(len(labels))]
            writer.write_table(picture_table(schema, map(encode_png, pixels), names, labels))
            start += len(labels)


def _require_pyarrow(class_names: tuple[str, ...]) -> None:
    pyarrow_parquet()


PARQUET = Format(
    (".parquet",), recognise, parquet_records, takes_value_range=True, takes_unit=True,
    whole_files=True, takes_label_column=True,
    writer=Writer(write_parquet, lambda raw: png_bytes(raw) + 64, check_fn=_require_pyarrow),
)  # fmt: skip
