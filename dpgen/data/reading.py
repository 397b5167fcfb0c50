"""Finds the records of a location, of any supported format, before a picture is decoded."""

from __future__ import annotations

import difflib
from pathlib import Path

from dpgen.data.formats.digits import digits_records
from dpgen.data.formats.location import Split
from dpgen.data.formats.objects import images_records, object_records
from dpgen.data.formats.recognition import locate
from dpgen.data.formats.records import Records, refuse_value_range
from dpgen.data.formats.table import find
from dpgen.data.places import place_of
from dpgen.data.remote import is_address
from dpgen.images.images import Images

EMBEDDED = ("digits",)


def read_records(
    location: object,
    split: Split,
    value_range: tuple[float, float] | None,
    classes: tuple[str, ...] | None,
    unit: str | Path | None = None,
    label_column: str | None = None,
    id_name: str = "unit",
) -> Records:
    """Finds the records of a location with their labels; pictures are not decoded yet.

    Arguments as for `open_source`, ``classes`` by name, ``unit`` as `Units.place`; ``id_name`` is
    the column of ids in a CSV file.
    """
    if unit is not None and (not isinstance(location, str | Path) or location in EMBEDDED):
        raise ValueError(
            f"unit ids are read of files and folders, got data in memory with --unit {unit}: give "
            "one id per record, as unit=[...] in Python"
        )
    if label_column is not None and (isinstance(location, Images) or location in EMBEDDED):
        raise ValueError(f"the data have no columns: leave --label-column {label_column} out")
    if isinstance(location, Images):
        return images_records(location, value_range, classes)
    if not isinstance(location, (str, Path)):
        return object_records(location, split, value_range, classes, label_column)
    if location in EMBEDDED:
        refuse_value_range(value_range, "digits")
        return digits_records(split)
    if not is_address(str(location)) and not Path(location).exists():
        near = difflib.get_close_matches(str(location), EMBEDDED, n=1)
        hint = (
            f"did you mean {near[0]!r}?"
            if near
            else f"name a file, a folder, or {EMBEDDED[0]!r}, the embedded set"
        )
        raise FileNotFoundError(f"no data at {str(location)!r}: {hint}")
    place = place_of(location)

    def read() -> Records:
        located = locate(place.path, split, unit, label_column, id_name)
        form = find(located.kind)
        form.check_named(located)
        if not form.takes_value_range:
            refuse_value_range(value_range, located.kind)
        return form.read_fn(located, value_range, classes)

    return place.telling_records(place.telling(read))
