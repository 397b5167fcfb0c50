"""Opens private images from any supported location."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dpgen.arguments import speaks_python
from dpgen.data.formats.location import Split
from dpgen.data.private import PrivateDataset
from dpgen.data.silos import SiloIds
from dpgen.data.sources import open_source
from dpgen.data.units import Units
from dpgen.images.classes import Classes, check_declared
from dpgen.images.images import PublicFacts
from dpgen.privacy.accounting.accountant import Adjacency, Budget
from dpgen.privacy.ledger.shared_ledger import OverlapRule


@speaks_python
def open_images(
    location: str | Path | Any,  # noqa: ANN401
    *,
    split: Split = "train",
    size: int | None = None,
    channels: int | None = None,
    value_range: tuple[float, float] | None = None,
    facts: PublicFacts | None = None,
    adjacency: Adjacency | None = None,
    max_records_per_unit: int | None = None,
    unit: str | Path | Sequence[str | int] | None = None,
    silo: str | Path | Sequence[str | int] | None = None,
    silos: Sequence[str | int] | None = None,
    max_records_per_silo: int | None = None,
    ledger: str | Path | None = None,
    limit: Budget | None = None,
    public: bool = False,
    overlap: OverlapRule = "refuse",
    classes: Classes | None = None,
    label_column: str | None = None,
) -> PrivateDataset:
    """Opens private images.

    Args:
        location: an embedded name (``digits``), a path to IDX, npz, Parquet, WebDataset or a folder
            of images, a zip archive or an address (``s3://...``) of these, a torch Dataset, a
            Hugging Face dataset, an `Images`, or arrays: ``X``, ``(X, y)`` or a dictionary as
            ``{"images": X, "labels": y}``. A numpy array is (N, H, W) or (N, H, W, C), a tensor
            (N, H, W) or (N, C, H, W); uint8, or floats with ``value_range``.
        split: which records: train, test, validation or all.
        size: short side and crop, in pixels, of data of mixed sizes.
        channels: 1 or 3 converts.
        value_range: (low, high) of float arrays; the window of grey pictures of more than 8 bits.
        unit: which person each record belongs to, so that at most ``max_records_per_unit`` of each
            are used: a column of Parquet or of metadata.csv or .jsonl, an array of an npz, a key of
            the JSON in tar shards; ``folder``, the folder that a picture lies in, as CLASS/PERSON/;
            a CSV file with the columns file_name and unit, of IDX index and unit; or, for data in
            memory, one id per record. Without it that bound is declared and not checked.
        silo: which silo (hospital, branch) each record is of, in the forms of ``unit``: each silo
            is then a shard with a teacher of its own, in methods that ask teachers of shards (dpsd,
            dgd). In folders ``folder`` reads CLASS/SILO/, and ``top-folder`` reads SILO/CLASS/.
            Epsilon still protects a record, or a person.
        silos: the ids of all silos, also of those without records. Unless given, those that the
            data name. Either way they are declared public, as the list of classes is.
        max_records_per_silo: the most records of a silo that its teacher sees, needed with
            ``silo``. It is public: choose it without counting, as from the size of a silo that is
            known anyway. Which records are left out follows from a secret key.
        facts, adjacency, max_records_per_unit, ledger, limit, public, overlap: as for
            `PrivateDataset`.
        classes: number of classes, or their names, for data with labels that do not state them
            (IDX, an npz without class_names, tensors). The facts may name them instead. They are
            published, so they are never counted in the labels; a label beyond them is an error.
        label_column: column of metadata.csv or .jsonl, of Parquet or of a Hugging Face dataset, or
            key of the JSON in tar shards, that holds the labels; needed where two are named like
            labels, or none is.

    Raises:
        ValueError: the data or an argument are refused; the message says why and what to do.
        FileNotFoundError: there is nothing at ``location``.
    """
    if classes is not None and facts is not None:
        check_declared(classes, facts.class_names, name="the facts")
    source = open_source(
        location, split=split, size=size, channels=channels, value_range=value_range,
        classes=classes if facts is None else None,
        else_classes=None if facts is None else facts.class_names,
        units=_units(unit, max_records_per_unit, facts),
        silos=silo_ids(silo, silos, max_records_per_silo), label_column=label_column,
    )  # fmt: skip
    return PrivateDataset(
        source,
        facts=facts,
        adjacency=adjacency,
        max_records_per_unit=max_records_per_unit,
        ledger=Path(ledger) if ledger else None,
        limit=limit,
        public=public,
        overlap=overlap,
        classes_declared=source.classes_declared,
        counted=source.max_records_per_unit,
    )


def _units(
    unit: str | Path | Sequence[str | int] | None, most: int | None, facts: PublicFacts | None
) -> Units | None:
    """Returns the units to count; None without unit ids. Raises ValueError where no bound on their
    records is given: facts that do not mention one are of single records.
    """
    if unit is None:
        return None
    if most is None and (facts is None or facts.max_records_per_unit == 1):
        raise ValueError(
            "--unit needs --max-records-per-unit M, the most records of a person that are used "
            "(unit= and max_records_per_unit= in Python): 1 costs least and uses least"
        )
    if most is None and facts is not None:
        most = facts.max_records_per_unit
    return Units(unit, most)


def silo_ids(
    silo: str | Path | Sequence[str | int] | None,
    silos: Sequence[str | int] | None,
    most: int | None,
) -> SiloIds | None:
    """Returns the silos to read; None where none are asked for. Raises ValueError where no bound on
    their records is given, or a bound or names without silo ids.
    """
    if silo is None:
        if silos is not None or most is not None:
            raise ValueError(
                "--silos and --max-records-per-silo are of silos: say with --silo where it is "
                "written which silo each record is of"
            )
        return None
    if most is None:
        raise ValueError(
            "--silo needs --max-records-per-silo M, the most records of a silo that its teacher "
            "sees. M is published, so it is declared and never counted: name a number that is "
            "known of your silos anyway"
        )
    return SiloIds(silo, most, silos)
