"""Opens images that are declared public, from which a network may learn before the private stages,
and refuses those that are private here.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dpgen.arguments import as_typed
from dpgen.data.account import AccountedData
from dpgen.data.identity import installation_key, known_ledgers, marks_learned
from dpgen.data.places import place_of
from dpgen.data.private import PrivateDataset
from dpgen.data.reading import EMBEDDED
from dpgen.data.sources import RecordSource, Source, open_source
from dpgen.images.classes import MAX_CLASSES, Classes, class_list
from dpgen.images.facts import PublicFacts
from dpgen.images.public_images import PublicImages
from dpgen.privacy.statements.outside import stated_folder


@dataclass(frozen=True)
class PublicSource:
    """Public images as they were opened.

    Args:
        source: the images, of the shape of the private ones.
        name: their name, as a certificate states it.
    """

    source: Source
    name: str

    def images(self) -> PublicImages:
        """Reads all images into memory, as uint8."""
        pixels, labels = self.source.read(range(len(self.source)))
        n = int(labels.max()) + 1
        names = self.source.class_names
        # Numbered classes are counted here: these labels are public.
        return PublicImages(self.name, pixels, labels, names[:n] if len(names) > n else names)


def open_public(
    location: str | Path | Any,  # noqa: ANN401
    facts: PublicFacts,
    *,
    value_range: tuple[float, float] | None = None,
    classes: Classes | None = None,
) -> PublicSource:
    """Opens public images of any format that the private ones may have, all splits of them, resized
    and converted to the shape of the private ones.

    Args:
        location: as for `dpgen.data.opening.open_images`, or a `PublicSource`. Labels need no names
            if they are numbers, and may be missing.
        facts: public facts of the private records.
        value_range: (low, high) of float arrays and of grey pictures of more than 8 bits.
        classes: number or names of the classes of labels that the data do not name.

    Raises:
        ValueError: the images are refused, lie in a run or a synthetic set, or cannot have the
            shape of the private ones.
        FileNotFoundError: there is nothing at ``location``.
    """
    if isinstance(location, PublicSource):
        opened = location
    elif isinstance(location, PrivateDataset):
        raise ValueError(
            "public images must be given by their location, got a PrivateDataset: what was opened "
            "as private is not read as public"
        )
    else:
        source = _read(location, facts.shape, value_range, classes)
        name = f"{source.kind} in memory"
        if isinstance(location, str | Path):  # a folder may be typed as "."
            name = Path(location).name or Path(location).resolve().name or str(location)
            _require_unstated(location, name)
        opened = PublicSource(source, name)
    if opened.source.shape != facts.shape:
        raise ValueError(
            f"public images must have the shape of the private ones, {facts.shape}, got "
            f"{opened.source.shape}: where that is no square, resize them beforehand"
        )
    return opened


def _require_unstated(location: str | Path, name: str) -> None:
    """Refuses a run, a set that was drawn from one, and files in either."""
    if location not in EMBEDDED and stated_folder(place_of(location).path) is not None:
        raise ValueError(
            f"public images must depend on no private records, {name!r} has a privacy statement "
            "(or a notice, or lies beside one): it was drawn from a model of some, and no "
            "guarantee would cover what is learned from it here. Take other public images"
        )


def _read(
    location: Any,  # noqa: ANN401
    shape: tuple[int, int, int],
    value_range: tuple[float, float] | None,
    classes: Classes | None,
) -> RecordSource:
    depth, height, width = shape

    def read(names: tuple[str, ...] | None) -> RecordSource:
        return open_source(
            location,
            size=height if height == width else None,
            channels=depth if depth in (1, 3) else None,
            value_range=value_range,
            else_classes=names,
        )

    try:
        if classes is not None:
            return read(class_list(classes))
        try:
            with warnings.catch_warnings():  # so many classes are only the most that there can be
                warnings.filterwarnings("ignore", message=".*declared classes have no record")
                return read(class_list(MAX_CLASSES))
        except ValueError:
            return read(None)  # whose message does not list all of these numbers
    except ValueError as error:
        raise ValueError(f"public images: {as_typed(error)}") from None


def require_public(public: PublicSource, data: AccountedData) -> np.ndarray:
    """Refuses public images that are among the private records, or among those of another ledger of
    this installation. Images are compared as decoded, and as they are learned from after the public
    resize, as `dpgen.data.identity.overlap` recognises them: a near-duplicate is not found. The
    records of another ledger are known as decoded.

    The refusal says how many images are in both, without noise, and so does whether a run begins.
    Only the data's owner sees either, before anything is charged, read for training or written;
    every statement says that it covers neither.

    Returns:
        The marks of the images, as `dpgen.data.identity.marks_learned` computes them, by which the
        installation knows later that they were public.

    Raises:
        ValueError: an image is in both.
    """
    shared = data.n_shared_with(public.source)
    if shared:
        raise ValueError(
            f"{shared} different images of {public.name!r} are private records of these data, and "
            "what is learned from them as public is not protected: nothing was charged. Take other "
            "public images. Do not take only these out: which ones are left out would tell who is "
            "among the records"
        )
    return require_unknown(public)


def require_unknown(public: PublicSource) -> np.ndarray:
    """Refuses public images that are among the private records of a ledger of this installation,
    which are known as decoded; returns the marks of the images, as `require_public` does.
    """
    marks = marks_learned(public.source, installation_key())
    # The data set's own ledger, too: it may hold marks of records that have since left the data.
    for other in known_ledgers().sharing(marks, own=None):
        raise ValueError(
            f"{public.name!r} must hold no private records of this installation: {other}. Take "
            "other public images; do not take only these out, which would tell who is among the "
            "records. Nothing was charged"
        )
    return marks
