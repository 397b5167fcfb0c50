"""Marks of the images from which networks of this installation learned as public ones.

Whatever a network learned from an image without protection, no later charge covers: a data set that
holds such an image is not private any more. Marks are those of `dpgen.data.identity`, in a file of
their own beside the installation's key.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dpgen.data.identity import home, installation_key, marks_learned
from dpgen.data.sources import Source
from dpgen.privacy.ledger.marks import MarksFile, n_shared
from dpgen.storage.durable import held_alone


def _path() -> Path:
    return home() / "public.marks"


def note_public(marks: np.ndarray) -> None:
    """Notes images from which a network is about to learn as public ones; on disk on return.

    Args:
        marks: as `marks_learned` computes them, under the installation's key.
    """
    with held_alone(_path()):
        held = MarksFile(_path()).read()
        if held is None or n_shared(marks, held.all) < len(marks):
            MarksFile(_path()).add("", marks)


def require_never_public(source: Source) -> None:
    """Refuses private records that a network of this installation has learned from as public ones.
    Images are compared as decoded and as they are learned from; a near-duplicate is not found.

    Raises:
        ValueError: some have been, with their number, for the data's owner.
    """
    held = MarksFile(_path()).read()
    if held is None:
        return
    shared = n_shared(marks_learned(source, installation_key()), held.all)
    if shared:
        raise ValueError(
            f"{shared} different images of these data were declared public for an earlier run, "
            "whose network learned from them without protection: no charge can cover what it "
            "tells of them. Nothing was charged. Take data without them, or, where nothing of such "
            f"a run was kept, delete {_path()}"
        )
