"""One file, one paper, one PrivateGenerator; and the table of all of them, imported when used."""

from __future__ import annotations

import importlib

from dpgen.settings import nearest

METHODS = {
    "dp-sad": "dpgen.methods.dp_sad:DPSAD",
    "dpdm": "dpgen.methods.dpdm:DPDM",
}


def find(method: str) -> type:
    """The class of a method id. Raises ValueError naming the nearest known id."""
    if method not in METHODS:
        raise ValueError(f"unknown method {method!r}: {nearest(method, list(METHODS))}")
    module, name = METHODS[method].split(":")
    return getattr(importlib.import_module(module), name)  # type: ignore[no-any-return]
