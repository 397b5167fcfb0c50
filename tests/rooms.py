"""Rooms of the package and who imports whom: read off the source, nothing is imported.

A room is a folder with files in it, or a module beside them at the top of ``dpgen``. Its name is
the dotted path without ``dpgen.``; "samplers" is the other package.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple


class Import(NamedTuple):
    """One import statement's target.

    Fields: dotted name of what is imported; whether it happens when the module is loaded.
    """

    target: str
    at_module_level: bool


def modules(root: Path) -> dict[str, Path]:
    """The files of both packages, by dotted name."""
    found = {}
    for package in ("dpgen", "samplers"):
        for path in sorted((root / package).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def room(module: str, known: Mapping[str, Path]) -> str:
    """The room of a module: "samplers", "privacy.ledger", "progress"; "" for the package itself."""
    if module.split(".")[0] == "samplers":
        return "samplers"
    if module == "dpgen.__main__":
        return ""
    if known[module].name != "__init__.py" and module.count(".") > 1:
        module = module.rpartition(".")[0]
    return module.removeprefix("dpgen").removeprefix(".")


def imports(path: Path, known: Mapping[str, Path]) -> Iterator[Import]:
    """What a file imports of the two packages, modules in full; not what types alone need."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing_only = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and getattr(block.test, "id", "") == "TYPE_CHECKING"
        for node in ast.walk(block)
    }
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.ImportFrom) and node.module:
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name in known else node.module for name in inner]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        for name in dict.fromkeys(names):
            if name.split(".")[0] in ("dpgen", "samplers"):
                yield Import(name, node in tree.body)


def arrows(root: Path, *, late: bool = True) -> dict[str, dict[str, int]]:
    """By room, how often its files import from each other room.

    Args:
        late: count imports inside functions, too.
    """
    known = modules(root)
    found: dict[str, dict[str, int]] = {}
    for module, path in known.items():
        here = room(module, known)
        row = found.setdefault(here, {})
        for one in imports(path, known):
            there = room(one.target, known) if one.target in known else ""
            if there not in (here, "") and (late or one.at_module_level):
                row[there] = row.get(there, 0) + 1
    return found


def floors(table: Mapping[str, Mapping[str, object]]) -> list[list[str]]:
    """Rooms by floor: every room lies above all rooms that it imports.

    Raises:
        ValueError: there is a circle.
    """
    left, found = {name: set(row) for name, row in table.items()}, []
    while left:
        ready = sorted(name for name, row in left.items() if not row & left.keys())
        if not ready:
            raise ValueError(f"rooms import each other in a circle: {', '.join(sorted(left))}")
        found.append(ready)
        for name in ready:
            del left[name]
    return found
