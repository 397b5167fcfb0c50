"""Sources: records of any supported format behind one interface, uint8, in a fixed order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, get_args, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from dpgen.data.formats.location import Split
from dpgen.data.formats.pictures import fit_picture
from dpgen.data.formats.records import Records, check_value_range, warn_of_dim
from dpgen.data.formats.refusals import Refusals, SetRefused
from dpgen.data.noted_records import NotedRecords
from dpgen.data.reading import read_records
from dpgen.data.silos import SiloIds, in_silos
from dpgen.data.units import Units, counted
from dpgen.images.classes import Classes, check_declared, class_list
from dpgen.images.images import Images, to_float
from dpgen.privacy.mechanisms.silos import Silos
from dpgen.privacy.statements.certificate import PART, whole_needed

if TYPE_CHECKING:
    from torch.utils.data import Dataset

CACHE_BYTES = 2**30  # sets up to this size are cached; larger ones are decoded at every read


@runtime_checkable
class Source(Protocol):
    """Records of one data set, all of one shape, in a fixed order.

    kind: the format of the data.
    shape: (C, H, W) of the records that ``read`` returns.
    class_names: one name per class, in label order; ``("all",)`` without classes.
    public: True only for the embedded data sets.
    """

    @property
    def kind(self) -> str: ...

    @property
    def shape(self) -> tuple[int, int, int]: ...

    @property
    def class_names(self) -> tuple[str, ...]: ...

    @property
    def public(self) -> bool: ...

    def __len__(self) -> int:
        """Returns the number of records."""

    def read(self, indices: Sequence[int] | np.ndarray) -> tuple[Tensor, Tensor]:
        """Reads records by position, (B,): pixels uint8 (B, C, H, W) after the public resize, and
        labels int64 (B,).
        """

    def raw_records(self) -> Iterator[tuple[np.ndarray, int]]:
        """Yields every record as decoded, uint8 (H, W, C) before any resize, with its label."""


def open_source(
    location: str | Path | Dataset[Any] | Images,
    *,
    split: Split = "all",
    size: int | None = None,
    channels: int | None = None,
    value_range: tuple[float, float] | None = None,
    classes: Classes | None = None,
    else_classes: tuple[str, ...] | None = None,
    units: Units | None = None,
    silos: SiloIds | None = None,
    label_column: str | None = None,
) -> RecordSource:
    """Opens a data set and decodes every record once, so that bad data fail early.

    Args:
        location: the name ``digits``, a path (``./digits`` is a path) or a zip archive, an address
            (``s3://...``), an ``Images``, a torch ``Dataset`` of (image, label) or image, or a
            Hugging Face dataset. Archives and addresses are copied for the time of the process, as
            `dpgen.data.copies` says.
        split: which records; data without splits serve as ``train`` and as ``test``.
        size: resizes the short side to this many pixels (antialiased bicubic) and crops the centre
            square; None leaves records as they are.
        channels: converts to 1 or 3 channels; None leaves records as they are.
        value_range: (low, high), black and white in float arrays and in grey pictures of more than
            8 bits, in which it is a window; uint8 data refuse it.
        classes: number of classes, or their names, where the data have labels and do not state
            them; they are never counted in the labels.
        else_classes: names to use where ``classes`` is None and the data do not state them: those
            of a facts file, or of the sets that the data are compared with.
        units: which person each record belongs to, and the most of each that are kept; None keeps
            all.
        silos: which silo each record is of, and what is declared of the silos; None for none.
        label_column: column or key of the labels, where two are named like labels or none is.
    """
    if split not in get_args(Split):
        raise ValueError(f"split must be train, test, validation or all, got {split!r}")
    if size is not None and (isinstance(size, bool) or not isinstance(size, int) or size < 1):
        raise ValueError(f"size must be a whole number of pixels of at least 1, got {size!r}")
    if channels not in (None, 1, 3):
        raise ValueError(f"channels must be 1 or 3, got {channels!r}")
    check_value_range(value_range)
    if isinstance(location, (str, Path)) and (Path(location) / PART).is_file():
        raise ValueError(whole_needed(Path(location)))
    declared = else_classes if classes is None else class_list(classes)
    place = None if units is None else units.place

    def read(ids: str | Path | None, name: str = "unit") -> Records:
        return read_records(location, split, value_range, declared, ids, label_column, name)

    records, found = (read(place), None) if silos is None else in_silos(read, silos, place)
    if classes is not None and not records.classes_declared:
        check_declared(classes, records.class_names, name=f"the {records.kind} data")
    if units is not None:
        records = counted(records, units, location)
    source = RecordSource(records, size, channels, found)
    if records.pixels is None and (extremes := source.extremes()):
        name = str(location) if isinstance(location, str | Path) else f"the {records.kind} data"
        warn_of_dim(*extremes, name, value_range)
    return source


def read_images(
    location: str | Path | Dataset[Any] | Images,
    *,
    split: Split = "all",
    size: int | None = None,
    channels: int | None = None,
    value_range: tuple[float, float] | None = None,
    classes: Classes | None = None,
) -> Images:
    """Reads a whole set as ``Images``, for public use; arguments as ``open_source``."""
    source = open_source(
        location, split=split, size=size, channels=channels, value_range=value_range,
        classes=classes,
    )  # fmt: skip
    pixels, labels = source.read(range(len(source)))
    return Images(to_float(pixels), labels)


class RecordSource:
    """The ``Source`` over any reader's records.

    Guarantees: every record was decoded once at construction, so ``read`` fails only if files
    change or vanish. Sets of at most 1 GiB are cached; larger ones are decoded at every read, and
    each record is then compared with the one that `raw_records` last gave, by which a data set is
    identified and charged.

    Args:
        records: the records of a reader.
        size: side of the square, in pixels, or None.
        channels: 1, 3 or None.
        silos: the silos that the records are of; None for none.
    """

    def __init__(
        self, records: Records, size: int | None, channels: int | None, silos: Silos | None = None
    ) -> None:
        self.kind, self.public, self.class_names = records.kind, records.public, records.class_names
        self.classes_declared, self.passed_over = records.classes_declared, records.passed_over
        self.units, self.uncounted = records.units, records.uncounted
        self.max_records_per_unit = records.max_records_per_unit  # None: they were not counted
        self.silos = silos
        self._silo_of = None if silos is None else silos.numbers(records.silos or ())
        self._records, self._size, self._channels = records, size, channels
        self.shape = (0, 0, 0)  # until a record is read
        self._unchanged = True  # read returns every record as it was decoded
        self._cache: np.ndarray | None = None
        self._noted = NotedRecords(len(records.labels))  # used where they are not cached
        if records.pixels is not None:  # all of one shape, and decoded
            self._take(0)
            if self._unchanged:
                self._cache = records.pixels
                return
        refusals = Refusals()
        for i in range(len(records.labels)):
            with refusals.noting():
                self._take(i)
            if refusals.all_refused:
                break
        refusals.check()

    def _take(self, index: int) -> None:
        """Decodes a record; the first one that can be read gives the shape of all."""
        raw = self._records.decode_fn(index)
        fitted = self._fitted(raw, index)
        if not all(self.shape):
            height, width, depth = fitted.shape
            self.shape = (depth, height, width)
            if len(self) * fitted.size <= CACHE_BYTES:
                self._cache = np.empty((len(self), *fitted.shape), np.uint8)
        self._check_shape(fitted, index)
        self._unchanged &= fitted is raw
        if self._cache is not None:
            self._cache[index] = fitted

    def extremes(self) -> tuple[int, int] | None:
        """Returns the extreme pixels, in 0..255; None for a set that is too large to be held."""
        return None if self._cache is None else (int(self._cache.min()), int(self._cache.max()))

    def __len__(self) -> int:
        return len(self._records.labels)

    def read(self, indices: Sequence[int] | np.ndarray) -> tuple[Tensor, Tensor]:
        """Reads records by position, (B,): pixels uint8 (B, C, H, W) and labels int64 (B,); B may
        be 0. Raises IndexError for a position out of range.
        """
        chosen = np.asarray(indices)
        if chosen.ndim != 1 or (chosen.size and chosen.dtype.kind not in "iu"):
            raise ValueError(
                f"indices must be whole numbers, (B,), got {chosen.dtype} {chosen.shape}"
            )
        chosen = chosen.astype(np.int64)
        if chosen.size and not 0 <= chosen.min() <= chosen.max() < len(self):
            raise IndexError(
                f"indices must lie in 0..{len(self) - 1}, got {chosen.min()}..{chosen.max()}"
            )
        depth, height, width = self.shape
        if self._cache is not None:
            pixels = np.asarray(self._cache[chosen])
        else:
            pixels = np.empty((len(chosen), height, width, depth), np.uint8)
            for position, index in enumerate(chosen.tolist()):
                raw = self._records.decode_fn(index)
                self._noted.check(index, raw)
                fitted = self._fitted(raw, index)
                self._check_shape(fitted, index)
                pixels[position] = fitted
        batch = torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()
        return batch, torch.from_numpy(self._records.labels[chosen])

    def silo_of(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Returns the number of the silo of each of these records, (B,) int64. Raises TypeError
        where the data were opened without silos.
        """
        if self._silo_of is None:
            raise TypeError("these records were opened without silos")
        return np.asarray(self._silo_of[np.asarray(indices, dtype=np.int64)])

    def raw_records(self) -> Iterator[tuple[np.ndarray, int]]:
        """Yields every record as decoded, uint8 (H, W, C), with its label, in order.

        Raises ValueError for a record that is not the one that ``read`` returns: its file changed
        since it was opened, and its identity would not be that of the records that are read.
        """
        for i, label in enumerate(self._records.labels.tolist()):
            if self._cache is not None and self._unchanged:
                yield np.asarray(self._cache[i]), label
                continue
            raw = self._records.decode_fn(i)
            if self._cache is not None:
                fitted = self._fitted(raw, i)
                if not np.array_equal(fitted, self._cache[i]):
                    raise ValueError(
                        f"{self._records.name_fn(i)} changed since it was opened: open the data "
                        "again"
                    )
            else:
                self._noted.note(i, raw)
            yield raw, label

    def _fitted(self, raw: np.ndarray, index: int) -> np.ndarray:
        return fit_picture(raw, self._size, self._channels, self._records.name_fn(index))

    def _check_shape(self, pixels: np.ndarray, index: int) -> None:
        height, width, depth = pixels.shape
        if (depth, height, width) == self.shape:
            return
        name = self._records.name_fn(index)
        if depth != self.shape[0]:
            raise SetRefused(
                f"{name} must have {self.shape[0]} channels like the first record, got {depth}: "
                "use --channels 1 or 3"
            )
        raise SetRefused(
            f"{name} must be {self.shape[1]}x{self.shape[2]} like the first record, got "
            f"{height}x{width}: give all one size with --size"
        )
