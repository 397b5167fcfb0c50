"""Detectors of records that are not recognised, and of what is told of them before any noise."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dpgen.data.opening import open_images
from dpgen.data.private import PrivateDataset
from dpgen.data.sources import open_source
from dpgen.data.units import Units
from dpgen.images.classes import class_list
from dpgen.images.images import Images, PublicFacts, to_float
from dpgen.privacy.accounting.accountant import Budget
from dpgen.privacy.ledger.charges import n_runs
from dpgen.privacy.ledger.shared_ledger import OverlapError, OverlapRule
from dpgen.privacy.lineage.keys import StageKeys
from tests.mutations.lineage_detectors import PLAN, Private

N = 8
FACTS = PublicFacts((1, 2, 2), ("a",), N, origin="stated")
POOL = torch.randint(256, (2 * N, 1, 2, 2), generator=torch.Generator().manual_seed(0))


def begun(place: Path, run: str, first: int, overlap: OverlapRule) -> PrivateDataset:
    """A run on the images of the pool from the first one on."""
    pixels = POOL[first : first + N].to(torch.uint8)
    source = Private(pixels, torch.zeros(N, dtype=torch.int64), ("a",))
    data = PrivateDataset(source, facts=FACTS, overlap=overlap)
    data.open_ledger(Budget(2.0, 1e-5), place)
    data.begin(run, StageKeys(place / run), PLAN)
    return data


def shared(place: Path) -> str:
    """Records that another ledger holds are recognised: the run is refused, or charged there, too.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DPGEN_HOME", str(place / "home"))
        data = begun(place, "one", 0, "refuse")
        try:
            begun(place, "two", 1, "refuse")
        except OverlapError:
            pass
        else:
            return f"{N - 1} shared records get a fresh budget"
        begun(place, "three", 2, "charge")
        if n_runs(data.ledger.lines()) != 2:
            return f"{N - 2} shared records are not charged where they are known"
    return ""


def told_classes(place: Path) -> str:
    """What is declared of data that name no classes does not depend on their labels."""
    told = []
    for name, label in (("one", 1), ("other", 7)):
        labels = np.array([*(i % 2 for i in range(N - 1)), label])
        images: Any = POOL[:N].to(torch.uint8).permute(0, 2, 3, 1).numpy()
        (place / name).mkdir()
        np.savez(place / name / "data.npz", images=images, labels=labels)
        try:
            told.append(open_images(place / name / "data.npz").facts.class_names)
        except ValueError:
            told.append(class_list(1))  # nothing is told
    return "" if told[0] == told[1] else f"one label makes {len(told[1])} classes of {len(told[0])}"


def used_of_people(first: int) -> Counter[tuple[int, bytes]]:
    """Who has which records among those that are used, of the images from this one on: four of each
    person in the pool, at most two of which are used.
    """
    pixels = POOL[first:].to(torch.uint8)
    images = Images(to_float(pixels), torch.zeros(len(pixels), dtype=torch.int64))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ids = [f"{i // 4}" for i in range(first, len(POOL))]
        source = open_source(images, units=Units(ids, 2))
    whose = {row.numpy().tobytes(): i // 4 for i, row in enumerate(POOL.to(torch.uint8))}
    found = [row.numpy().tobytes() for row in source.read(range(len(source)))[0]]
    return Counter((whose[row], row) for row in found)


def people(place: Path) -> str:
    """No person has more records than the bound, and one more or less changes no others."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DPGEN_HOME", str(place / "home"))
        everyone, without = used_of_people(0), used_of_people(4)
    most = max(Counter(who for who, _ in everyone.elements()).values())
    if most > 2:
        return f"a person has {most} records among those that are used, the bound is 2"
    changed = sum(((everyone - without) + (without - everyone)).values())
    return "" if changed <= 2 else f"a person changes {changed} records, the bound is 2"


RECORDS: dict[str, Callable[[Path], str]] = {
    "shared records": shared, "classes": told_classes, "people": people,
}  # fmt: skip
