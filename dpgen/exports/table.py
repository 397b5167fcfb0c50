"""The table of libraries that a run can be exported to. A target is one file and one row here.

The table holds names only, so that the command line can list them without loading a library.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from dpgen.exports.model import Model

WriteFn = Callable[[Model, Path], None]


class Row(NamedTuple):
    """A target.

    home: module and name of its writer, which gets the model and an empty folder.
    described: what it writes, for a help text.
    """

    home: str
    described: str


EXPORTS: Mapping[str, Row] = {
    "diffusers": Row(
        "dpgen.exports.diffusers:write",
        "a UNet2DModel, what stands beside it, and a README with code that draws from them",
    ),
}


def writer(target: str) -> WriteFn:
    """Returns the writer of a target, a key of `EXPORTS`."""
    module, name = EXPORTS[target].home.split(":")
    found: WriteFn = getattr(importlib.import_module(module), name)
    return found
