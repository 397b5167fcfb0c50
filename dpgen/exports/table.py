"""The table of libraries that a run can be exported to. A target is one file and one row here.

The table holds names only, so that the command line can list them without loading a library.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from dpgen.generator.fitted import Fitted
    from samplers import Sampler

    WriteFn = Callable[[Fitted, str | None, Sampler | None, Path], None]


class Row(NamedTuple):
    """A target.

    home: module and name of its writer, which gets a fitted generator, the names of a released
        network and of a sampler, None for its own choice, and an empty folder.
    described: what it writes, for a help text.
    """

    home: str
    described: str


EXPORTS: Mapping[str, Row] = {
    "diffusers": Row(
        "dpgen.exports.diffusers:export",
        "a UNet2DModel, what stands beside it, and a README with code that draws from them",
    ),
    "onnx": Row(
        "dpgen.exports.onnx:export", "the private classifier that a run of dpdfd releases"
    ),
}


def writer(target: str) -> WriteFn:
    """Returns the writer of a target, a key of `EXPORTS`."""
    module, name = EXPORTS[target].home.split(":")
    found: WriteFn = getattr(importlib.import_module(module), name)
    return found
