"""Data sets as files: IDX, npz, PNG, JPEG, tar, Parquet and the list of classes."""

from __future__ import annotations

import gzip
import io
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from dpgen.data.sources import Source, open_source
from tests.hostile.formats import Format, as_json, packed, plain, tabled

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 1), dtype=np.uint8)
LABELS = np.array([0, 1, 2, 0, 1, 2])
CLASSES = ("0", "1", "2")  # of data that do not say



def legal(source: Source) -> None:
    """Fails unless every record is what the package promises of one."""
    channels, height, width = source.shape
    assert channels in (1, 3) and height > 0 and width > 0 and len(source) > 0
    pixels, labels = source.read(range(len(source)))
    assert pixels.dtype == torch.uint8 and pixels.shape == (len(source), *source.shape)
    assert labels.dtype == torch.int64 and labels.shape == (len(source),)
    assert 0 <= int(labels.min()) <= int(labels.max()) < len(source.class_names)
    assert all(isinstance(name, str) and name for name in source.class_names)
    for raw, label in source.raw_records():
        assert raw.dtype == np.uint8 and raw.ndim == 3 and raw.shape[2] in (1, 3)
        assert type(label) is int


def data_file(
    name: str, value_range: tuple[float, float] | None = None, **others: bytes
) -> Callable[[bytes, Path], None]:
    """Reads a data set of one mutated file and some that are as they should be."""

    def judge(content: bytes, folder: Path) -> None:
        for other, whole in {**others, name: content}.items():
            (folder / other).parent.mkdir(parents=True, exist_ok=True)
            (folder / other).write_bytes(whole)
        legal(open_source(folder, value_range=value_range, else_classes=CLASSES))

    return judge


def idx(array: np.ndarray) -> bytes:
    return bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + (
        array.astype(np.uint8).tobytes()
    )


def gunzipped(content: bytes) -> bytes:
    return gzip.compress(content, 1, mtime=0)


def array_file(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def archive(name: str, method: int, **others: np.ndarray) -> Callable[[bytes], bytes]:
    """Puts one array's bytes into an archive, beside arrays that are as they should be."""

    def envelope(content: bytes) -> bytes:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", method) as whole:
            for member, data in {k: array_file(v) for k, v in others.items()}.items():
                whole.writestr(zipfile.ZipInfo(f"{member}.npy"), data, method)
            whole.writestr(zipfile.ZipInfo(f"{name}.npy"), content, method)
        return buffer.getvalue()

    return envelope


def picture(array: np.ndarray, kind: str, **options: Any) -> bytes:  # noqa: ANN401
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, kind, **options)
    return buffer.getvalue()


def with_checksums(content: bytes) -> bytes:
    """A PNG whose chunks' checksums are made to fit, as far as there are chunks."""
    data, at = bytearray(content), 8
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4])
        if at + 12 + length > len(data):
            break
        check = zlib.crc32(data[at + 4 : at + 8 + length])
        data[at + 8 + length : at + 12 + length] = check.to_bytes(4)
        at += 12 + length
    return bytes(data)


def shard() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as whole:
        for i, label in enumerate(LABELS[:3]):
            key = f"{i}" * (1 + 120 * (i == 2))  # one name is too long for a plain header
            for suffix, data in (
                ("png", picture(PIXELS[i, ..., 0], "PNG")),
                ("json" if i else "cls", as_json({"label": int(label)}) if i else b"0"),
            ):
                info = tarfile.TarInfo(f"{key}.{suffix}")
                info.size = len(data)
                whole.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def with_sums(content: bytes) -> bytes:
    """A tar file whose headers' checksums are made to fit, as far as blocks look like headers."""
    data = bytearray(content)
    for at in range(0, len(data) - 511, 512):
        if data[at + 257 : at + 262] == b"ustar":
            data[at + 148 : at + 156] = b" " * 8
            data[at + 148 : at + 156] = b"%06o\0 " % sum(data[at : at + 512])
    return bytes(data)


def table() -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from dpgen.data.formats.parquet import image_schema, picture_table

    buffer, schema = pa.BufferOutputStream(), image_schema(("a", "b", "c"))
    encoded = [picture(p[..., 0], "PNG") for p in PIXELS]
    with pq.ParquetWriter(buffer, schema) as writer:
        writer.write_table(picture_table(schema, encoded, [str(i) for i in range(6)], LABELS))
    return bytes(buffer.getvalue())


def dicom(pixels: np.ndarray) -> bytes:
    """A DICOM file of one grey image of 8 bits."""
    import pydicom

    file = pydicom.Dataset()
    file.file_meta = pydicom.dataset.FileMetaDataset()
    file.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    file.file_meta.MediaStorageSOPClassUID = file.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    file.file_meta.MediaStorageSOPInstanceUID = file.SOPInstanceUID = "1.2.3"
    file.Rows, file.Columns = pixels.shape
    file.BitsAllocated, file.BitsStored, file.HighBit = 8, 8, 7
    file.SamplesPerPixel, file.PixelRepresentation = 1, 0
    file.PhotometricInterpretation = "MONOCHROME2"
    file.add_new("PixelData", "OB", pixels.tobytes())
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, file, enforce_file_format=True)
    return buffer.getvalue()


def image_formats() -> list[Format]:
    """Data sets, by their files."""
    grey, colour = PIXELS[0, ..., 0], np.repeat(PIXELS[1], 3, axis=2)
    labels = {"train-labels-idx1-ubyte": idx(LABELS)}
    floats = (PIXELS / 255).astype(np.float32)
    names = np.array(["a", "b", "c"])
    forms = [
        plain("idx", idx(PIXELS[..., 0]), data_file("train-images-idx3-ubyte", None, **labels)),
        plain(
            "idx labels",
            idx(LABELS),
            data_file(
                "train-labels-idx1-ubyte",
                None,
                **{"train-images-idx3-ubyte": idx(PIXELS[..., 0])},
            ),
        ),
        *packed(
            "idx.gz",
            idx(PIXELS[..., 0]),
            gunzipped,
            data_file("train-images-idx3-ubyte.gz", None, **labels),
        ),
        *packed(
            "npz stored",
            array_file(PIXELS),
            archive("images", zipfile.ZIP_STORED, labels=LABELS),
            data_file("a.npz"),
        ),
        *packed(
            "npz deflated floats",
            array_file(floats),
            archive("images", zipfile.ZIP_DEFLATED, labels=LABELS, class_names=names),
            data_file("a.npz", (0.0, 1.0)),
        ),
        *packed(
            "npz labels",
            array_file(LABELS),
            archive("labels", zipfile.ZIP_DEFLATED, images=PIXELS),
            data_file("a.npz"),
        )[1:],
        *packed(
            "npz class names",
            array_file(names),
            archive("class_names", zipfile.ZIP_STORED, images=PIXELS, labels=LABELS),
            data_file("a.npz"),
        )[1:],
        *packed("png", picture(grey, "PNG"), with_checksums, data_file("a/0.png")),
        *(
            plain(kind.lower(), picture(colour, kind), data_file("a/0.bin"))
            for kind in ("BMP", "GIF", "TIFF", "WEBP", "PPM")
        ),
        plain(
            "tiff, 16 bits", picture(grey.astype(np.uint16) * 257, "TIFF"),
            data_file("a/0.tif", (0, 65535)),
        ),
        plain("dicom", dicom(grey), data_file("a/0.dcm", (0, 255))),
        plain("jpeg", picture(colour, "JPEG"), data_file("a/0.jpg")),
        plain(
            "jpeg, progressive",
            picture(colour, "JPEG", progressive=True),
            data_file("a/0.jpg"),
        ),
        *packed("tar", shard(), with_sums, data_file("a.tar")),
        plain("class list", as_json({"schema": "dpgen-dataset/1", "class_names": ["b", "a"]}),
              data_file("dataset.json", None, **{"a/0.png": picture(grey, "PNG")})),
        tabled("class list, within", {"schema": "dpgen-dataset/1", "class_names": ["b", "a"]},
               as_json, data_file("dataset.json", None, **{"a/0.png": picture(grey, "PNG")})),
    ]  # fmt: skip
    try:
        return [*forms, *packed("parquet", table(), bytes, data_file("a.parquet"), True)[:1]]
    except ImportError:
        return forms
